"""Any table of sound events: one row per event, with its file, label, onset and offset.

Read are CSV and TSV files with a line of column names, JSON and JSON lines (a list of such rows), JSON objects of file
to its events (`{"a.wav": [{"label": "dog", "onset": 0.4, "offset": 2.1}]}` or `{"a.wav": [["dog", 0.4, 2.1]]}`),
parquet files and datasets of the hub.

Conventions: seconds from the start of the clip.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.annotated import Annotation, annotated_corpus
from mechaudio.data.asked import text_or_none
from mechaudio.data.choices import is_missing
from mechaudio.data.corpus import Corpus, Problems, brief
from mechaudio.data.tables import Table, read_json, read_table

if TYPE_CHECKING:
    from datasets import Dataset

FIELDS = ("file", "label", "onset", "offset")


@checks_arguments
def load(
    source: "str | os.PathLike | Dataset",
    *,
    columns: Mapping[str, str] | None = None,
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AnnotatedClip]:
    """The clips of a table of events.

    ```python
    ma.data.annotations.load("events.tsv", columns={"file": "filename", "label": "event_label"})
    ```

    Args:
        source: A file, a hub id, or a `datasets.Dataset`.
        columns: What the columns `file`, `label`, `onset`, `offset` are called in it, and `caption`, if there is one;
            those that are not named are called so.
        audio: The folder of the recordings, by default that of the file.
        split: Which one of the hub's splits.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: Raise at the first problem instead of listing it.

    Returns:
        A clip for every file, in the order in which they first come; columns beside those named, as they are in the
        clip's first row, are its `meta`. A row with a file and no label, onset and offset stands for a clip in which
        nothing was heard.

    Raises:
        FileNotFoundError: If there is no such file, or `audio` is given and none of the recordings is there.
        ValueError: For columns that are not there, which says those that are, or, if `strict`, at the first problem.
    """
    problems = Problems(strict)
    table = _table(source, split, problems)
    named = {field: field for field in (*FIELDS, "caption")} | dict(columns or {})
    strange = [field for field in named if field not in (*FIELDS, "caption")]
    if strange:
        raise ValueError(f"columns names {', '.join(map(repr, strange))}; it may name {', '.join(FIELDS)}, caption")
    needed = [named[field] for field in FIELDS] + ([named["caption"]] if "caption" in (columns or {}) else [])
    table.need(needed, "say what they are called, columns={'file': ..., 'label': ..., 'onset': ..., 'offset': ...}")
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for number, row in enumerate(table.rows, start=1):
        name = row.get(named["file"])
        if not isinstance(name, str) or not name.strip():
            problems.add("malformed row", f"row {number}", f"the file is {brief(name)}; left out")
            continue
        grouped.setdefault(name.strip(), []).append(row)

    def annotations() -> Iterator[Annotation]:
        for name, rows in grouped.items():
            times = [tuple(row.get(named[field]) for field in FIELDS[1:]) for row in rows]
            spoken = [time for time in times if not all(is_missing(value) or value == "" for value in time)]
            caption = text_or_none(rows[0].get(named["caption"]))
            meta = {column: value for column, value in rows[0].items() if column not in named.values()}
            yield Annotation(name, spoken, (name,), caption, meta)

    return annotated_corpus(
        Path(table.name).stem, annotations, problems, sounds=(audio, table.folder, check), version=table.version
    )


def _table(source: Any, split: str | None, problems: Problems) -> Table:
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None or path.suffix.lower() != ".json" or not path.is_file():
        return read_table(source, problems, split=split)
    value = read_json(path, problems)
    if not isinstance(value, dict):
        return read_table(path, problems)
    rows = [row for name, events in value.items() for row in _rows_of(name, events, problems)]
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Table(str(path), columns if len(columns) > 1 else FIELDS, rows, path.parent, "")


def _rows_of(name: str, events: Any, problems: Problems) -> list[dict[str, Any]]:
    if not isinstance(events, list):
        problems.add("malformed row", name, f"its events are a list, got {brief(events)}; left out")
        return []
    rows: list[dict[str, Any]] = [] if events else [{"file": name}]
    for event in events:
        if isinstance(event, dict):
            rows.append({"file": name} | event)
        elif isinstance(event, list) and len(event) == 3:
            rows.append({"file": name} | dict(zip(FIELDS[1:], event, strict=True)))
        else:
            problems.add("malformed row", name, f"an event is an object or [label, onset, offset], got {brief(event)}")
    return rows
