"""Questions as rows of a table and back: what a saved benchmark holds."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import followed_home
from mechaudio.audio.events import Event
from mechaudio.audio.stored import StoredClip, duration_of
from mechaudio.data.tables import Table
from mechaudio.question import AudioQuestion, questions_by_id

if TYPE_CHECKING:
    import pyarrow
    from datasets import Features


META = ("task", "clip", "lead", "options_from")
"""Columns of every question; `options_from` says of each choice where it is from."""


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


def arrow_table(questions: Sequence[AudioQuestion], *, embed: bool, within: Path | None = None) -> "pyarrow.Table":
    """Questions as rows.

    Without `embed` the paths of recordings are put in, not their bytes; of files only those `within` a folder are.

    Raises:
        FileNotFoundError: For a recording that is to be put in and is not there.
        ValueError: For a recording without a path where only paths are kept, or one to be put in that is no sound or
            lies elsewhere.
    """
    import pyarrow

    rows = [
        {
            "id": question.id,
            "audio": _stored(question, embed, within),
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


def _stored(question: AudioQuestion, embed: bool, within: Path | None) -> dict[str, Any]:
    audio, name = question.audio, str(question.meta["clip"])
    if isinstance(audio, (str, os.PathLike)):
        if not embed:
            return {"bytes": None, "path": os.fspath(audio)}
        path = Path(followed_home(audio))
        if within is not None and not path.resolve().is_relative_to(within.resolve()):
            raise ValueError(
                f"the recording of {question.id!r}, {os.fspath(audio)!r}, lies outside {os.fspath(within)!r}, which "
                "the benchmark was loaded from: a file that somebody else named is not put in. Copy it there if it is "
                "meant, or save with embed=False"
            )
        clip = StoredClip(partial(whole_file, path), os.fspath(audio))
        duration_of(clip)  # only sound is put in
        return {"bytes": clip.read(), "path": path.name}
    if not embed:
        raise ValueError(f"the recording of {question.id!r} has no path of its own: save with embed=True")
    if isinstance(audio, StoredClip):
        duration_of(audio)
        return {"bytes": audio.read(), "path": name}
    if audio is None:
        raise ValueError(f"question {question.id!r} has no recording to be put in")
    return {"bytes": audio.to_wav(), "path": f"{name}.wav"}


def whole_file(path: Path) -> bytes:
    """The bytes of a file; a pipe or a device, which has no end, is refused.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{os.fspath(path)!r} is no file: a recording is")
    return path.read_bytes()


def questions_of(table: Table) -> tuple[AudioQuestion, ...]:
    """The questions of rows that `arrow_table` made.

    Raises:
        ValueError: If a column is missing, a row is no question of a benchmark, or two have one id.
    """
    table.need(features())
    questions = tuple(_question(f"row {number} of {table.name}", row) for number, row in enumerate(table.rows))
    alone = questions_by_id(questions)
    twin = next((question.id for question in questions if question.id not in alone), None)
    if twin is not None:
        raise ValueError(f"{table.name} has several questions of the id {twin!r}: answers are told apart by it")
    return questions


def _question(name: str, row: Mapping[str, Any]) -> AudioQuestion:
    try:
        question = AudioQuestion(
            audio=row["audio"],
            text=row["question"],
            choices=row["choices"],
            answer=row["answer"],
            caption=row["caption"],
            events=tuple(Event(**event) for event in row["events"]),
            id=row["id"],
            meta=_tuples(json.loads(row["meta"])),
        )
        lacking = [word for word in META if word not in question.meta]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} is no question of a benchmark: {error}") from error
    if lacking or len(question.meta["options_from"]) != len(question.choices):
        raise ValueError(f"{name} is no question of a benchmark: its meta needs {', '.join(META)}, one per choice")
    if row["task"] != question.meta["task"]:
        raise ValueError(
            f"{name} is no question of a benchmark: its task is {row['task']!r}, and that of its meta "
            f"{question.meta['task']!r}"
        )
    return question


def _tuples(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in meta.items()}
