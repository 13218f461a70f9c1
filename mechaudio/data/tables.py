"""Rows of a corpus, wherever they are: JSON, JSON lines, CSV, TSV or parquet files, the hub, or an opened dataset.

Files of text are read here, because their columns mix types (a category that is now a text, now a list of texts),
which Arrow tables refuse. Parquet files and the hub are read with `datasets`; sounds stay encoded until asked for.
"""

import csv
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import n_of
from mechaudio.audio.stored import StoredClip
from mechaudio.data.corpus import Problems, brief

if TYPE_CHECKING:
    from datasets import Dataset

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*DELIMITERS, ".json", ".jsonl", ".parquet")
MOST_CHARACTERS = (1 << 31) - 1  # the csv module counts those of a field in a C long
NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""Bytes of a file that are no text, as `surrogateescape` keeps them."""


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of a source.

    Attributes:
        name: Where they are from, for errors and ids.
        columns: Names of the columns, in order.
        rows: Each a mapping of column to value; a sound that is kept inside is a `StoredClip`.
        folder: Where the file is, None for what is no file.
        version: The hub's revision, if one was named; `sha256:` and the first digits of a text file's digest; or
            `datasets:` and the dataset's fingerprint.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Mapping[str, Any]]
    folder: Path | None
    version: str

    def need(self, columns: Iterable[str], advice: str = "") -> None:
        """Say which columns are missing and which there are.

        Raises:
            ValueError: If one is missing.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing:
            raise ValueError(
                f"{self.name} has no column {', '.join(map(repr, missing))}; its columns are "
                f"{', '.join(map(repr, self.columns))}{': ' + advice if advice else ''}"
            )


