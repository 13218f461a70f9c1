"""Results: numbers, and the checkpoint, seed, settings and versions that made them, kept in a folder.

Conventions: `result.json` holds all but the arrays, readable by people and in the order of the fields; `arrays.npz`
holds the arrays, bit for bit, each under the path of its field (`attention.mass`); `tensors.safetensors` the tensors,
if there are any, in the same way. Nothing is pickled.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from mechaudio.arguments import checks_arguments, n_of, shown
from mechaudio.audio.clock import ScatteredClock, TokenClock
from mechaudio.audio.events import Event
from mechaudio.labelled import Labelled, dataset_of, first_rows, sizes_of, table_of
from mechaudio.processes import one_at_a_time
from mechaudio.provenance import Provenance, version
from mechaudio.question import Answer, AudioQuestion
from mechaudio.reading import Decoding, decode, digest_of_file, read_arrays, read_head, read_tensors
from mechaudio.showing import Shown
from mechaudio.writing import (
    Stores,
    as_numpy,
    encode,
    made_folder,
    refuse_others,
    write_arrays,
    write_json,
    write_once,
    write_tensors,
)

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects
    import xarray

__all__ = ["Provenance", "Result", "as_numpy", "digest_of_file"]

#: The class that `load` is called on.
Kept = TypeVar("Kept", bound="Result")

SCHEMA = 2
DRAFTS = ".saving-"
#: What a folder is kept for, by the file that says so.
_RUNS = {"answers.jsonl": "a run of ma.evaluate", "harvest.jsonl": "a harvest", "state.pt": "a run of training"}
_CLASS = re.compile(r'"\$class": "[\w.]*?(\w+)"')
JSON_NAME, ARRAYS_NAME, TENSORS_NAME = "result.json", "arrays.npz", "tensors.safetensors"
#: What a study leaves in its folder until its result is there.
UNFINISHED = "unfinished.txt"


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(Shown):
    """The base of everything that is kept.

    A subclass is a dataclass, `@dataclass(frozen=True, eq=False, kw_only=True)`. Its fields hold numpy arrays and
    numbers, str, int, float, bool, None, `Event`, `Answer`, `Provenance`, other results, and tuples and dicts of these.

    Attributes:
        provenance: Where the numbers come from.

    Raises:
        TypeError: For a field that cannot be kept.
    """

    provenance: Provenance

    kinds: ClassVar[dict[str, type]] = {
        kind.__name__: kind for kind in (Event, Answer, AudioQuestion, TokenClock, ScatteredClock, Provenance)
    }
    #: The axes of which each place is a row of `to_pandas()`; None for what was asked about.
    _table_axes: ClassVar[tuple[str, ...] | None] = None
    #: Lists that label an axis without being named after it, and that axis; lists of lists with both axes.
    _labels: ClassVar[tuple[tuple[str, Labelled], ...]] = ()
    #: Properties with named axes that belong into tables, too.
    _derived: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):
            # One of its own, or the dataclass decorator gives it one that writes out everything.
            cls.__repr__ = cls.__repr__
        keep(cls)

    def __post_init__(self):
        encode(self, type(self).__name__, Stores(), self.kinds)

    def __repr__(self) -> str:
        """Count what there is along each axis, and its size in all; without named axes, the names of what is in it."""
        sizes = [_counted(axis, n) for axis, n in sizes_of(self).items() if not axis.endswith("_2")]
        if sizes:
            return f"<{type(self).__name__} of {', '.join(sizes[:5])}{': ' * bool(self._summary)}{self._summary}>"
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "provenance"}
        said = [f"{name} {list(value.shape)}" if hasattr(value, "shape") else name for name, value in kept.items()]
        return f"<{type(self).__name__} of {', '.join(said)}>"

    def to_xarray(self) -> "xarray.Dataset":
        """Return everything that has axes as a dataset, with the axes named and labelled.

        `attrs` say which class of result it is and which checkpoint the numbers come from.
        """
        return dataset_of(self, labels=dict(self._labels), derived=self._derived, attrs=self._attrs)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a tidy table: a row per question, cell or head, a column for each number that there is of it.

        What has more axes than a row has, such as attention over time, is in `to_xarray()` alone.
        """
        return table_of(self.to_xarray(), self._table_axes)

    def first_rows(self, n: int) -> "tuple[pandas.DataFrame, int]":
        """Return the first rows of `to_pandas()`, and how many rows there are."""
        if type(self).to_pandas is not Result.to_pandas:
            table = self.to_pandas()
            return table.head(n), len(table)
        return first_rows(self.to_xarray(), self._table_axes, n)

    def plot(self, **options: Any) -> "plotly.graph_objects.Figure":
        """Draw the result, with the function of `ma.viz` that is made for its class.

        Args:
            **options: Passed on to that function, which names them.

        Raises:
            TypeError: No figure is made for this class.
        """
        return import_module("mechaudio.viz").figure_of(self, **options)  # figures are above results, and find them

    @property
    def _summary(self) -> str:
        """The gist of the numbers, for `repr`."""
        return ""

    @property
    def _attrs(self) -> dict[str, Any]:
        known = {"checkpoint": self.provenance.checkpoint, "revision": self.provenance.revision}
        return {"result": type(self).__name__, **{name: value for name, value in known.items() if value is not None}}

    @checks_arguments
    def save(self, folder: str | os.PathLike) -> Path:
        """Write the result into a folder, in place of an earlier one there; other files in the folder are left alone.

        Whatever interrupts it, the folder then holds the earlier result or this one, whole. Processes that were
        launched together save one after another.

        Returns:
            The folder.

        Raises:
            TypeError: For a field that cannot be kept; nothing is written then.
            ValueError: For a folder with files of these names that are no result.
            NotADirectoryError: If there is a file, or a link that leads nowhere, in the folder's place or above it.
        """
        stores = Stores()
        body = encode(self, type(self).__name__, stores, self.kinds)
        folder = made_folder(folder, "a result")
        names = (JSON_NAME, ARRAYS_NAME, TENSORS_NAME)
        refuse_others(folder, names, "a result", known_by=(JSON_NAME, '"arrays_sha256"'))
        with one_at_a_time(folder):
            self._write(folder, body, stores)
        return folder

    def _write(self, folder: Path, body: Any, stores: Stores) -> None:
        with tempfile.TemporaryDirectory(dir=folder, prefix=DRAFTS) as drafts:
            digests = {ARRAYS_NAME: write_arrays(Path(drafts, ARRAYS_NAME), stores.arrays)}
            head = {"schema": SCHEMA, "mechaudio": version("mechaudio"), "arrays_sha256": digests[ARRAYS_NAME]}
            if stores.tensors:
                digests[TENSORS_NAME] = write_tensors(Path(drafts, TENSORS_NAME), stores.tensors, self._tensor_labels)
                head["tensors_sha256"] = digests[TENSORS_NAME]
            write_json(Path(drafts, JSON_NAME), head | {"result": body})
            for name, digest in digests.items():
                os.replace(Path(drafts, name), _waiting(folder, name, digest))
            os.replace(Path(drafts, JSON_NAME), folder / JSON_NAME)  # from here on `load` sees the new result
        for name, digest in digests.items():
            os.replace(_waiting(folder, name, digest), folder / name)
        (folder / UNFINISHED).unlink(missing_ok=True)
        if not stores.tensors:
            (folder / TENSORS_NAME).unlink(missing_ok=True)  # of an earlier result
        for name in (ARRAYS_NAME, TENSORS_NAME):
            for leftover in folder.glob(_waiting(folder, name, "*").name):
                leftover.unlink(missing_ok=True)
        remove_drafts(folder)

    @property
    def _tensor_labels(self) -> dict[str, str]:
        """A description of the tensors in their file, for those who open it with safetensors alone."""
        return {"result": type(self).__name__}

    @classmethod
    @checks_arguments
    def load(cls: type[Kept], folder: str | os.PathLike) -> Kept:
        """Read a result back, as the class that it was saved from, its arrays equal bit for bit.

        A folder of somebody else's can be loaded: nothing in it is run, and nothing is made of it that it does not
        hold.

        Raises:
            FileNotFoundError: If there is no result in the folder.
            ValueError: If the result is damaged, newer than this version of mechaudio, or of an unknown class; it
                names the file.
            TypeError: If it is not a result of the class that `load` was called on.
        """
        folder = Path(folder)
        file = folder / JSON_NAME
        if not file.is_file():
            raise FileNotFoundError(
                f"there is no result in {os.fspath(folder)!r}: it has no {JSON_NAME}{_instead_of_a_result(folder)}"
            )
        head = read_head(file)
        if head["schema"] > SCHEMA:
            raise ValueError(
                f"{os.fspath(file)!r} was saved by mechaudio {shown(head['mechaudio'])[1:-1]} in format "
                f"{head['schema']}, and "
                f"mechaudio {version('mechaudio')} reads formats up to {SCHEMA}: upgrade mechaudio"
            )
        arrays = read_arrays(_file_of(folder, ARRAYS_NAME, head["arrays_sha256"]))
        digest = head.get("tensors_sha256")
        tensors = {} if digest is None else read_tensors(_file_of(folder, TENSORS_NAME, digest))
        result = decode(head["result"], Decoding(arrays, tensors, cls.kinds, file))
        if not isinstance(result, cls):
            raise TypeError(
                f"{os.fspath(folder)!r} holds a {type(result).__name__}, not a {cls.__name__}: use Result.load"
            )
        return result


