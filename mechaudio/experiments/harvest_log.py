"""What a harvest writes as it goes: one file of tensors per batch, and a log that says what is in which.

A shard is on the disk, whole, before the log has a line about it. So a harvest that was killed at any moment leaves
shards that the log vouches for by their digests, and at most one more, which is written anew.

Conventions: an entry is one stored position of one question; entries are numbered from 0 over all shards.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mechaudio.experiments.log_lines import SCHEMA, damaged, parsed, read_header, short, signed, verified
from mechaudio.experiments.run_log import digest, opened_log, refuse_others
from mechaudio.question import AudioQuestion
from mechaudio.reading import digest_of_file
from mechaudio.writing import made_folder, write_tensors

LOG_NAME = "harvest.jsonl"
_DRAFT = ".shard.begun"  # one name, so that whoever was killed while writing leaves nothing for good
_HEADER: Mapping[str, Any] = {"schema": SCHEMA, "run": {}, "created": "", "most_positions": 0, "batch_size": 0}


@dataclass(frozen=True)
class Harvested:
    """A question that was run, or could not be.

    Attributes:
        index: Its place in the stream, from 0.
        id: Of the question.
        question: Digest of what it asks.
        n_positions: Length of its prompt, without padding; 0 for one that could not be run.
        error: Why it could not be run, blank if it was.
    """

    index: int
    id: str
    question: str
    n_positions: int = 0
    error: str = ""


@dataclass(frozen=True)
class Shard:
    """A line of the log.

    Attributes:
        file: Name of the file of tensors; blank where none of the questions could be run.
        sha256: Digest of the file.
        n_entries: How many entries it has.
        questions: The questions.
        tokens: Text of each token id that no shard before this one has.
    """

    file: str
    sha256: str
    n_entries: int
    questions: tuple[Harvested, ...]
    tokens: Mapping[str, str] = field(default_factory=dict)


class HarvestLog:
    """The shards of a harvest, open to write more.

    Args:
        folder: Where they are.
        header: What is run, in words of JSON; as in `RunLog`, `header["run"]` has to be the same when it is taken up,
            anything else is taken from the file.

    Raises:
        ValueError: The folder holds a harvest of something else, or a damaged one, or is written to by another process.
        NotADirectoryError: There is a file in the folder's place.
    """

    def __init__(self, folder: str | os.PathLike, header: Mapping[str, Any]):
        self._folder = made_folder(folder, "a harvest")
        place = self._folder / LOG_NAME
        given = {"schema": SCHEMA, **header}
        self._file: BinaryIO = opened_log(place, given)
        try:
            self.header, self.shards, end, self._before = read_log(place, self._file.read(), given)
            refuse_others(place, self.header["run"], given["run"])
            for shard in self.shards:
                refuse_damaged(self._folder, shard)
            self._file.truncate(end)
            self._file.seek(end)
        except BaseException:
            self._file.close()
            raise
        self.questions = {one.index: one for shard in self.shards for one in shard.questions}
        self._tokens = {token for shard in self.shards for token in shard.tokens}

    def check(self, index: int, question: AudioQuestion) -> None:
        """Refuse a question that is another one than was run in its place.

        Raises:
            ValueError: It is; the message says which.
        """
        kept = self.questions[index]
        if kept.question != digest(question, sized=not kept.error):
            which = f"{question.id!r} for {kept.id!r}" if question.id != kept.id else f"{kept.id!r}, of another content"
            raise ValueError(
                f"question {index} is not the one that this harvest ran before ({which}): take it up with the same "
                "questions in the same order, or give another out="
            )

    def add(self, questions: Sequence[Harvested], tensors: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
        """Keep one batch, all or nothing of it.

        Args:
            questions: Those that were run, and those that could not be; without any, nothing is written.
            tensors: By name, with one entry per row; empty where no question could be run.
            tokens: Text of each token id in it.
        """
        if not questions:
            return
        name, sha256, n_entries = "", "", 0
        if tensors:
            name = f"shard-{sum(bool(shard.file) for shard in self.shards):06d}.safetensors"
            sha256 = write_tensors(self._folder / _DRAFT, tensors, {})
            os.replace(self._folder / _DRAFT, self._folder / name)
            n_entries = len(next(iter(tensors.values())))
        new = {token: text for token, text in tokens.items() if token not in self._tokens}
        shard = Shard(name, sha256, n_entries, tuple(questions), new)
        line, self._before = signed(asdict(shard), self._before)
        self._file.write(line.encode("utf-8", "surrogatepass"))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.shards.append(shard)
        self.questions |= {one.index: one for one in questions}
        self._tokens |= set(new)

    def __enter__(self) -> HarvestLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_log(
    place: Path, written: bytes, header: Mapping[str, Any] = _HEADER
) -> tuple[dict[str, Any], list[Shard], int, str]:
    """The header and the shards of a log, how many of its bytes are whole lines, and the checksum of the last.

    Args:
        place: The file, for messages.
        written: What is in it; a last line that broke off is left out.
        header: A header with the same fields.

    Raises:
        ValueError: It is no log of a harvest, or is damaged.
    """
    lines = written.split(b"\n")[:-1]  # behind the last end of a line: nothing, or a line that broke off
    known, checksum = read_header(place, lines[0] if lines else b"", header)
    shards, end = list[Shard](), len(lines[0]) + 1
    for number, line in enumerate(lines[1:], start=2):
        value = parsed(line)
        if value is None and number == len(lines):
            break
        if not isinstance(value, dict) or set(value) != {*Shard.__dataclass_fields__, "checksum"}:
            raise ValueError(damaged(place, number, "it is not the line of a shard"))
        checksum = verified(place, number, value, checksum)
        shards.append(_shard(place, number, value))
        end += len(line) + 1
    return known, shards, end, checksum


def refuse_damaged(folder: Path, shard: Shard) -> None:
    """Refuse a shard whose file is not as it was written.

    Raises:
        ValueError: It is not there, or has other bytes; the message names it.
    """
    if not shard.file:
        return
    file = folder / shard.file
    if not file.is_file():
        raise ValueError(f"{str(file)!r} is missing: put it back, or give another out=")
    if digest_of_file(file) != shard.sha256:
        raise ValueError(f"{str(file)!r} is damaged: it is not as it was written. Put it back, or give another out=")


def _shard(place: Path, number: int, value: dict[str, Any]) -> Shard:
    """A shard out of its line.

    Raises:
        ValueError: The line says what no line can say.
    """
    kinds = {"file": str, "sha256": str, "n_entries": int, "questions": list, "tokens": dict}
    wrong = next((name for name, kind in kinds.items() if type(value[name]) is not kind), None)
    if wrong is None and Path(value["file"]).name != value["file"]:
        wrong = "file"  # a name that leads out of the folder
    if wrong is None and not all(_is_harvested(question) for question in value["questions"]):
        wrong = "questions"
    if wrong is not None:
        raise ValueError(damaged(place, number, f"{wrong} is {short(value[wrong])}"))
    value["questions"] = tuple(Harvested(**question) for question in value["questions"])
    return Shard(**value)


def _is_harvested(value: Any) -> bool:
    kinds = {"index": int, "id": str, "question": str, "n_positions": int, "error": str}
    return (
        isinstance(value, dict)
        and set(value) == set(kinds)
        and all(type(value[name]) is kind for name, kind in kinds.items())
    )