def read_table(
    source: "str | os.PathLike | Dataset",
    problems: Problems,
    *,
    split: str | None = None,
    revision: str | None = None,
    header: Sequence[str] | None = None,
) -> Table:
    """The rows of a file, a folder of parquet files, a dataset of the hub, or an opened `datasets.Dataset`.

    Args:
        source: A path; a hub id such as `owner/name`; or a dataset.
        problems: Where rows that cannot be read are listed.
        split: Which one of the hub's splits, needed where there are several.
        revision: A commit, tag or branch of the hub.
        header: The columns of a CSV or TSV file that names none itself.

    Raises:
        FileNotFoundError: For a path that leads nowhere and is no hub id.
        ValueError: For a file that is damaged or of another kind, or a split that has to be chosen.
        TypeError: For a source of another kind.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _dataset_table(_one_split(source, split, "the dataset"), "the dataset")
    path = Path(source)
    if os.path.isdir(path):  # unlike Path.is_dir, false for a name that no file can have
        return _parquet_table(path, split)
    if os.path.isfile(path):
        return _parquet_table(path, split) if path.suffix == ".parquet" else _text_table(path, problems, header)
    if isinstance(source, str) and _is_hub_id(source):
        from datasets import load_dataset

        return _dataset_table(_one_split(load_dataset(source, revision=revision), split, source), source, revision)
    if os.path.exists(path):
        raise ValueError(f"{os.fspath(source)!r} is a pipe or a device, not a file: write its rows to a file")
    raise FileNotFoundError(
        f"there is no file or folder {os.fspath(source)!r} (looked from {os.getcwd()!r}), and it is no hub id, which "
        "reads 'owner/name'"
    )


def _is_hub_id(source: str) -> bool:
    owner, _, name = source.partition("/")
    is_path = owner in (".", "..", "~") or Path(name).suffix.lower() in SUFFIXES
    return bool(owner and name) and "/" not in name and not is_path


def _text_table(path: Path, problems: Problems, header: Sequence[str] | None) -> Table:
    suffix = path.suffix.lower()
    raw = path.read_bytes()
    version = f"sha256:{hashlib.sha256(raw).hexdigest()[:12]}"
    if suffix in DELIMITERS:
        columns, rows = _delimited(path, _lines(path, raw), DELIMITERS[suffix], problems, header)
    elif suffix == ".jsonl":
        columns, rows = _json_rows(path, list(_json_lines(path, _lines(path, raw), problems)), problems)
    elif suffix == ".json":
        columns, rows = _json_rows(path, _json(path, raw, problems), problems)
    else:
        raise ValueError(f"{str(path)!r} is of an unknown kind; {', '.join(SUFFIXES)} are read")
    return Table(str(path), columns, rows, path.parent, version)


def _delimited(
    path: Path, text: str, delimiter: str, problems: Problems, header: Sequence[str] | None
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    longest = max(map(len, text.split("\n")))  # a field of more than a line and of this has a quote that is not closed
    usual = csv.field_size_limit()
    csv.field_size_limit(min(max(usual, longest), MOST_CHARACTERS))
    try:
        columns = tuple(header) if header is not None else tuple(name.strip() for name in next(lines, ()))
        if not columns:
            raise ValueError(f"{str(path)!r} is empty: it needs a line that names its columns")
        twice = [name for name, count in Counter(columns).items() if count > 1]
        if twice:
            problem = f"the columns {', '.join(map(repr, twice))} are there more than once; the first of each is read"
            problems.add("duplicate column", path.name, problem)
        rows = []
        for line in lines:
            if NOT_UTF8.search("".join(line)):
                _list_not_utf8(problems, f"{path.name}, line {lines.line_num}")
            elif len(line) == len(columns):
                rows.append(dict(zip(reversed(columns), reversed(line), strict=True)))  # the first of a name wins
            elif line:
                problem = f"{n_of(len(line), 'field')} for {n_of(len(columns), 'column')}: {brief(line)}; left out"
                problems.add("malformed row", f"{path.name}, line {lines.line_num}", problem)
    except csv.Error as error:
        raise ValueError(
            f"{str(path)!r} is damaged at line {lines.line_num} ({error}): is a quote not closed?"
        ) from error
    finally:
        csv.field_size_limit(usual)
    return tuple(dict.fromkeys(columns)), rows


def read_json(path: Path, problems: Problems | None = None) -> Any:
    """A JSON file, whatever it holds.

    Args:
        path: The file.
        problems: Where members of its list or object are listed, and left out, that are no text in UTF-8.

    Raises:
        ValueError: If it is damaged, or not in UTF-8, but for some members that are listed.
    """
    return _json(path, path.read_bytes(), problems)


def _json(path: Path, raw: bytes, problems: Problems | None) -> Any:
    try:
        text, whole = raw.decode("utf-8-sig"), True
    except UnicodeDecodeError as error:
        if problems is None:
            raise _not_utf8(path, error) from error
        text, whole = raw.decode("utf-8-sig", "surrogateescape"), False
    try:
        value = json.loads(text, strict=False)  # which takes a line end within a text
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged, or not JSON in UTF-8: {error}") from error
    return value if whole else _members_in_utf8(path, value, problems)


def _members_in_utf8(path: Path, value: Any, problems: Problems) -> Any:
    """A list or an object without the members that hold bytes which are no text."""
    named = enumerate(value, start=1) if isinstance(value, list) else getattr(value, "items", tuple)()
    kept = {}
    for name, member in named:
        if NOT_UTF8.search(json.dumps([name, member], ensure_ascii=False)):
            where = f"row {name}" if isinstance(value, list) else repr(name)
            _list_not_utf8(problems, f"{path.name}, {where}")
        else:
            kept[name] = member
    if not kept:
        raise ValueError(f"{str(path)!r} is not text in UTF-8: save it as UTF-8")
    return list(kept.values()) if isinstance(value, list) else kept


def _json_lines(path: Path, text: str, problems: Problems) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if NOT_UTF8.search(line):
            _list_not_utf8(problems, f"{path.name}, line {number}")
            continue
        try:
            yield json.loads(line, strict=False)
        except (ValueError, RecursionError) as error:
            problems.add("malformed row", f"{path.name}, line {number}", f"not JSON, {error}; left out", error)


def _list_not_utf8(problems: Problems, item: str) -> None:
    problems.add("malformed row", item, "not text in UTF-8: save the file as UTF-8; left out")


def _json_rows(path: Path, value: Any, problems: Problems) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    if not rows:
        raise ValueError(f"{str(path)!r} should hold objects, one per row; it holds {_shape(value)}")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            problems.add("malformed row", f"{path.name}, row {number}", f"not an object, {brief(row)}; left out")
    return tuple(dict.fromkeys(column for row in rows for column in row)), rows


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {type(value[0]).__name__}" if value else "an empty list"
    return f"a {type(value).__name__}"


def _lines(path: Path, raw: bytes) -> str:
    """A file of lines as text; bytes that are none are left for the lines that have them, unless the first has."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\n" in raw[: error.start]:
            return raw.decode("utf-8-sig", "surrogateescape")
        raise _not_utf8(path, error) from error


