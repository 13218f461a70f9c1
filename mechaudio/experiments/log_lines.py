"""The lines of a run's log: written with checksums, and read with nothing taken on trust.

Conventions: a line is one JSON object; its checksum is of itself and of the line before it, and so of all of them. It
tells of damage and of changes by hand, not of a forger who makes all checksums anew: what a line says is checked
against the question too, when it is asked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mechaudio.arguments import n_of

SCHEMA = 3
_MOST_SAID, _CHECKSUM = 200, 16


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
        logits: Per variant those of the choices' letters; in the file NaN is null, and infinity `"inf"` or `"-inf"`.
        texts: Per variant what the model wrote.
        error: Why it could not be asked, blank if it was.
    """

    index: int
    id: str
    question: str
    task: str
    options: tuple[str, ...]
    answer: str | None
    logits: tuple[tuple[float, ...], ...] = ()
    texts: tuple[str, ...] = ()
    error: str = ""


def as_line(value: Mapping[str, Any]) -> str:
    """A JSON object as one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def signed(value: Mapping[str, Any], before: str) -> tuple[str, str]:
    """A line with its checksum, and the checksum; that of the line before it is blank in front of the first."""
    checksum = hashlib.sha256((before + as_line(value)).encode("utf-8", "surrogatepass")).hexdigest()[:_CHECKSUM]
    return as_line({**value, "checksum": checksum}), checksum


def read_header(place: Path, line: bytes, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The first line of a log, and its checksum.

    It has the fields of the header of the run that takes it up, and of the same kinds.

    Raises:
        ValueError: It is not the first line of a log, of another format, or damaged.
    """
    header = parsed(line)
    if not isinstance(header, dict) or type(header.get("schema")) is not int or not isinstance(header.get("run"), dict):
        raise ValueError(f"{str(place)!r} does not begin as a run of mechaudio does: give another out=")
    if header["schema"] != SCHEMA:
        newer = header["schema"] > SCHEMA
        advice = "upgrade mechaudio" if newer else "an earlier version wrote it, so begin with another out="
        raise ValueError(f"{str(place)!r} has format {header['schema']}, and {SCHEMA} is known: {advice}")
    wrong = [name for name, value in given.items() if type(header.get(name)) is not type(value)]
    if wrong or set(header) != {*given, "checksum"}:
        told = f"{wrong[0]} is {short(header.get(wrong[0]))}" if wrong else f"it has the fields {sorted(header)}"
        raise ValueError(damaged(place, 1, told))
    return header, verified(place, 1, header, "")


def read_line(place: Path, number: int, line: bytes, before: str, n_variants: int | None) -> tuple[Row, int, int, str]:
    """One line about a question: what it says, the number of its batch, the lines of that, and its checksum.

    It has to hold `n_variants` answers, where their number is known.

    Raises:
        ValueError: It is not as it was written, or says what no line can say.
    """
    value = parsed(line)
    if not isinstance(value, dict) or set(value) != {*_KINDS, "checksum"}:
        raise ValueError(damaged(place, number, "it is not the line of a question"))
    checksum = verified(place, number, value, before)
    wrong = [name for name, is_right in _KINDS.items() if not is_right(value[name])]
    if wrong:
        raise ValueError(damaged(place, number, f"{wrong[0]} is {short(value[wrong[0]])}"))
    batch, size = value.pop("batch"), value.pop("of")
    value |= {name: tuple(value[name]) for name in ("options", "texts")}
    value["logits"] = tuple(tuple(map(_logit, one)) for one in value["logits"])
    row = Row(**value)
    if (strange := _strange_answers(row, n_variants)) is not None:
        raise ValueError(damaged(place, number, strange))
    return row, batch, size, checksum


class LinesReader:
    """A log, whose header has the fields of a given one, as far as it was read or written.

    Attributes:
        header: Of the log; empty before it was read.
        end: Bytes as far as the last line that was kept.
        seen: Bytes that were there when it was read last.
        checksum: Of the last line that was kept.
    """

    def __init__(self, place: Path, given: Mapping[str, Any]):
        self.header: dict[str, Any] = {}
        self.end = self.seen = self._n_lines = 0
        self.checksum = ""
        self._place, self._given = place, given

    def new_lines(self, file: BinaryIO) -> list[tuple[int, bytes]]:
        """The whole lines behind `end`, with their numbers; a last line that broke off is left out.

        Raises:
            ValueError: It is no log of this kind, or its first line is damaged.
        """
        file.seek(self.end)
        written = file.read()
        self.seen = self.end + len(written)
        lines = written.split(b"\n")[:-1]  # behind the last end of a line: nothing, or a line that broke off
        if not self.end:
            self.header, checksum = read_header(self._place, lines[0] if lines else b"", self._given)
            self.keep(1, len(lines[0]) + 1, checksum)
            lines = lines[1:]
        if lines and parsed(lines[-1]) is None:
            lines.pop()
        return list(enumerate(lines, start=self._n_lines + 1))

    def keep(self, n_lines: int, n_bytes: int, checksum: str) -> None:
        """Take lines as read or written."""
        self._n_lines, self.end, self.checksum = self._n_lines + n_lines, self.end + n_bytes, checksum


