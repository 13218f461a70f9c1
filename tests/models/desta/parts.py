"""The published parts of DeSTA2.5-Audio, small: folders as they are on the hub."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, GenerationConfig, WhisperFeatureExtractor

from tests.models.desta.released import ORACLES, network, settings, whisper_tokenizer


def write_parts(folder: Path) -> dict[str, Path]:
    """Write the three parts; the release's holds what was trained, and Whisper its decoder."""
    given = {name: value.contiguous() for name, value in network().state_dict().items()}
    trained = set(json.loads((ORACLES / "desta_keys.json").read_text())["trainable"])
    parts = {name: folder / name for name in ("llama", "whisper", "checkpoint")}
    for path in parts.values():
        path.mkdir(parents=True)
    beginnings = {"llama": "llm_model.", "whisper": "perception.whisper.", "checkpoint": ""}
    for part, beginning in beginnings.items():
        own = {
            name.removeprefix(beginning): value
            for name, value in given.items()
            if name.startswith(beginning) and (part != "checkpoint" or name in trained) and "proj_out" not in name
        }
        save_file(own, parts[part] / "model.safetensors", {"format": "pt"})
    for part in ("llama", "whisper"):
        (parts[part] / "config.json").write_text(json.dumps(settings(part)))
    (parts["checkpoint"] / "config.json").write_text(json.dumps({"model_type": "desta25", "prompt_size": 64}))
    AutoTokenizer.from_pretrained(ORACLES / "tokenizer").save_pretrained(parts["llama"])
    whisper_tokenizer().save_pretrained(parts["whisper"])
    WhisperFeatureExtractor(feature_size=80).save_pretrained(parts["whisper"])
    heard = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1, "max_length": 100}
    GenerationConfig(**heard).save_pretrained(parts["whisper"])
    return parts


def change(folder: Path, name: str, value: torch.Tensor | None) -> None:
    """Replace a tensor of a part, or take it out."""
    from safetensors.torch import load_file

    held = load_file(folder / "model.safetensors")
    held.pop(name, None)
    save_file(held if value is None else {**held, name: value}, folder / "model.safetensors", {"format": "pt"})
