"""Writing results: what stands for a value in JSON, and the arrays and tensors beside it.

A list in the JSON is a tuple, an object whose first key begins with `$` stands for what JSON has no word for.
"""

import errno
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mechaudio.arguments import shown
from mechaudio.processes import launch
from mechaudio.reading import digest_of_file

KEPT = (
    "arrays, tensors, numbers, str, bool, None, Event, Answer, Provenance, interventions, results, and tuples and "
    "dicts of these"
)
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\|`*[]!~$"})
#: Embeddings, overrides and isolates of Unicode's bidirectional text; words of Arabic or Hebrew need none of them.
_TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))


@dataclass(frozen=True)
class Stores:
    """Places for arrays and tensors that JSON cannot hold, each under the path of its field.

    Attributes:
        arrays: Numpy's, and, where `tensors` is None, tensors as such.
        tensors: Tensors of torch, as they are: nothing is moved or copied before they are written.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: dict[str, Any] | None = field(default_factory=dict)


def as_numpy(array: Any) -> np.ndarray:
    """An array of any library; bfloat16, which numpy does not know, as float32, which holds all its numbers."""
    if not hasattr(array, "detach"):
        return np.asarray(array)
    plain = array.detach().cpu()
    return (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()


def encode(value: Any, path: str, stores: Stores, kinds: Mapping[str, type]) -> Any:
    """Return what stands for a value in the JSON, and put arrays and tensors into their stores on the way.

    A value that has `_as_kept()` is kept as what that returns.

    Args:
        value: Anything that can be kept.
        path: Where it is, for errors and for the names of arrays.
        stores: Filled on the way.
        kinds: The classes that can be kept, by name.

    Raises:
        TypeError: For what cannot be kept.
    """
    if value is None or type(value) in (str, int, bool):
        return value
    if type(value) is float:
        return value if isfinite(value) else {"$float": repr(value)}
    if type(value) is tuple:
        return [encode(part, f"{path}[{index}]", stores, kinds) for index, part in enumerate(value)]
    if isinstance(value, (dict, MappingProxyType)):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: encode(part, f"{path}[{key!r}]", stores, kinds) for key, part in value.items()}
        pairs = (
            (encode(key, f"{path} keys", Stores(), kinds), encode(part, f"{path}{_step(key)}", stores, kinds))
            for key, part in value.items()
        )
        return {"$dict": [list(pair) for pair in pairs]}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"$number": value.dtype.name, "value": encode(value.item(), path, stores, kinds)}
    name = path.partition(".")[2] or path
    if type(value).__module__ == "torch" and hasattr(value, "detach"):  # torch itself is not needed to keep results
        if stores.tensors is not None:
            stores.tensors[name] = value
            return {"$tensor": name, "holds": f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"}
        value = as_numpy(value)
    if type(value) is np.ndarray and value.dtype.kind in "biufcSUmM":
        stores.arrays[name] = value
        return {"$array": name, "holds": f"{value.dtype} {list(value.shape)}"}
    if kinds.get(type(value).__name__) is type(value):
        kept = value._as_kept() if hasattr(value, "_as_kept") else value
        held = {
            f.name: encode(getattr(kept, f.name), f"{path}.{f.name}", stores, kinds) for f in fields(kept) if f.init
        }
        return {"$class": f"{type(value).__module__}.{type(value).__name__}"} | held
    what = (
        f"an array of {value.dtype}"
        if type(value) is np.ndarray
        else f"a {type(value).__module__}.{type(value).__name__}"
    )
    advice = "; make the list a tuple" if type(value) is list else ""
    raise TypeError(f"{path} is {what}, which cannot be kept; a result holds {KEPT}{advice}")


def _step(key: Any) -> str:
    """The part of a path that a key of a dict makes: `.pattern.3` for a name and a layer."""
    parts = [str(part) for part in key if part is not None] if type(key) is tuple else []
    return "".join(f".{part}" for part in parts) or f"[{key!r}]"


def made_folder(folder: str | os.PathLike, what: str) -> Path:
    """Make a folder, and those above it, where they are not there.

    Args:
        folder: Its path.
        what: Is written into it, for the message.

    Raises:
        NotADirectoryError: If there is something else in its place or above it, such as a link that leads nowhere.
        OSError: If it cannot be made; of a full disk the system's own.
        ValueError: If no folder can have such a name.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise ValueError(
            f"{what} is kept in a folder, and none can be called {os.fspath(folder)!r}: {error}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        blocking = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), folder)
        if not os.path.lexists(blocking) or blocking.is_dir():
            raise type(error)(
                f"{what} is kept in a folder, and {os.fspath(folder)!r} cannot be made here ({error.strerror}): give "
                "another"
            ) from error
        kind = "a file" if blocking.is_file() else "a link that leads nowhere" if blocking.is_symlink() else "no folder"
        raise NotADirectoryError(
            f"{what} is kept in a folder, and {os.fspath(blocking)!r} is {kind}: give another"
        ) from error
    return folder


def refuse_others(folder: Path, names: Sequence[str], what: str, *, known_by: Sequence[str]) -> None:
    """Refuse to write over somebody else's files, which have the names of ours.

    Args:
        folder: The folder.
        names: Files that would be written.
        what: Is written into it, for the message.
        known_by: The first of the files, and a word that ours have in it.

    Raises:
        ValueError: Some of them are there, and the first one is none of ours.
    """
    there = [name for name in names if os.path.lexists(folder / name)]
    mark, word = known_by
    if not there or ((folder / mark).is_file() and word.encode() in (folder / mark).read_bytes()):
        return
    raise ValueError(
        f"{os.fspath(folder)!r} holds {', '.join(there)} of something else than {what}, which would be lost: give "
        "another folder, or take it away"
    )


def in_order(text: str) -> str:
    """Return a text without the marks that turn round the order in which what follows them is shown."""
    return text.translate(_TURNS)


def as_file_name(name: str) -> str:
    """A name that stays in its folder.

    Raises:
        ValueError: It would climb out of it, or name another.
    """
    if not name.strip(". ") or any(sign in name for sign in "/\\\0") or len(name.encode()) > 200:
        raise ValueError(f"{shown(name)} cannot name a file: give a short name without slashes, such as 'accuracies'")
    return name


def markdown(text: str) -> str:
    """A text that Markdown shows as it is: no HTML, links, pictures or code of somebody else's, in one line."""
    emphasis = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text.translate(_MARKDOWN))  # none within a word
    entities = re.sub(r"&(?=#?[0-9A-Za-z]{1,32};)", "&amp;", emphasis)
    return " ".join(re.sub(r"<(?=[^\s\d=])", "&lt;", entities).split())


def write_once(place: Path, content: bytes) -> None:
    """Write a file, whole or not at all, unless it is there; of several processes the first does.

    Args:
        place: the file; its folder is there.
        content: of the file.
    """
    if place.exists():
        return
    # One name per process, so that whoever was killed here leaves nothing for good.
    draft = place.with_name(f".{place.name}.begun{launch().rank or ''}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, place)
    except FileExistsError:  # another process was first
        draft.unlink()
    except OSError:  # a file system without links
        os.replace(draft, place)
    else:
        draft.unlink()


def write_json(place: Path, head: dict[str, Any]) -> None:
    """Write the JSON of a result, and see it onto the disk."""
    text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with place.open("wb") as file:
        file.write(text.encode("utf-8", "surrogatepass"))  # undecodable bytes in a path are kept as surrogates
        file.flush()
        os.fsync(file.fileno())


def write_arrays(place: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays as `numpy.savez` does, whatever their names, and return the file's digest."""
    with place.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return digest_of_file(place)


def write_tensors(place: Path, tensors: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Write tensors as a safetensors file, each in its own type, and return the file's digest.

    Args:
        place: The file.
        tensors: By name, on any device.
        labels: What is known of them, the file's metadata.
    """
    plain, storages = {}, set()
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        storage = whole.untyped_storage().data_ptr()
        plain[name] = whole.clone() if storage in storages else whole  # one file holds no memory twice
        storages.add(storage)
    import_module("safetensors.torch").save_file(plain, place, metadata=dict(labels))
    with place.open("rb+") as file:
        os.fsync(file.fileno())
    return digest_of_file(place)
