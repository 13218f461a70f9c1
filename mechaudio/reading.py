"""Reading results back from folders that may be damaged, or made by somebody who means harm.

Nothing is believed before it is checked. Classes come from a closed table, of what this package defines and what the
user has defined; an array is made only when the file holds as many bytes as its header says; every field is of the
kind that its class says, and axes of one name have one length. Every error names the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import jaxtyped

from mechaudio.arguments import n_of, shown
from mechaudio.kinds import fits, in_words, kind_of, parts_of
from mechaudio.labelled import axes_of

KINDS_OF_ARRAYS = "biufcSUmM"
DEEPEST = 64
"""Levels of values within values; a study has about ten."""
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_NUMBER_TYPES = frozenset(("bool", *_INTEGERS, "float16", "float32", "float64"))
_PACKAGE = Path(__file__).parent
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)


def read_head(place: Path) -> dict[str, Any]:
    """The JSON of a result, with everything in it that a result has.

    Raises:
        ValueError: It is damaged, or no result.
    """
    try:
        head = json.loads(place.read_bytes().decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise _damaged(place, "its values are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{os.fspath(place)!r} is damaged, it is not JSON: {error}") from error
    expected = {"schema": int, "mechaudio": str, "arrays_sha256": str, "result": dict}
    whole = isinstance(head, dict) and all(isinstance(head.get(key), kind) for key, kind in expected.items())
    whole = whole and isinstance(head.get("tensors_sha256", ""), str)
    if not whole or head["schema"] is True or head["schema"] < 1:
        raise ValueError(
            f"{os.fspath(place)!r} is damaged, or not a result of mechaudio: it needs {', '.join(expected)}"
        )
    return head


def read_arrays(place: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `numpy.savez` or `Result.save` wrote, by name.

    Raises:
        ValueError: It is no such file, holds Python objects, or less than it says.
    """
    n_bytes = place.stat().st_size
    try:
        with zipfile.ZipFile(place) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > n_bytes:
                raise _damaged(place, f"it says that it holds more than there is, {n_of(n_bytes, 'byte')}")
            return {entry.filename.removesuffix(".npy"): _read_array(archive, entry, place) for entry in entries}
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise _damaged(place, f"it is no archive of arrays ({error})") from error


