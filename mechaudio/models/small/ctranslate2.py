"""Reads the model files of CTranslate2, whose names and arrays are those of its specification of the network.

A file is the format's version, the specification's name and revision, the variables (name, shape, type, bytes), and
pairs of names that stand for each other. Strings are a 16-bit length that counts the zero byte at their end.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mechaudio.arguments import n_of
from mechaudio.models.small.gguf import Cursor

_VERSIONS = (5, 6)
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


@dataclass(frozen=True)
class CTranslate2:
    """A model file's content.

    Attributes:
        specification: What kind of network it is, such as `WhisperSpec`.
        variables: The arrays, as they lie in the file.
        aliases: Names of variables that are others, and which.
    """

    specification: str
    variables: dict[str, np.ndarray]
    aliases: dict[str, str]


def read(path: str | Path) -> CTranslate2:
    """Read a model file; the arrays are views of it, and take memory where they are touched.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another format or version, is cut off, or more follows than it says.
    """
    path = Path(path)
    with path.open("rb") as file:
        if not (size := path.stat().st_size):
            raise ValueError(f"{path} is empty")
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    cursor = Cursor(data, path, "within what it announces")
    take = cursor.number

    def string() -> str:
        text = take(f"{take('H')}s")
        if not text.endswith(b"\0"):
            near = f"a string near byte {cursor.at} does not end in a zero"
            raise ValueError(f"{path} is no model file of CTranslate2: {near}")
        return text[:-1].decode("utf-8")

    if (version := take("I")) not in _VERSIONS:
        raise ValueError(f"{path} is no model file of CTranslate2 of versions 5 and 6: it begins with {version}")
    specification, _revision = string(), take("I")
    variables = {}
    for _ in range(take("I")):
        name = string()
        shape = tuple(take("I") for _ in range(take("B")))
        kind, length = take("B"), take("I")
        if kind not in _DTYPES:
            raise ValueError(f"{path}: {name!r} is of type {kind}; known are {sorted(_DTYPES)}")
        dtype = np.dtype(_DTYPES[kind])
        if length != dtype.itemsize * int(np.prod(shape)):
            raise ValueError(f"{path}: {name!r} of shape {shape} and {dtype} has {n_of(length, 'byte')}")
        cursor.refuse_end(length, f"within {name!r}")
        variables[name] = np.frombuffer(data, dtype, length // dtype.itemsize, cursor.at).reshape(shape)
        cursor.at += length
    aliases = {}
    for _ in range(take("I")):
        alias = string()
        aliases[alias] = string()
    if cursor.at != size:
        raise ValueError(f"{path} holds {size - cursor.at} bytes more than it announces: it is damaged")
    return CTranslate2(specification, variables, aliases)
