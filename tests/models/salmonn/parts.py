"""The published parts of SALMONN and TimeAudio, small: folders and pickled files as they are on the hub."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, WhisperFeatureExtractor

from tests.models.salmonn.released import BEATS, ORACLES, reference, settings, weights

_LLAMA = "llama_model.base_model.model."
KEYS = {"salmonn": "salmonn_keys", "timeaudio": "timeaudio_keys_stage1"}


def write_parts(family: str, folder: Path) -> dict[str, Path]:
    """Write the four parts; a Whisper with its decoder, a BEATs with its head, a vocabulary without added tokens."""
    given = weights(family)
    if family == "timeaudio":
        table = torch.zeros(768, 56)
        table[:120] = reference(family, "prompt_36s")["time_table_first120"]
        given["abs_time_position_embedding"] = table
    trained = set(json.loads((ORACLES / family / f"{KEYS[family]}.json").read_text())["trainable"])
    parts = {name: folder / name for name in ("llama", "whisper")}
    for path in parts.values():
        path.mkdir(parents=True)
    llama = {
        name.removeprefix(_LLAMA).replace(".base_layer", ""): value[:600].contiguous()
        for name, value in given.items()
        if name.startswith(_LLAMA) and "lora" not in name and not name.endswith("inv_freq")
    }
    save_file(llama, parts["llama"] / "model.safetensors", {"format": "pt"})
    (parts["llama"] / "config.json").write_text(json.dumps(settings(family, "llama") | {"vocab_size": 600}))
    AutoTokenizer.from_pretrained(ORACLES / "tokenizer").save_pretrained(parts["llama"])
    whisper = {
        name.replace("speech_encoder.", "model.encoder."): value
        for name, value in given.items()
        if name.startswith("speech_encoder.")
    }
    torch.save(whisper | {"model.decoder.layer_norm.bias": torch.zeros(32)}, parts["whisper"] / "pytorch_model.bin")
    (parts["whisper"] / "config.json").write_text(json.dumps(settings(family, "whisper")))
    WhisperFeatureExtractor(feature_size=80).save_pretrained(parts["whisper"])
    beats = {name.removeprefix("beats."): value for name, value in given.items() if name.startswith("beats.")}
    settings_of_beats = {**BEATS, "num_buckets": 320, "max_distance": 800, "activation_fn": "gelu", "deep_norm": True}
    torch.save({"cfg": settings_of_beats, "model": beats}, folder / "beats.pt")
    own = {name: value for name, value in given.items() if name in trained}
    torch.save({"model": own, "optimizer": {}, "config": {"epoch": 3}}, folder / "released.pth")
    return {**parts, "beats": folder / "beats.pt", "checkpoint": folder / "released.pth"}