def read_tensors(place: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, by name, on the CPU; torch is imported for it.

    Raises:
        ValueError: It is no such file, or holds less than it says.
    """
    try:
        return import_module("safetensors.torch").load_file(place)
    except import_module("safetensors").SafetensorError as error:
        raise _damaged(place, f"it is no file of tensors ({shown(str(error))})") from error


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> np.ndarray:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _damaged(place, f"{shown(entry.filename)} is compressed, which no result is")
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = headers[version](file)
            n_bytes = math.prod(shape) * dtype.itemsize
            if dtype.kind not in KINDS_OF_ARRAYS:
                raise _damaged(
                    place, f"{shown(entry.filename)} holds {dtype}, which is not read: nothing is unpickled here"
                )
            if min(shape, default=0) < 0 or n_bytes != entry.file_size - file.tell():
                raise _damaged(
                    place,
                    f"{shown(entry.filename)} says that it is {dtype} of shape {list(shape)}, {n_of(n_bytes, 'byte')}, "
                    f"and has {entry.file_size - file.tell()}",
                )
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except Damaged:
        raise
    except (ValueError, KeyError, TypeError, SyntaxError, OSError) as error:  # whatever numpy makes of a bad header
        raise _damaged(place, f"{shown(entry.filename)} is no array of numpy ({shown(str(error))})") from error


class Damaged(ValueError):
    """A file that cannot be what it should be."""


def _damaged(place: Path, why: str) -> Damaged:
    return Damaged(f"{os.fspath(place)!r} is damaged: {why}")


@dataclass(frozen=True)
class Decoding:
    """Parts that the values of a result's JSON are made of.

    Attributes:
        arrays: By name.
        tensors: By name.
        kinds: The classes that can be kept, by name; those of this package are added when they are imported.
        place: The file, for errors.
    """

    arrays: Mapping[str, np.ndarray]
    tensors: Mapping[str, Any]
    kinds: Mapping[str, type]
    place: Path


def decode(value: Any, of: Decoding, depth: int = 0) -> Any:
    """Return what a value in the JSON stands for.

    Args:
        value: From the JSON.
        of: What it is made of.
        depth: How deep in the result the value is.

    Raises:
        ValueError: It stands for nothing.
    """
    arrays, place = of.arrays, of.place
    if depth > DEEPEST:
        raise _damaged(place, f"its values are nested more than {DEEPEST} deep")
    inner = partial(decode, of=of, depth=depth + 1)
    if isinstance(value, list):
        return tuple(map(inner, value))
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    content = value.get(tag)
    if tag == "$float" and isinstance(content, str) and content in _FLOATS:
        return _FLOATS[content]
    if tag == "$number" and content in _NUMBER_TYPES:
        number = inner(value.get("value"))
        if isinstance(number, (bool, int, float)):
            with _naming(place, f"{number!r} is no {content}"):
                return np.dtype(content).type(number)
    if tag == "$dict" and isinstance(content, list) and all(isinstance(p, list) and len(p) == 2 for p in content):
        with _naming(place, "a key of a dict is none"):
            return {inner(key): inner(part) for key, part in content}
    if tag == "$array" and isinstance(content, str) and content in arrays:
        return arrays[content]
    if tag == "$tensor" and isinstance(content, str) and content in of.tensors:
        return of.tensors[content]
    if tag == "$class" and isinstance(content, str):
        kept = {name: inner(part) for name, part in value.items() if name != tag}
        return _rebuild(_class_of(content, of.kinds, place), kept, place)
    if tag.startswith("$"):
        raise _damaged(place, f"it says {shown(tag)[1:-1]} {shown(content)}, which is not there")
    return {name: inner(part) for name, part in value.items()}


def _class_of(address: str, kinds: Mapping[str, type], place: Path) -> type:
    module, _, name = address.rpartition(".")
    if name not in kinds and (module, name) in _classes_of_the_package():
        import_module(module)  # the package finds its own results
    if name in kinds:
        return kinds[name]
    advice = (
        f"no class of mechaudio here has that name, so it is of another version, or forged: it says {shown(module)}"
        if module.split(".")[0] == "mechaudio"
        else f"import {shown(module)[1:-1]}, which defined it, first, if you trust it"
    )
    raise ValueError(f"{os.fspath(place)!r} holds a {shown(name)[1:-1]}, which is not known here: {advice}")


@cache
def _classes_of_the_package() -> frozenset[tuple[str, str]]:
    """Module and name of every class that the package defines, read off its files: nothing else is ever imported."""
    classes = set()
    for path in _PACKAGE.rglob("*.py"):
        inside = path.relative_to(_PACKAGE.parent).with_suffix("")
        if path.name.startswith("__") or inside.parts[1] == "cli":
            continue
        classes |= {(".".join(inside.parts), name) for name in _CLASS.findall(path.read_text(encoding="utf-8"))}
    return frozenset(classes)


def _rebuild(cls: type, kept: dict[str, Any], place: Path) -> Any:
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls) if f.init}
    strange = [field_name for field_name in kept if field_name not in known]
    lacking = [field_name for field_name, needed in known.items() if needed and field_name not in kept]
    if strange or lacking:
        raise ValueError(
            f"{os.fspath(place)!r} holds a {cls.__name__} of another version: its fields {shown(strange)} are unknown "
            f"here, {lacking} are missing; load it with the mechaudio that saved it"
        )
    _check_kinds(cls, kept, place)
    _check_lengths(cls, kept, place)
    with _naming(place, f"its {cls.__name__} cannot be made"):
        return cls(**kept)


def _check_kinds(cls: type, kept: Mapping[str, Any], place: Path) -> None:
    with jaxtyped("context"):  # axes of one name have one length
        for name, value in kept.items():
            kind = kind_of(cls, name)
            if not fits(value, kind) and not (isinstance(value, np.ndarray) and _is_tensor(kind)):
                what = f"an array {value.dtype} {list(value.shape)}" if hasattr(value, "shape") else shown(value)
                raise _damaged(place, f"{name} of its {cls.__name__} is {what}, and should be {in_words(kind)}")


def _is_tensor(kind: Any) -> bool:
    """Return whether tensors fit, which are kept as arrays."""
    arrays = [getattr(part, "array_type", part) for part in parts_of(kind)]
    return any(getattr(array, "__module__", "").startswith("torch") for array in arrays)


def _check_lengths(cls: type, kept: Mapping[str, Any], place: Path) -> None:
    """Refuse a list that is named after an axis, as `ids` are after questions, and has another length."""
    lengths: dict[str, int] = {}
    for name, value in kept.items():
        if isinstance(value, np.ndarray):
            axes = axes_of(kind_of(cls, name), value.ndim) or ()
            lengths |= dict(zip(axes, value.shape, strict=False))
    first = next((axis for axis in ("question", "pair", "clip") if axis in lengths), "")
    for name, value in kept.items():
        axis = first if name == "ids" else name.removesuffix("s")
        if isinstance(value, tuple) and axis != name and len(value) != lengths.get(axis, len(value)):
            raise _damaged(
                place,
                f"{name} of its {cls.__name__} has {n_of(len(value), 'entry')} for {lengths[axis]} of axis {axis!r}",
            )


@contextmanager
def _naming(place: Path, what: str) -> Iterator[None]:
    """Name the file in whatever a value out of it is refused with."""
    try:
        yield
    except Damaged:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        raise _damaged(place, f"{what}: {shown(str(error))}") from error


def digest_of_file(place: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with place.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
