"""What is kept of an analysis: numbers, and the checkpoint, seed, settings and versions that made them, in a folder.

Conventions: `result.json` holds all but the arrays, readable by people and in the order of the fields; `arrays.npz`
holds the arrays, bit for bit, each under the path of its field (`attention.mass`); a tensor is an array, of bfloat16
one of float32. A list in the JSON is a tuple, an object whose first key begins with `$` stands for what JSON has no
word for. Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from mechaudio.arguments import checks_arguments, shown
from mechaudio.audio.events import Event
from mechaudio.provenance import Provenance, version
from mechaudio.question import Answer
from mechaudio.reading import decode, digest_of_file, read_arrays, read_head

__all__ = ["Provenance", "Result"]

SCHEMA = 1
DRAFTS = ".saving-"
JSON_NAME, ARRAYS_NAME = "result.json", "arrays.npz"
KEPT = (
    "arrays, tensors, numbers, str, bool, None, Event, Answer, Provenance, interventions, results, and tuples and "
    "dicts of these"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The base of everything that is kept.

    A subclass is a dataclass, `@dataclass(frozen=True, eq=False, kw_only=True)`. Its fields hold numpy arrays and
    numbers, str, int, float, bool, None, `Event`, `Answer`, `Provenance`, other results, and tuples and dicts of these.

    Attributes:
        provenance: where the numbers come from.

    Raises:
        TypeError: for a field that cannot be kept.
    """

    provenance: Provenance

    kinds: ClassVar[dict[str, type]] = {"Event": Event, "Answer": Answer, "Provenance": Provenance}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):
            # One of its own, or the dataclass decorator gives it one that writes out everything.
            cls.__repr__ = cls.__repr__
        keep(cls)

    def __post_init__(self):
        _encode(self, type(self).__name__, {})

    def __repr__(self) -> str:
        """The names of what is in it, arrays with their shapes."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "provenance"}
        said = [f"{name} {list(value.shape)}" if hasattr(value, "shape") else name for name, value in kept.items()]
        return f"<{type(self).__name__} of {', '.join(said)}>"

    @checks_arguments
    def save(self, folder: str | os.PathLike) -> Path:
        """Write the result into a folder, in place of an earlier one there; other files in the folder are left alone.

        Whatever interrupts it, the folder then holds the earlier result or this one, whole.

        Returns:
            The folder.

        Raises:
            TypeError: for a field that cannot be kept; nothing is written then.
            NotADirectoryError: if there is a file in the folder's place.
        """
        arrays: dict[str, np.ndarray] = {}
        body = _encode(self, type(self).__name__, arrays)
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(
                f"a result is saved into a folder, and {os.fspath(folder)!r} is a file: give another"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=DRAFTS) as drafts:
            digest = _write_arrays(Path(drafts, ARRAYS_NAME), arrays)
            head = {"schema": SCHEMA, "mechaudio": version("mechaudio"), "arrays_sha256": digest, "result": body}
            _write_json(Path(drafts, JSON_NAME), head)
            os.replace(Path(drafts, ARRAYS_NAME), _waiting(folder, digest))
            os.replace(Path(drafts, JSON_NAME), folder / JSON_NAME)  # from here on `load` sees the new result
        os.replace(_waiting(folder, digest), folder / ARRAYS_NAME)
        for leftover in folder.glob(_waiting(folder, "*").name):
            leftover.unlink(missing_ok=True)
        remove_drafts(folder)
        return folder

    @classmethod
    @checks_arguments
    def load(cls, folder: str | os.PathLike) -> "Result":
        """Read a result back, as the class that it was saved from, its arrays equal bit for bit.

        A folder of somebody else's can be loaded: nothing in it is run, and nothing is made of it that it does not
        hold.

        Raises:
            FileNotFoundError: if there is no result in the folder.
            ValueError: if the result is damaged, newer than this version of mechaudio, or of an unknown class; it
                names the file.
            TypeError: if it is not a result of the class that `load` was called on.
        """
        folder = Path(folder)
        place = folder / JSON_NAME
        if not place.is_file():
            raise FileNotFoundError(f"there is no result in {os.fspath(folder)!r}: it has no {JSON_NAME}")
        head = read_head(place)
        if head["schema"] > SCHEMA:
            raise ValueError(
                f"{os.fspath(place)!r} was saved by mechaudio {shown(head['mechaudio'])[1:-1]} in format "
                f"{head['schema']}, and "
                f"mechaudio {version('mechaudio')} reads formats up to {SCHEMA}: upgrade mechaudio"
            )
        result = decode(head["result"], _arrays_of(folder, head["arrays_sha256"]), cls.kinds, place)
        if not isinstance(result, cls):
            raise TypeError(
                f"{os.fspath(folder)!r} holds a {type(result).__name__}, not a {cls.__name__}: use Result.load"
            )
        return result


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed while they saved into a folder left there."""
    for drafts in folder.glob(f"{DRAFTS}*"):
        shutil.rmtree(drafts, ignore_errors=True)