def _counted(axis: str, n: int) -> str:
    """The length of an axis in words: `6 layers`, `d_model 128`."""
    if axis.startswith("d_"):
        return f"{axis} {n}"
    return n_of(n, axis.removesuffix("s"))


def remove_drafts(folder: Path) -> None:
    """Remove what processes that were killed while they saved into a folder left there."""
    for drafts in folder.glob(f"{DRAFTS}*"):
        shutil.rmtree(drafts, ignore_errors=True)


def keep(cls: type) -> None:
    """Let results hold values of this dataclass; what its fields hold is kept as a result's are.

    Raises:
        TypeError: Another class of this name is kept already.
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
        TypeError: For what cannot be kept.
    """
    stores = Stores(tensors=None)
    body = encode(value, "value", stores, Result.kinds)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    for name in sorted(stores.arrays):
        digest.update(np.ascontiguousarray(stores.arrays[name]).tobytes())
    return digest.hexdigest()


def kept_or_written(value: Any) -> Any:
    """A value, or what it reads like if it holds what cannot be kept, such as a function."""
    try:
        encode(value, "value", Stores(), Result.kinds)
    except TypeError:
        return repr(value)
    return value


def finish_save(folder: Path) -> None:
    """Put arrays and tensors in place where a save was killed before it did, and remove what it left."""
    head = read_head(folder / JSON_NAME)
    for name, digest in ((ARRAYS_NAME, head["arrays_sha256"]), (TENSORS_NAME, head.get("tensors_sha256"))):
        if digest is not None and (waiting := _waiting(folder, name, digest)).is_file():
            os.replace(waiting, folder / name)
    remove_drafts(folder)


