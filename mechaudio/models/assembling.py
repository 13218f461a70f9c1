"""Putting the published parts of a network together, once: reading them, filling the network, writing one folder.

Pickled files are read with `weights_only=True`, which runs no code. Every tensor of every part is used, or is one of
those that are known to have no use; every tensor of the network comes from a part. The folder appears when it is whole.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from mechaudio.reading import digest_of_file

MANIFEST = "assembled.json"
_POINTER = b"version https://git-lfs"
#: Per part, tensors by name.
Tensors = dict[str, dict[str, Tensor]]
#: What reading a file raises that is cut off, something else, or would run code.
_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)


@dataclass(frozen=True)
class Assembled:
    """The checkpoint that was put together.

    Attributes:
        folder: Where it is.
        n_tensors: Tensors of the network.
        left_out: Per part, tensors that have no use here.
    """

    folder: Path
    n_tensors: int
    left_out: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Parts:
    """The parts of a network, read.

    Attributes:
        files: Per part, the files that it was read from.
        tensors: Per part, its tensors under the names of the network.
        left_out: Per part, tensors that have no use here.
    """

    files: dict[str, list[Path]]
    tensors: Tensors
    left_out: dict[str, tuple[str, ...]]


def new_folder(out: str | Path) -> Path:
    """Return the path of a folder that is to be made.

    Raises:
        FileExistsError: Something is there already.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(target)!r} is there already: give out= a new folder")
    return target


def _type_of_weights(given: torch.dtype | str) -> torch.dtype:
    dtype = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={given!r} is no type for weights: give one such as 'float16'")
    return dtype


def folder_files(part: str, path: Path) -> list[Path]:
    """Return the files of weights of a part that is a folder.

    Raises:
        FileNotFoundError: Nothing is there, or no weights.
    """
    _refuse_absent(part, path)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{part}: {str(path)!r} has no config.json; give the folder of the whole checkpoint")
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(path.glob(pattern)):
            return files
    raise FileNotFoundError(f"{part}: {str(path)!r} holds neither model*.safetensors nor pytorch_model*.bin")


def single_file(part: str, path: Path) -> list[Path]:
    """Return the file of weights of a part that is one.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is a folder.
    """
    _refuse_absent(part, path)
    if path.is_dir():
        raise ValueError(f"{part} is a file, and {str(path)!r} is a folder: name the file in it")
    return [path]


def _refuse_absent(part: str, path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{part}: there is nothing at {str(path)!r}")


def read_weights(part: str, files: Collection[Path]) -> dict[str, Any]:
    """Return the content of files of weights, without running code.

    Raises:
        ValueError: A file cannot be read without running code from it, or is cut off.
    """
    read: dict[str, Any] = {}
    for file in files:
        read |= _read(part, file)
    return read


def _read(part: str, file: Path) -> dict[str, Any]:
    told = f"{part}: {str(file)!r}"
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise ValueError(f"{told} is a pointer of Git LFS and no file of weights: fetch what it points to")
    try:
        held = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except _UNREADABLE as error:
        # PyTorch names the code that a file would run so.
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{told} cannot be read without running code from it, {code[1]}, which is not done. Is it the "
                "published file?"
            ) from error
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ValueError(f"{told} is no whole file of weights ({reason}): fetch it again") from error
    if not isinstance(held, dict):
        raise ValueError(f"{told} holds a {type(held).__name__}, and no tensors by name: is it the right file?")
    return held


def read_parts(
    files: dict[str, list[Path]],
    places: Mapping[str, Mapping[str, str | None]],
    unused: re.Pattern[str],
    inside: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _part, read: read,
) -> Parts:
    """Read the parts of a network, every tensor under the network's name.

    Args:
        files: Per part, where it is.
        places: Per part, where its tensors go: the beginning of a name -> what stands in its place, `None` where such
            tensors have no use.
        unused: Names of the network's that have no use all the same, such as of tensors that are worked out today.
        inside: Part and what was read of it -> its tensors.

    Raises:
        ValueError: A file cannot be read without running code from it, is cut off, or holds what has no place.
    """
    parts = Parts(files, {}, {})
    for part, paths in files.items():
        tensors = inside(part, read_weights(part, paths))
        parts.tensors[part], parts.left_out[part] = _sorted_out(part, tensors, places[part], paths, unused)
    return parts