class LogReader(LinesReader):
    """A log of questions, as far as it was read or written: whole batches, of which more may follow.

    Each question has to have `n_variants` answers, where their number is known.
    """

    def __init__(self, place: Path, given: Mapping[str, Any], n_variants: int | None):
        super().__init__(place, given)
        self._n_variants, self._n_batches = n_variants, 0
        self._answered: set[int] = set()

    def read(self, file: BinaryIO) -> list[Row]:
        """The rows of the whole batches behind `end`.

        Raises:
            ValueError: The log is damaged.
        """
        new = self.new_lines(file)
        rows, batch, n_bytes, checksum = list[Row](), list[Row](), 0, self.checksum
        for number, line in new:
            n_bytes += len(line) + 1
            row, in_batch, size, checksum = read_line(self._place, number, line, checksum, self._n_variants)
            if in_batch != self._n_batches or len(batch) >= size:
                raise ValueError(damaged(self._place, number, f"a line of batch {in_batch} is out of place"))
            if row.index in self._answered or any(row.index == other.index and not other.error for other in batch):
                raise ValueError(damaged(self._place, number, f"question {row.index} was answered in an earlier line"))
            batch.append(row)
            if len(batch) == size:
                self.keep_batch(batch, n_bytes, checksum)
                rows += batch
                batch, n_bytes = [], 0
        return rows

    def lines(self, rows: Sequence[Row]) -> tuple[bytes, str]:
        """A batch as the lines that follow, and the checksum of the last."""
        lines, checksum = [], self.checksum
        for row in rows:
            logits = [[_written(logit) for logit in one] for one in row.logits]
            value = asdict(row) | {"logits": logits, "batch": self._n_batches, "of": len(rows)}
            line, checksum = signed(value, checksum)
            lines.append(line)
        return "".join(lines).encode("utf-8", "surrogatepass"), checksum

    def keep_batch(self, rows: Sequence[Row], n_bytes: int, checksum: str) -> None:
        """Take a whole batch as read or written."""
        self.keep(len(rows), n_bytes, checksum)
        self._n_batches += 1
        self._answered |= {row.index for row in rows if not row.error}


def _strange_answers(row: Row, n_variants: int | None) -> str | None:
    """Why these cannot be the answers to the question; None where they can."""
    answers = [*row.logits, *row.texts]
    if row.error:
        return "it holds an error and answers" if answers else None
    if not answers or (row.logits and row.texts):
        return "it holds logits and texts" if answers else "it holds neither an error nor an answer"
    if any(len(logits) != len(row.options) for logits in row.logits):
        return f"it does not have one logit for each of {n_of(len(row.options), 'choice')}"
    if n_variants is not None and len(answers) != n_variants:
        return f"it has {n_of(len(answers), 'answer')}, and {n_variants} were asked for"
    return None


def verified(place: Path, number: int, value: dict[str, Any], before: str) -> str:
    """Take the checksum off a line.

    Raises:
        ValueError: It is not that of the line where it stands.
    """
    checksum = value.pop("checksum")
    try:
        is_same = checksum == signed(value, before)[1]
    except ValueError:  # a number that no line can hold, such as NaN
        is_same = False
    if not is_same:
        raise ValueError(damaged(place, number, "it, or the line before it, is not as it was written"))
    return checksum


def _written(logit: float) -> float | str | None:
    """A logit as JSON, which has no word for what is not finite."""
    return logit if math.isfinite(logit) else None if math.isnan(logit) else str(logit)


def _logit(written: Any) -> float:
    return math.nan if written is None else float(written)


def _is_logit(written: Any) -> bool:
    return written is None or written in ("inf", "-inf") or type(written) in (int, float)


def damaged(place: Path, number: int, why: str) -> str:
    """Describe a damaged file."""
    return f"{str(place)!r} is damaged at line {number}: {why}. Put back the file as it was, or give another out="


def short(value: Any) -> str:
    """A value for a message, cut if it is long."""
    said = repr(value)
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]} ..."


def parsed(line: bytes) -> Any:
    """Read a line; None where it is not JSON."""
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def _list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(part) in kinds for part in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


#: Name of a part of a line -> whether a value is of its kind.
_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "question", "task", "error"), lambda value: type(value) is str),
    **dict.fromkeys(("index", "batch"), _is_count),
    "of": lambda value: _is_count(value) and value > 0,
    "answer": lambda value: value is None or type(value) is str,
    **dict.fromkeys(("options", "texts"), _list_of(str)),
    "logits": lambda value: (
        isinstance(value, list) and all(isinstance(one, list) and all(map(_is_logit, one)) for one in value)
    ),
}