def _not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    return ValueError(f"{str(path)!r} is not text in UTF-8 (byte {error.start}): save it as UTF-8")


def _parquet_table(path: Path, split: str | None) -> Table:
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError
    from pyarrow import parquet

    files = [path] if path.is_file() else sorted(file for file in path.rglob("*.parquet") if file.is_file())
    if split is not None and path.is_dir():
        files = [file for file in files if _is_of(split, file)]
    if not files:
        which = "" if split is None else f" of the split {split!r}, such as '{split}-00000-of-00001.parquet',"
        raise FileNotFoundError(f"there are no parquet files{which} in {str(path)!r}: give the file itself")
    if sum(map(_n_rows, files)):
        try:
            dataset = Dataset.from_parquet([str(file) for file in files])
        except DatasetGenerationError as error:
            raise ValueError(
                f"{str(path)!r} is damaged, or its files have different columns ({error.__cause__ or error}): copy or "
                "download it again, or give one file"
            ) from error
    else:
        dataset = Dataset(parquet.read_table(files[0]))  # from_parquet refuses what has no rows
    table = _dataset_table(dataset, str(path))
    return Table(table.name, table.columns, table.rows, path if path.is_dir() else path.parent, table.version)


def _is_of(split: str, file: Path) -> bool:
    """By the hub's names: `test.parquet`, `test-00000-of-00001.parquet`, `test/0000.parquet`; not `test-mini`."""
    return bool(re.fullmatch(rf"{re.escape(split)}(-\d.*)?", file.stem)) or file.parent.name == split


def _n_rows(file: Path) -> int:
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.read_metadata(file).num_rows
    except ArrowInvalid as error:
        raise ValueError(f"{str(file)!r} is damaged, or not parquet: copy or download it again") from error


def _one_split(source: Any, split: str | None, name: str) -> "Dataset":
    from datasets import Dataset, DatasetDict

    if isinstance(source, Dataset):
        return source
    if not isinstance(source, DatasetDict):
        raise TypeError(f"a corpus is read from a path, a hub id or a datasets.Dataset, got a {type(source).__name__}")
    if split is None and len(source) == 1:
        return next(iter(source.values()))
    if split not in source:
        raise ValueError(f"{name} has the splits {', '.join(source)}: choose one, split={next(iter(source))!r}")
    return source[split]


def _dataset_table(dataset: "Dataset", name: str, revision: str | None = None) -> Table:
    from datasets import Audio

    for column, feature in dataset.features.items():
        if isinstance(feature, Audio):
            dataset = dataset.cast_column(column, Audio(decode=False))
    version = revision or f"datasets:{dataset._fingerprint}"
    return Table(name, tuple(dataset.column_names), _Rows(dataset, name), None, version)


class _Rows:
    """The rows of a dataset; the bytes of a sound are fetched when its clip is asked for, and not before."""

    def __init__(self, dataset: "Dataset", name: str):
        self.dataset, self.name = dataset, name
        self.sounds = [column for column, feature in dataset.features.items() if _holds_sound(feature)]
        self.light = dataset.remove_columns(self.sounds)
        self.arrow = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = self.light if self.light.column_names else ({} for _ in range(len(self)))
        for index, row in enumerate(rows):
            yield dict(row) | {column: self._sound(index, column) for column in self.sounds}

    def _sound(self, index: int, column: str) -> StoredClip | str | None:
        stored = self.arrow[index].column(column)[0]  # a view: no sound is copied
        if not stored.is_valid:
            return None
        held = {field.name for field in stored.type if stored[field.name].is_valid}
        source = f"{self.name}, row {index}, {column}"
        if "bytes" in held:
            return StoredClip(lambda: self.arrow[index].column(column)[0]["bytes"].as_py(), source)
        if "array" in held:
            return StoredClip(lambda: self.arrow[index].column(column)[0].as_py(), source)
        return stored["path"].as_py() if "path" in held else None


def _holds_sound(feature: Any) -> bool:
    from datasets import Audio

    return isinstance(feature, Audio) or (isinstance(feature, dict) and ("bytes" in feature or "array" in feature))
