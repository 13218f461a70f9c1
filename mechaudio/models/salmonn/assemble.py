"""One safetensors folder from the published parts of SALMONN or TimeAudio, made once.

The parts are four: a Llama decoder (Vicuna) and a Whisper model as transformers' folders, BEATs as a `.pt` file, and
the release's own `.pth` file with what was trained. Pickled files are read with `weights_only=True`, which runs no
code. Every tensor of every part is used, or is one of those that are known to have no use here; every tensor of the
network comes from a part. The folder appears when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from mechaudio.models.salmonn.beats import BeatsConfig
from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.lora import peft_names
from mechaudio.models.salmonn.network import SalmonnForConditionalGeneration, TimeAudioForConditionalGeneration
from mechaudio.models.salmonn.parts import LLAMA, files_of, some, tensors_of, tokenizer_in
from mechaudio.models.salmonn.processor import SalmonnProcessor, TimeAudioProcessor

Family = Literal["salmonn", "timeaudio"]

#: Classes of a family: network, config, processor.
_CLASSES = {
    "salmonn": (SalmonnForConditionalGeneration, SalmonnConfig, SalmonnProcessor),
    "timeaudio": (TimeAudioForConditionalGeneration, TimeAudioConfig, TimeAudioProcessor),
}
MANIFEST = "assembled.json"


@dataclass(frozen=True)
class Assembled:
    """What was put together.

    Attributes:
        folder: Where it is.
        n_tensors: Tensors of the network.
        left_out: Per part, tensors that have no use here.
    """

    folder: Path
    n_tensors: int
    left_out: dict[str, tuple[str, ...]]


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
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} is there already: give out= a new folder")
    paths = {"llama": Path(llama), "whisper": Path(whisper), "beats": Path(beats), "checkpoint": Path(checkpoint)}
    files = {part: files_of(part, path) for part, path in paths.items()}
    network_class, config_class, processor_class = _CLASSES[family]
    tensors, left_out, beats_settings = tensors_of(files)
    tokenizer = tokenizer_in(paths["llama"])
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(paths["whisper"])
    processor = processor_class(extractor, tokenizer)
    config = _config(config_class, paths, tensors, beats_settings, processor, lora_alpha, qformer_heads)
    kept = tensors["llama"][f"{LLAMA}model.embed_tokens.weight"].dtype if dtype is None else _dtype(dtype)
    network = _filled(network_class, config, tensors, kept)
    with _whole(target) as folder:
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
        _write_manifest(folder, family, files, left_out, kept, lora_alpha)
    return Assembled(target, len(network.state_dict()), left_out)


def _dtype(given: torch.dtype | str) -> torch.dtype:
    dtype = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={given!r} is no type for weights: give one such as 'float16'")
    return dtype


def _config(
    config_class: type[SalmonnConfig],
    paths: dict[str, Path],
    tensors: dict[str, dict[str, Tensor]],
    beats: dict[str, Any],
    processor: SalmonnProcessor,
    lora_alpha: int,
    heads: int | None,
) -> SalmonnConfig:
    """The network's config, from the parts' own and from the shapes of what was trained."""
    trained = tensors["checkpoint"]
    text = transformers.LlamaConfig.from_pretrained(paths["llama"]).to_dict()
    text["vocab_size"] = processor.audio_token_id
    text["pad_token_id"] = processor.tokenizer.pad_token_id
    query = _shape(trained, "speech_Qformer.bert.encoder.layer.0.crossattention.self.query.weight")[0]
    neurons = _shape(trained, "speech_Qformer.bert.encoder.layer.0.intermediate_query.dense.weight")[0]
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


def _shape(trained: dict[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in trained:
        raise ValueError(f"checkpoint: it lacks {name}, which every release has: is it the right file?")
    return tuple(trained[name].shape)


def _filled(
    network_class: type[SalmonnForConditionalGeneration],
    config: SalmonnConfig,
    tensors: dict[str, dict[str, Tensor]],
    dtype: torch.dtype,
) -> SalmonnForConditionalGeneration:
    """The network with the tensors of all parts, where they agree in name and shape; later parts come last."""
    _refuse_unmarked(network_class, tensors["checkpoint"])
    with torch.device("meta"):
        network = network_class(config).eval()
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    rows = config.text_config.vocab_size
    together: dict[str, Tensor] = {}
    for part in ("llama", "whisper", "beats", "checkpoint"):
        for name, value in peft_names(tensors[part], set(wanted)).items():
            place = _weight_norm(name)
            if place not in wanted:
                raise ValueError(
                    f"{part}: the network has no place for {name} {list(value.shape)}: is it the right part?"
                )
            if part == "llama" and place.endswith(("embed_tokens.weight", "lm_head.weight")):
                value = _with_new_rows(value, rows)
            if tuple(value.shape) != wanted[place]:
                raise ValueError(
                    f"{part}: {name} is {list(value.shape)}, and the other parts make it {list(wanted[place])}: do the "
                    "parts belong together?"
                )
            together[place] = value.to(dtype) if value.is_floating_point() else value
    shared = network._tied_weights_keys
    missing = sorted(name for name in wanted if name not in together and shared.get(name) not in together)
    if missing:
        raise ValueError(f"no part holds {some(missing)}: do the parts belong together?")
    for name, first in shared.items():
        together[name] = together[first]
    network.load_state_dict(together, strict=True, assign=True)
    network.config.dtype = dtype
    return network


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


def _refuse_unmarked(network_class: type, trained: dict[str, Tensor]) -> None:
    """TimeAudio's markers were trained: without their rows it would write times with rows of zeros."""
    tables = (f"{LLAMA}model.embed_tokens.weight", f"{LLAMA}lm_head.weight")
    lacking = [name for name in tables if name not in trained]
    if network_class is TimeAudioForConditionalGeneration and lacking:
        raise ValueError(f"checkpoint: it lacks {', '.join(lacking)}, which hold the rows of TimeAudio's marker tokens")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place once it is whole, and is gone if anything goes wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        if target.exists():
            target.rmdir()
        folder.chmod(0o755)
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_manifest(
    folder: Path,
    family: str,
    files: dict[str, list[Path]],
    left_out: dict[str, tuple[str, ...]],
    dtype: torch.dtype,
    lora_alpha: int,
) -> None:
    parts = {
        part: [{"file": str(file.resolve()), "bytes": file.stat().st_size, "sha256": _sha256(file)} for file in own]
        for part, own in files.items()
    }
    manifest = {
        "family": family,
        "parts": parts,
        "left_out": {part: list(names) for part, names in left_out.items()},
        "dtype": str(dtype).removeprefix("torch."),
        "lora_alpha": lora_alpha,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
