"""Questions as rows of a table and back: what a saved benchmark holds."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechaudio.audio.events import Event
from mechaudio.audio.stored import StoredClip
from mechaudio.data.tables import Table
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    import pyarrow
    from datasets import Features


def features() -> "Features":
    """The columns of a saved benchmark."""
    from datasets import Audio, Features, List, Value

    text = Value("string")
    return Features(
        {
            "id": text,
            "audio": Audio(decode=False),
            "task": text,
            "question": text,
            "choices": List(text),
            "answer": text,
            "caption": text,
            "events": List({"label": text, "onset": Value("float64"), "offset": Value("float64")}),
            "meta": text,
        }
    )


def arrow_table(questions: Sequence[AudioQuestion], *, embed: bool) -> "pyarrow.Table":
    """Questions as rows.

    Args:
        questions: each with `meta["task"]` and `meta["clip"]`.
        embed: whether the bytes of the recordings are put in, or their paths.

    Raises:
        FileNotFoundError: for a recording that is to be put in and is not there.
        ValueError: for a recording without a path where only paths are kept.
    """
    import pyarrow

    rows = [
        {
            "id": question.id,
            "audio": _stored(question, embed),
            "task": question.meta["task"],
            "question": question.text,
            "choices": list(question.choices),
            "answer": question.answer,
            "caption": question.caption,
            "events": [asdict(event) for event in question.events],
            "meta": json.dumps(dict(question.meta), ensure_ascii=False, sort_keys=True),
        }
        for question in questions
    ]
    return pyarrow.Table.from_pylist(rows, schema=features().arrow_schema)


def _stored(question: AudioQuestion, embed: bool) -> dict[str, Any]:
    audio, name = question.audio, str(question.meta["clip"])
    if isinstance(audio, (str, os.PathLike)):
        path = Path(audio)
        return {"bytes": path.read_bytes(), "path": path.name} if embed else {"bytes": None, "path": os.fspath(audio)}
    if not embed:
        raise ValueError(f"the recording of {question.id!r} has no path of its own: save with embed=True")
    if isinstance(audio, StoredClip):
        return {"bytes": audio.read(), "path": name}
    if audio is None:
        raise ValueError(f"question {question.id!r} has no recording to be put in")
    return {"bytes": audio.to_wav(), "path": f"{name}.wav"}


def questions_of(table: Table) -> tuple[AudioQuestion, ...]:
    """The questions of rows that `arrow_table` made.

    Raises:
        ValueError: if a column is missing.
    """
    table.need(features())
    return tuple(
        AudioQuestion(
            audio=row["audio"],
            text=row["question"],
            choices=row["choices"],
            answer=row["answer"],
            caption=row["caption"],
            events=tuple(Event(**event) for event in row["events"]),
            id=row["id"],
            meta=_tuples(json.loads(row["meta"])),
        )
        for row in table.rows
    )


def _tuples(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in meta.items()}
