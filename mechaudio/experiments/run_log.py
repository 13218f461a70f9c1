"""What a run writes as it goes, so that nothing is lost when it is killed.

`answers.jsonl` begins with a line that says what is run: settings, model, versions. Then comes one line per question,
with its answers under every variant, or with the error that kept it from being asked. The lines of a batch are written
together and forced to the disk. Each says how many lines its batch has, so that a batch that was cut short, between
lines or within one, is recognised when the run is taken up again: it is cut off the file and asked anew.

Conventions: a question is known by its place in the stream, and by a digest of what it asks.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip
from mechaudio.question import AudioQuestion

SCHEMA = 1
LOG_NAME = "answers.jsonl"
_MOST_SAID = 200


@dataclass(frozen=True)
class Row:
    """What became of one question.

    Attributes:
        index: Its place in the stream, from 0.
        id: Of the question.
        question: Digest of what it asks.
        task: Of the question.
        options: Its choices.
        answer: The right one, None where it is not known.
        logits: Per variant those of the choices' letters, None for one that is not finite.
        texts: Per variant what the model wrote.
        error: Why it could not be asked, blank if it was.
    """

    index: int
    id: str
    question: str
    task: str
    options: tuple[str, ...]
    answer: str | None
    logits: tuple[tuple[float | None, ...], ...] = ()
    texts: tuple[str, ...] = ()
    error: str = ""


class RunLog:
    """The rows of a run, in memory and, where a folder is given, in its `answers.jsonl`.

    Args:
        folder: None to keep nothing.
        header: What is run, in words of JSON; `header["run"]` has to be the same when the run is taken up again,
            anything else is taken from the file.

    Raises:
        ValueError: If the folder holds a run of something else, or a damaged one, or is written to by another process.
        NotADirectoryError: If there is a file in the folder's place.
    """

    def __init__(self, folder: str | os.PathLike | None, header: Mapping[str, Any]):
        self.header: dict[str, Any] = {"schema": SCHEMA, **header}
        self.rows: dict[int, Row] = {}
        self._n_batches = 0
        self._file: BinaryIO | None = None
        if folder is None:
            return
        place = Path(folder) / LOG_NAME
        if Path(folder).exists() and not Path(folder).is_dir():
            raise NotADirectoryError(f"a run is kept in a folder, and {os.fspath(folder)!r} is a file: give another")
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not place.exists():
            _begin(place, self.header)
        self._file = place.open("r+b")
        try:
            _claim(self._file, place)
            self._take_up(place)
        except BaseException:
            self._file.close()
            raise

    def _take_up(self, place: Path) -> None:
        """Read what is there, and cut off what was not finished."""
        assert self._file is not None
        whole = self._file.read().split(b"\n")[:-1]  # behind the last end of a line: nothing, or a line that broke off
        known = _header(place, whole[0] if whole else b"")
        _refuse_others(place, known["run"], self.header["run"])
        self.header = known
        end, kept, batch = len(whole[0]) + 1, len(whole[0]) + 1, list[Row]()
        for number, line in enumerate(whole[1:], start=2):
            end += len(line) + 1
            if number == len(whole) and _json(line) is None:
                break  # the last line, broken
            row, which, size = _row(place, number, line)
            if which != self._n_batches or len(batch) >= size:
                raise ValueError(f"{str(place)!r} is damaged at line {number}: a line of batch {which} is out of place")
            batch.append(row)
            if len(batch) == size:
                self.rows |= {row.index: row for row in batch}
                self._n_batches += 1
                kept, batch = end, []
        self._file.truncate(kept)
        self._file.seek(kept)

    @property
    def failed(self) -> set[int]:
        """Places of the questions that could not be asked."""
        return {index for index, row in self.rows.items() if row.error}

    def check(self, index: int, question: AudioQuestion) -> None:
        """Refuse a question that is another one than was asked in its place.

        Raises:
            ValueError: It is; the message says which.
        """
        row = self.rows[index]
        if row.question != digest(question):
            which = f"{question.id!r} for {row.id!r}" if question.id != row.id else f"{row.id!r}, with another content"
            raise ValueError(
                f"question {index} is not the one that this run asked before ({which}): take it up with the same "
                "questions in the same order, or give another out="
            )

    def add(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one batch, all or none of them."""
        if not rows:
            return
        place = {"batch": self._n_batches, "of": len(rows)}
        if self._file is not None:
            self._file.write("".join(_line(asdict(row) | place) for row in rows).encode("utf-8", "surrogatepass"))
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows |= {row.index: row for row in rows}
        self._n_batches += 1

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest(question: AudioQuestion) -> str:
    """What tells a question from others: what it asks, its name, task and keyword, and its recording.

    Nothing is read for it: a recording is known by its samples if it is in memory, else by the name of its file.
    """
    audio = question.audio
    if isinstance(audio, AudioClip):
        sound = f"{audio.sample_rate} {hashlib.sha256(audio.waveform.tobytes()).hexdigest()}"
    else:
        sound = Path(audio.source if isinstance(audio, StoredClip) else audio or "").name
    asked = [question.id, question.text, question.choices, question.answer, question.caption, sound]
    asked += [str(question.meta.get(name, "")) for name in ("task", "keyword")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _begin(place: Path, header: Mapping[str, Any]) -> None:
    """Make the file with its first line, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".beginning-") as drafts:
        draft = Path(drafts, LOG_NAME)
        with draft.open("wb") as file:
            file.write(_line(header).encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, place)


def _claim(file: BinaryIO, place: Path) -> None:
    """Keep other processes out until the file is closed, where the system can; a killed process lets go of it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"another process is writing to {str(place)!r}: wait for it, or give another out=") from error


def _header(place: Path, line: bytes) -> dict[str, Any]:
    header = _json(line)
    if not isinstance(header, dict) or not isinstance(header.get("schema"), int) or "run" not in header:
        raise ValueError(f"{str(place)!r} does not begin as a run of mechaudio does: give another out=")
    if header["schema"] > SCHEMA:
        raise ValueError(f"{str(place)!r} has format {header['schema']}, and {SCHEMA} is known: upgrade mechaudio")
    return header


def _refuse_others(place: Path, there: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    before, now = _flat(there), _flat(json.loads(_line(given)))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if "interventions" in differing:
        differing.remove("interventions_sha256")  # what they read like says more
    if differing:
        told = "; ".join(f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}" for name in differing)
        raise ValueError(f"{str(place)!r} is of another run: {told}. Take it up as it was, or give another out=")


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]} ..."


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _flat(part, f"{before}{name}.") if isinstance(part, Mapping) else {f"{before}{name}": part}
    return found


def _row(place: Path, number: int, line: bytes) -> tuple[Row, int, int]:
    """A row, the number of its batch and the size of that."""
    value = _json(line)
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(Row)} | {"batch", "of"}:
        raise ValueError(f"{str(place)!r} is damaged at line {number}: it is not the line of a question")
    which, size = value.pop("batch"), value.pop("of")
    value |= {name: tuple(value[name]) for name in ("options", "texts")}
    return Row(**value | {"logits": tuple(map(tuple, value["logits"]))}), which, size


def _json(line: bytes) -> Any:
    """What a line says; None where it is not JSON."""
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