def keep(cls: type) -> None:
    """Let results hold values of this dataclass; what its fields hold is kept as a result's are.

    Raises:
        TypeError: another class of this name is kept already.
    """
    known = Result.kinds.setdefault(cls.__name__, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(
            f"{known.__module__} has a result named {cls.__name__} already, and results are found again by name: "
            f"give the one in {cls.__module__} another"
        )
    Result.kinds[cls.__name__] = cls  # a class that is defined anew, as in a notebook, takes the place of the old


def digest_of(value: Any) -> str:
    """SHA-256 of anything that a result can hold: the same for equal values, whose arrays are equal bit for bit.

    Raises:
        TypeError: for what cannot be kept.
    """
    arrays: dict[str, np.ndarray] = {}
    body = _encode(value, "value", arrays)
    found = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    for name in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def as_numpy(array: Any) -> np.ndarray:
    """An array of any library; bfloat16, which numpy does not know, as float32, which holds all its numbers."""
    if not hasattr(array, "detach"):
        return np.asarray(array)
    plain = array.detach().cpu()
    return (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """What stands for a value in the JSON; arrays are put into `arrays` on the way, under the path of their field."""
    if value is None or type(value) in (str, int, bool):
        return value
    if type(value) is float:
        return value if isfinite(value) else {"$float": repr(value)}
    if type(value) is tuple:
        return [_encode(part, f"{path}[{index}]", arrays) for index, part in enumerate(value)]
    if type(value) in (dict, MappingProxyType):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _encode(part, f"{path}[{key!r}]", arrays) for key, part in value.items()}
        pairs = (
            (_encode(key, f"{path} keys", {}), _encode(part, f"{path}[{key!r}]", arrays)) for key, part in value.items()
        )
        return {"$dict": [list(pair) for pair in pairs]}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"$number": value.dtype.name, "value": _encode(value.item(), path, arrays)}
    if type(value).__module__ == "torch" and hasattr(value, "detach"):  # torch itself is not needed to keep results
        value = as_numpy(value)
    if type(value) is np.ndarray and value.dtype.kind in "biufcSUmM":
        name = path.partition(".")[2] or path
        arrays[name] = value
        return {"$array": name, "holds": f"{value.dtype} {list(value.shape)}"}
    if Result.kinds.get(type(value).__name__) is type(value):
        kept = {f.name: _encode(getattr(value, f.name), f"{path}.{f.name}", arrays) for f in fields(value) if f.init}
        return {"$class": f"{type(value).__module__}.{type(value).__name__}"} | kept
    what = (
        f"an array of {value.dtype}"
        if type(value) is np.ndarray
        else f"a {type(value).__module__}.{type(value).__name__}"
    )
    advice = "; make the list a tuple" if type(value) is list else ""
    raise TypeError(f"{path} is {what}, which cannot be kept; a result holds {KEPT}{advice}")


def _write_json(place: Path, head: dict[str, Any]) -> None:
    text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with place.open("wb") as file:
        file.write(text.encode("utf-8", "surrogatepass"))  # undecodable bytes in a path are kept as surrogates
        file.flush()
        os.fsync(file.fileno())


def _waiting(folder: Path, digest: str) -> Path:
    """Where arrays are until their result is in place."""
    return folder / f".{ARRAYS_NAME}.{digest}"


def _write_arrays(place: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays as `numpy.savez` does, whatever their names, and return the file's digest."""
    with place.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return digest_of_file(place)


def _arrays_of(folder: Path, digest: str) -> dict[str, np.ndarray]:
    for place in (folder / ARRAYS_NAME, _waiting(folder, digest)):
        if place.is_file() and digest_of_file(place) == digest:
            return read_arrays(place)
    raise ValueError(
        f"{ARRAYS_NAME} in {os.fspath(folder)!r} is missing, damaged or of another result than {JSON_NAME}"
    )