def _sorted_out(
    part: str, read: Mapping[str, Tensor], places: Mapping[str, str | None], files: list[Path], unused: re.Pattern[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A part's tensors under the names of the network, and the names of those that have no use here."""
    kept, left_out, strange = dict[str, Tensor](), list[str](), list[str]()
    for name, value in read.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{part}: {str(files[0])!r} holds {name!r}, which is no tensor: is it the right file?")
        start = next((start for start in places if name.startswith(start)), None)
        if start is None:
            strange.append(name)
            continue
        instead = places[start]
        place = None if instead is None else instead + name.removeprefix(start)
        if place is None or unused.search(place):
            left_out.append(name)
        else:
            kept[place] = value
    if strange:
        where = files[0].parent if len(files) > 1 else files[0]
        raise ValueError(
            f"{part}: {str(where)!r} holds tensors that have no place in the network: {some(strange)}. Is it the "
            "right part?"
        )
    return kept, tuple(left_out)


def some(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def shape_of(part: str, tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the shape of a tensor that every release of a part has.

    Raises:
        ValueError: It is not there.
    """
    if name not in tensors:
        raise ValueError(f"{part}: it lacks {name}, which every release has: is it the right file?")
    return tuple(tensors[name].shape)


def tokenizer_in(part: str, folder: Path) -> Any:
    """Return the tokenizer of a folder.

    Raises:
        FileNotFoundError: There is none.
        ImportError: It needs the package sentencepiece.
        ValueError: It cannot be read.
    """
    fast = (folder / "tokenizer.json").is_file()
    slow = any((folder / name).is_file() for name in ("tokenizer.model", "vocab.json"))
    if not fast and not slow:
        raise FileNotFoundError(f"{part}: {str(folder)!r} holds neither tokenizer.json nor tokenizer.model")
    if not fast and (folder / "tokenizer.model").is_file() and find_spec("sentencepiece") is None:
        raise ImportError(
            f"the tokenizer in {str(folder)!r} is a tokenizer.model, which needs the package sentencepiece: `pip "
            "install 'mechaudio[salmonn]'`. The folder that is made does not need it"
        )
    try:
        return transformers.AutoTokenizer.from_pretrained(folder)
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise ValueError(f"{part}: the tokenizer in {str(folder)!r} cannot be read: {error}") from error


def settings_in(part: str, file: Path) -> dict[str, Any]:
    """Return what a file of settings says.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{part}: {str(file)!r} is no JSON ({error}): fetch it again") from error


def _fill(network: PreTrainedModel, tensors: Tensors, dtype: torch.dtype, exact: str | None) -> None:
    """Give a network that has no numbers yet the tensors of all parts; later parts come last."""
    state = network.state_dict()
    wanted = {name: tuple(value.shape) for name, value in state.items()}
    together: dict[str, Tensor] = {}
    for part, own in tensors.items():
        for name, value in own.items():
            if name not in wanted:
                raise ValueError(
                    f"{part}: the network has no place for {name} {list(value.shape)}: is it the right part?"
                )
            if tuple(value.shape) != wanted[name]:
                raise ValueError(
                    f"{part}: {name} is {list(value.shape)}, and the other parts make it {list(wanted[name])}: do the "
                    "parts belong together?"
                )
            if value.is_floating_point() != state[name].is_floating_point():
                kind = str(value.dtype).removeprefix("torch.")
                raise ValueError(
                    f"{part}: {name} is of type {kind}, as in quantised copies, which are not put together: give the "
                    "part as it was published"
                )
            own_type = torch.float32 if exact is not None and name.startswith(exact) else dtype
            together[name] = value.to(own_type) if value.is_floating_point() else value
    shared = network._tied_weights_keys or {}
    missing = sorted(name for name in wanted if name not in together and shared.get(name) not in together)
    if missing:
        raise ValueError(f"no part holds {some(missing)}: do the parts belong together?")
    for name, first in shared.items():
        together[name] = together[first]
    network.load_state_dict(together, strict=True, assign=True)
    network.config.dtype = dtype


def put_together(
    target: Path,
    network_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    processor: Any,
    parts: Parts,
    *,
    family: str,
    dtype: torch.dtype | str,
    named: Callable[[set[str], Tensors], Tensors] = lambda _names, tensors: tensors,
    exact: str | None = None,
    **facts: Any,
) -> Assembled:
    """Build a network, fill it, and write it and its processor into a new folder, which appears when it is whole.

    Args:
        target: Where.
        network_class: Its class.
        config: Its config.
        processor: Its processor.
        parts: What it is made of.
        family: What the manifest calls it.
        dtype: Type of the weights.
        named: Names that the network has, and the tensors of the parts -> those tensors under the network's names.
        exact: Beginning of the names of those that are in full precision whatever the type.
        **facts: What else the manifest tells.

    Raises:
        ValueError: It is no type of weights; a tensor has no place, another shape or kind of numbers than the
            network's, or a tensor of the network's is missing.
        OSError: It cannot be written, as where the disk is full.
    """
    kept = _type_of_weights(dtype)
    with torch.device("meta"):
        network = network_class(config).eval()
    _fill(network, named(set(network.state_dict()), parts.tensors), kept, exact)
    facts = {"family": family, "dtype": str(kept).removeprefix("torch."), **facts}
    with _whole(target) as folder:
        try:
            network.save_pretrained(folder)
        except SafetensorError as error:
            raise OSError(f"the network cannot be written beside {str(target)!r}: {error}") from error
        processor.save_pretrained(folder)
        _write_manifest(folder, parts, facts)
    return Assembled(target, len(network.state_dict()), parts.left_out)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place once it is whole, and is gone if anything goes wrong.

    A process that is killed cannot take its own away: the next one does.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        if target.exists():
            target.rmdir()
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_manifest(folder: Path, parts: Parts, facts: Mapping[str, Any]) -> None:
    files = {
        part: [
            {"file": str(file.resolve()), "bytes": file.stat().st_size, "sha256": digest_of_file(file)} for file in own
        ]
        for part, own in parts.files.items()
    }
    manifest = {
        **facts,
        "parts": files,
        "left_out": {part: list(names) for part, names in parts.left_out.items()},
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
