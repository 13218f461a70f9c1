"""Reads the GGUF files of llama.cpp: what is said of the network, and its weights unpacked to plain numbers.

A file is a header, key-value pairs, a table of tensors, and the tensors' bytes, each at a multiple of the alignment.
Quantised matrices are runs of blocks of 32 weights: `Q8_0` is a half-precision scale and 32 signed bytes; `Q4_1` a
half-precision scale and minimum and 32 numbers of four bits, the low halves of its 16 bytes before the high ones.

Conventions: a weight's shape is numpy's, rows first (GGUF writes it the other way round); numbers come as float32.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechaudio.arguments import n_of

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BLOCK = 32
#: Of a type of tensor: its name, and how many bytes hold one block of so many weights.
_TYPES = {0: ("F32", 4, 1), 1: ("F16", 2, 1), 3: ("Q4_1", 20, _BLOCK), 8: ("Q8_0", 34, _BLOCK)}


@dataclass(frozen=True)
class GGUF:
    """A file of llama.cpp, open for reading.

    Attributes:
        path: Where it lies.
        values: The key-value pairs, such as `llama.block_count` and `tokenizer.ggml.tokens`.
        shapes: The shape of each weight, rows first.
    """

    path: Path
    values: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    _places: Mapping[str, tuple[int, int]]
    _bytes: mmap.mmap

    def weight(self, name: str) -> np.ndarray:
        """Unpack one weight to float32.

        Raises:
            KeyError: There is no weight of that name.
        """
        kind, start = self._places[name]
        label, size, block = _TYPES[kind]
        shape = self.shapes[name]
        count = int(np.prod(shape)) // block
        raw = np.frombuffer(self._bytes, np.uint8, count * size, start).reshape(count, size)
        return _UNPACK[label](raw).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)


def _plain(dtype: Any) -> Any:
    return lambda raw: raw.reshape(-1).view(dtype).astype(np.float32)


def _half(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    return _half(raw[:, :2]) * raw[:, 2:].view(np.int8).astype(np.float32)


def _q4_1(raw: np.ndarray) -> np.ndarray:
    packed = raw[:, 4:]
    numbers = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    return _half(raw[:, :2]) * numbers + _half(raw[:, 2:4])


_UNPACK = {"F32": _plain(np.float32), "F16": _plain(np.float16), "Q8_0": _q8_0, "Q4_1": _q4_1}


class Cursor:
    """A place in a file, which moves behind what is read; messages say `where` that is.

    Attributes:
        at: The byte that comes next.
    """

    def __init__(self, data: mmap.mmap, path: Path, where: str = "in its header") -> None:
        """Begin with the first byte."""
        self.data, self.path, self.where, self.at = data, path, where, 0

    def refuse_end(self, size: int, where: str | None = None) -> None:
        """Raise unless there are so many more bytes."""
        if self.at + size > len(self.data):
            end = f"{self.path} ends after {n_of(len(self.data), 'byte')}"
            raise ValueError(f"{end}, {where or self.where}: it is cut off")

    def number(self, code: str) -> Any:
        """A number, by its code in `struct`."""
        size = struct.calcsize("<" + code)
        self.refuse_end(size)
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def string(self) -> str:
        """A text behind its length."""
        size = self.number("Q")
        self.refuse_end(size)
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        """A number, a text or a list of them, by its kind."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        if kind not in _NUMBERS:
            raise ValueError(f"{self.path} holds a value of type {kind} at byte {self.at}, which GGUF does not know")
        return self.number(_NUMBERS[kind])


def read(path: str | Path) -> GGUF:
    """Open a GGUF file; weights are unpacked when they are asked for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no GGUF file of version 2 or 3, is cut off, or holds weights packed in another way than F32,
            F16, Q8_0 and Q4_1.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise ValueError(f"{path} is no GGUF file: it does not begin with {_MAGIC.decode()!r}")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = Cursor(data, path)
    cursor.at = 4
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise ValueError(f"{path} is GGUF of version {version}; versions 2 and 3 are read here")
    n_weights, n_values = cursor.number("Q"), cursor.number("Q")
    values = {}
    for _ in range(n_values):
        key = cursor.string()
        values[key] = cursor.value(cursor.number("I"))
    table = {}
    for _ in range(n_weights):
        name = cursor.string()
        shape = tuple(cursor.number("Q") for _ in range(cursor.number("I")))[::-1]
        table[name] = shape, cursor.number("I"), cursor.number("Q")
    alignment = values.get("general.alignment", 32)
    first = -(-cursor.at // alignment) * alignment
    for name, (shape, kind, offset) in table.items():
        _check(path, name, shape, kind, first + offset, len(data))
    return GGUF(
        path,
        values,
        {name: shape for name, (shape, _, _) in table.items()},
        {name: (kind, first + offset) for name, (_, kind, offset) in table.items()},
        data,
    )


def _check(path: Path, name: str, shape: tuple[int, ...], kind: int, start: int, end: int) -> None:
    if kind not in _TYPES:
        known = ", ".join(label for label, _, _ in _TYPES.values())
        raise ValueError(f"{path}: weight {name!r} is packed as type {kind}; {known} are read here")
    label, size, block = _TYPES[kind]
    if shape[-1] % block:
        raise ValueError(f"{path}: rows of {name!r} hold {shape[-1]} weights, and {label} packs {block} at a time")
    if start + int(np.prod(shape)) // block * size > end:
        raise ValueError(f"{path} ends after {end} bytes, before the last of {name!r}: it is cut off")
