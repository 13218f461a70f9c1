"""Reading the published parts of SALMONN and TimeAudio: files, names of tensors, and the tokenizer."""

from __future__ import annotations

import pickle
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

#: Where the decoder lies in the network.
LLAMA = "llama_model.base_model.model."
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


def files_of(part: str, path: Path) -> list[Path]:
    """Return the files of weights of a part.

    Raises:
        FileNotFoundError: Nothing is there, or no weights.
        ValueError: It is a folder where a file is meant.
    """
    if not path.exists():
        raise FileNotFoundError(f"{part}: there is nothing at {str(path)!r}")
    if part in ("beats", "checkpoint"):
        if path.is_dir():
            raise ValueError(f"{part} is a file, and {str(path)!r} is a folder: name the file in it")
        return [path]
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{part}: {str(path)!r} has no config.json; give the folder of the whole checkpoint")
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if found := sorted(path.glob(pattern)):
            return found
    raise FileNotFoundError(f"{part}: {str(path)!r} holds neither model*.safetensors nor pytorch_model*.bin")


def _read(part: str, file: Path) -> dict[str, Any]:
    """The content of a file of weights, without running code."""
    if file.suffix == ".safetensors":
        return load_file(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{part}: {str(file)!r} cannot be read without running code from it, which is not done: {error}"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{part}: {str(file)!r} is no whole file of weights: {error}. Fetch it again") from error


def tensors_of(
    files: dict[str, list[Path]],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, tuple[str, ...]], dict[str, Any]]:
    """Return per part its tensors under the names of the network and those left out; and BEATs' settings.

    Raises:
        ValueError: A file cannot be read without running code from it, is cut off, or holds what has no place.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    left_out: dict[str, tuple[str, ...]] = {}
    settings: dict[str, Any] = {}
    for part, own in files.items():
        read: dict[str, Any] = {}
        for file in own:
            read |= _read(part, file)
        if part in ("beats", "checkpoint"):
            if not isinstance(read.get("model"), dict):
                raise ValueError(f"{part}: {str(own[0])!r} has no 'model' in it, only {sorted(map(str, read))[:5]}")
            settings = read.get("cfg", {}) if part == "beats" else settings
            read = read["model"]
        tensors[part], unused, strange = {}, [], []
        for name, value in read.items():
            place = _place(part, name)
            if place == "":
                strange.append(name)
            elif place is None:
                unused.append(name)
            else:
                tensors[part][place] = value
        if strange:
            where = own[0].parent if len(own) > 1 else own[0]
            raise ValueError(
                f"{part}: {str(where)!r} holds tensors that have no place in the network: {some(strange)}. Is it the "
                "right part?"
            )
        left_out[part] = tuple(unused)
    return tensors, left_out, settings


def some(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _place(part: str, name: str) -> str | None:
    """Where a tensor goes: a name of the network's, `None` for nowhere, an empty text where nobody knows."""
    for start, instead in _PLACES[part].items():
        if name.startswith(start):
            place = None if instead is None else instead + name.removeprefix(start)
            return None if place is None or _WORKED_OUT.search(place) else place
    return ""


def tokenizer_in(folder: Path) -> Any:
    """Return the tokenizer of a decoder's folder.

    Raises:
        FileNotFoundError: There is none.
        ImportError: It needs the package sentencepiece.
    """
    fast, slow = (folder / "tokenizer.json").is_file(), (folder / "tokenizer.model").is_file()
    if not fast and not slow:
        raise FileNotFoundError(f"llama: {str(folder)!r} holds neither tokenizer.json nor tokenizer.model")
    if not fast and find_spec("sentencepiece") is None:
        raise ImportError(
            f"the tokenizer in {str(folder)!r} is a tokenizer.model, which needs the package sentencepiece: `pip "
            "install 'mechaudio[salmonn]'`. The folder that is made does not need it"
        )
    return transformers.AutoTokenizer.from_pretrained(folder)