def folder_of_run(
    folder: str | os.PathLike, what: str, *, log: str = "", results: Sequence[str] = (), begins: bool = False
) -> Path:
    """Make the folder of a run, where it is not there, and refuse one that something else is kept in.

    Args:
        folder: Its path.
        what: Is run, for the message.
        log: The file that says that the folder is of such a run.
        results: Names of the classes that such a run saves.
        begins: Leave a note that it is not finished, which stays until its result is saved there.

    Raises:
        ValueError: As `refuse_kept`.
        OSError: As `made_folder`.
    """
    folder = made_folder(folder, what)
    refuse_kept(folder, what, log=log, results=results)
    if begins and not (folder / JSON_NAME).is_file():
        text = f"{what}\nis not finished: the same call, or the same command, goes on from what is here.\n"
        write_once(folder / UNFINISHED, text.encode())
    return folder


def refuse_kept(folder: Path, what: str, *, log: str = "", results: Sequence[str] = ()) -> None:
    """Refuse a folder that something else is kept in than a run that begins there, finished or not.

    Arguments are those of `folder_of_run`.

    Raises:
        ValueError: It holds a run of another kind, or a result that this one would take the place of.
    """
    kept = [name for file, name in _RUNS.items() if file != log and (folder / file).exists()]
    if (folder / JSON_NAME).is_file() and not (log and (folder / log).exists()):
        with (folder / JSON_NAME).open(encoding="utf-8", errors="replace") as file:
            kept += [f"a result ({name})" for name in _CLASS.findall(file.read(1000))[:1] if name not in results]
    if (begun := _begun_in(folder)) not in (None, what):
        kept.append(f"{begun} that is not finished")
    if kept:
        raise ValueError(f"{os.fspath(folder)!r} holds {kept[0]}, and {what} is kept by itself: give another out=")


def _begun_in(folder: Path) -> str | None:
    """Return what a folder's note says is not finished; None without a note."""
    try:
        with (folder / UNFINISHED).open(encoding="utf-8", errors="replace") as file:
            return shown(file.readline(100).strip())[1:-1]
    except FileNotFoundError:
        return None


def _instead_of_a_result(folder: Path) -> str:
    """Say what a folder without a result holds."""
    kept = [_begun_in(folder), *(name for file, name in _RUNS.items() if (folder / file).is_file())]
    if begun := next(filter(None, kept), None):
        return f", but {begun} that is not finished: the same call, or the same command, goes on with it"
    inside = folder / "results"
    return f", but there is one in {os.fspath(inside)!r}" if (inside / JSON_NAME).is_file() else ""


def _waiting(folder: Path, name: str, digest: str) -> Path:
    """Return the place for arrays and tensors until their result is in place."""
    return folder / f".{name}.{digest}"


def _file_of(folder: Path, name: str, digest: str) -> Path:
    """The file of a result's arrays or tensors.

    Raises:
        ValueError: It is missing, damaged or of another result.
    """
    for place in (folder / name, _waiting(folder, name, digest)):
        if place.is_file() and digest_of_file(place) == digest:
            return place
    raise ValueError(f"{name} in {os.fspath(folder)!r} is missing, damaged or of another result than {JSON_NAME}")
