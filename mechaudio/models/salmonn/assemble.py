"""One safetensors folder from the published parts of SALMONN or TimeAudio, made once.

The parts are four: a Llama decoder (Vicuna) and a Whisper model as transformers' folders, BEATs as a `.pt` file, and
the release's own `.pth` file with what was trained.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from mechaudio.arguments import checks_arguments
from mechaudio.models.assembling import (
    Assembled,
    Parts,
    Tensors,
    folder_files,
    new_folder,
    put_together,
    read_parts,
    shape_of,
    single_file,
    tokenizer_in,
)
from mechaudio.models.salmonn.beats import BeatsConfig
from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.lora import peft_names
from mechaudio.models.salmonn.network import SalmonnForConditionalGeneration, TimeAudioForConditionalGeneration
from mechaudio.models.salmonn.processor import SalmonnProcessor, TimeAudioProcessor

Family = Literal["salmonn", "timeaudio"]

#: Classes of a family: network, config, processor.
_CLASSES = {
    "salmonn": (SalmonnForConditionalGeneration, SalmonnConfig, SalmonnProcessor),
    "timeaudio": (TimeAudioForConditionalGeneration, TimeAudioConfig, TimeAudioProcessor),
}
#: Where the decoder lies in the network.
LLAMA = "llama_model.base_model.model."
_TABLES = (f"{LLAMA}model.embed_tokens.weight", f"{LLAMA}lm_head.weight")
#: The parts that are pickled files.
_PICKLED = ("beats", "checkpoint")
#: Per part, where its tensors go: the beginning of a name -> what stands in its place. `None`: no use here.
_PLACES: dict[str, dict[str, str | None]] = {
    "llama": {"model.": f"{LLAMA}model.", "lm_head.": f"{LLAMA}lm_head."},
    "whisper": {
        "model.encoder.": "speech_encoder.",
        "encoder.": "speech_encoder.",
        "model.decoder.": None,
        "decoder.": None,
        "proj_out.": None,
    },
    "beats": {"predictor.": None, "": "beats."},
    "checkpoint": {"beats.predictor.": None, "": ""},
}
#: Tensors that older versions saved and that are worked out today, or that lie in parts that the release removes.
_WORKED_OUT = re.compile(
    r"rotary_emb\.inv_freq$|embeddings\.position_ids$|^speech_Qformer\.cls\."
    r"|^speech_Qformer\.bert\.embeddings\.(word|position)_embeddings\."
)


@checks_arguments
def assemble(
    family: Family,
    *,
    llama: str | Path,
    whisper: str | Path,
    beats: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    dtype: torch.dtype | str | None = None,
    lora_alpha: int = 32,
    qformer_heads: int | None = None,
) -> Assembled:
    """Put a network together and save it.

    Args:
        family: `salmonn` or `timeaudio`.
        llama: Folder of the decoder that the release was trained on (Vicuna), with its tokenizer.
        whisper: Folder of the Whisper model (large-v2).
        beats: File of the BEATs encoder (iteration 3, fine-tuned on AudioSet, cpt2).
        checkpoint: File of the release's own weights.
        out: A folder that is not there yet, or is empty.
        dtype: Type of the weights, by default that of the decoder's; tensors of another are rounded to it.
        lora_alpha: The release's setting of its adapters, which no file holds.
        qformer_heads: Heads of the Q-Former, which no file holds; by default one for every 64 numbers of its width.

    Returns:
        What was put together; `ma.load(out)` opens it.

    Raises:
        FileNotFoundError: A part is not there.
        FileExistsError: Something is at `out` already.
        ValueError: A part holds tensors that have no place, lacks some, or has some of other shapes; or it cannot be
            read without running code from it.
        ImportError: The tokenizer needs the package sentencepiece.
    """
    if family not in _CLASSES:
        raise ValueError(f"family is one of {', '.join(_CLASSES)}, got {family!r}")
    target = new_folder(out)
    paths = {"llama": Path(llama), "whisper": Path(whisper), "beats": Path(beats), "checkpoint": Path(checkpoint)}
    network_class, config_class, processor_class = _CLASSES[family]
    files = {part: (single_file if part in _PICKLED else folder_files)(part, path) for part, path in paths.items()}
    parts, beats_settings = _read(files)
    tokenizer = tokenizer_in("llama", paths["llama"])
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(paths["whisper"])
    processor = processor_class(extractor, tokenizer)
    config = _config(config_class, paths, parts.tensors, beats_settings, processor, lora_alpha, qformer_heads)
    lacking = [name for name in _TABLES if name not in parts.tensors["checkpoint"]]
    if family == "timeaudio" and lacking:  # its markers were trained: it would write times with rows of zeros
        raise ValueError(f"checkpoint: it lacks {', '.join(lacking)}, which hold the rows of TimeAudio's marker tokens")
    return put_together(
        target,
        network_class,
        config,
        processor,
        parts,
        family=family,
        dtype=parts.tensors["llama"][_TABLES[0]].dtype if dtype is None else dtype,
        named=partial(_named, config.text_config.vocab_size),
        lora_alpha=lora_alpha,
    )


def _read(files: dict[str, list[Path]]) -> tuple[Parts, dict[str, Any]]:
    settings: dict[str, Any] = {}

    def inside(part: str, read: dict[str, Any]) -> dict[str, Any]:
        if part not in _PICKLED:
            return read
        if not isinstance(read.get("model"), dict):
            raise ValueError(f"{part}: {str(files[part][0])!r} has no 'model' in it, only {sorted(map(str, read))[:5]}")
        settings.update(read.get("cfg", {}) if part == "beats" else {})
        return read["model"]

    return read_parts(files, _PLACES, _WORKED_OUT, inside), settings


def _config(
    config_class: type[SalmonnConfig],
    paths: dict[str, Path],
    tensors: Tensors,
    beats: dict[str, Any],
    processor: SalmonnProcessor,
    lora_alpha: int,
    heads: int | None,
) -> SalmonnConfig:
    trained = tensors["checkpoint"]
    text = transformers.LlamaConfig.from_pretrained(paths["llama"]).to_dict()
    text["vocab_size"] = processor.audio_token_id
    text["pad_token_id"] = processor.tokenizer.pad_token_id
    layer = "speech_Qformer.bert.encoder.layer.0"
    query = shape_of("checkpoint", trained, f"{layer}.crossattention.self.query.weight")[0]
    neurons = shape_of("checkpoint", trained, f"{layer}.intermediate_query.dense.weight")[0]
    layers = {
        int(found[1]) for name in trained if (found := re.match(r"speech_Qformer\.bert\.encoder\.layer\.(\d+)\.", name))
    }
    ranks = {value.shape[0] for name, value in trained.items() if "lora_A" in name}
    if len(ranks) > 1:
        raise ValueError(f"checkpoint: its adapters have the ranks {sorted(ranks)}; one rank is known here")
    known = set(BeatsConfig().to_dict())
    return config_class(
        text,
        transformers.WhisperConfig.from_pretrained(paths["whisper"]).to_dict(),
        {name: value for name, value in beats.items() if name in known},
        {
            "hidden_size": query,
            "num_hidden_layers": len(layers),
            "num_attention_heads": max(query // 64, 1) if heads is None else heads,
            "intermediate_size": neurons,
        },
        audio_token_id=processor.audio_token_id,
        lora={"r": ranks.pop(), "lora_alpha": lora_alpha} if ranks else None,
        bos_token_id=text["bos_token_id"],
        eos_token_id=text["eos_token_id"],
        pad_token_id=text["pad_token_id"],
    )


def _named(rows: int, wanted: set[str], tensors: Tensors) -> Tensors:
    """The tensors under the network's names, those of the vocabulary with as many rows as the network's."""
    named = {
        part: {_weight_norm(name): value for name, value in peft_names(own, wanted).items()}
        for part, own in tensors.items()
    }
    for name in _TABLES:
        if name in named["llama"]:
            named["llama"][name] = _with_new_rows(named["llama"][name], rows)
    return named


def _weight_norm(name: str) -> str:
    """PyTorch's name of today for the halves of a weight that is normed."""
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return f"{name.removesuffix(old)}parametrizations.weight.{new}"
    return name


def _with_new_rows(value: Tensor, rows: int) -> Tensor:
    """Rows for the tokens that the release adds: zeros, until the checkpoint's own take their place."""
    if value.shape[0] >= rows:
        return value
    return torch.cat([value, value.new_zeros(rows - value.shape[0], value.shape[1])])
