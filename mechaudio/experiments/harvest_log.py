"""What a harvest writes as it goes: one file of tensors per batch, and a log that says what is in which.

A shard is on the disk, whole, before the log has a line about it. So a harvest that was killed at any moment leaves
shards that the log vouches for by their digests, and at most one more, which is written anew.

Conventions: an entry is one stored position of one question; entries are numbered from 0 over all shards, which are in
the order of the first of their questions, whoever wrote them and when.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mechaudio.experiments.log_lines import SCHEMA, damaged, parsed, read_header, short, signed, verified
from mechaudio.experiments.run_log import begun_header, digest, log_of_process, logs_in, opened_log
from mechaudio.processes import Shared, launch
from mechaudio.question import AudioQuestion
from mechaudio.reading import digest_of_file
from mechaudio.writing import made_folder, write_tensors

LOG_NAME = "harvest.jsonl"
_HEADER: Mapping[str, Any] = {"schema": SCHEMA, "run": {}, "created": "", "batch_positions": 0, "batch_size": 0}


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

    Attributes:
        header: Of the harvest.
        shards: Those of this process.
        questions: By place in the stream, those of all processes.
        n_entries: Of all processes.
        shared: The folder, as the processes share it.

    Raises:
        ValueError: The folder holds a harvest of something else, or a damaged one, or is written to by another process.
        NotADirectoryError: There is a file in the folder's place.
    """

    def __init__(self, folder: str | os.PathLike, header: Mapping[str, Any]):
        self._folder = made_folder(folder, "a harvest")
        self._place = log_of_process(self._folder / LOG_NAME)
        self.shards: list[Shard] = []
        self.questions: dict[int, Harvested] = {}
        self.n_entries = 0
        self.shared = Shared(None)
        self._logs: dict[Path, ShardReader] = {}
        self.header = begun_header(self._folder / LOG_NAME, {"schema": SCHEMA, **header})
        self._file: BinaryIO = opened_log(self._place, self.header)
        try:
            self.shards += self._read(self._place, self._file)
            self._file.truncate(self._logs[self._place].end)
            self._file.seek(self._logs[self._place].end)
            self.shared = Shared(self._folder)
            others = self.refresh()
            for shard in [*self.shards, *(others if launch().rank == 0 else ())]:  # each is looked at by one process
                refuse_damaged(self._folder, shard)
        except BaseException:
            self._close()
            raise
        self._tokens = {token for shard in self.shards for token in shard.tokens}

    def _read(self, place: Path, file: BinaryIO) -> list[Shard]:
        """Read what a log has that is new."""
        shards = self._logs.setdefault(place, ShardReader(place, self.header)).read(file)
        for shard in shards:
            self._take(shard)
        return shards

    def _take(self, shard: Shard) -> None:
        self.n_entries += shard.n_entries
        for one in shard.questions:
            if one.index not in self.questions or self.questions[one.index].error:
                self.questions[one.index] = one

    def refresh(self) -> list[Shard]:
        """Read what other processes have written by now, and those of earlier runs before."""
        shards = list[Shard]()
        for place in logs_in(self._folder / LOG_NAME):
            if place != self._place and place.stat().st_size != (self._logs[place].seen if place in self._logs else 0):
                with place.open("rb") as file:
                    shards += self._read(place, file)
        return shards

    @property
    def known(self) -> Mapping[int, Harvested]:
        """The questions."""
        return self.questions

    def check(self, index: int, question: AudioQuestion) -> None:
        """Refuse a question that is another one than was run in its place.

        Raises:
            ValueError: It is; the message says which.
        """
        kept = self.questions[index]
        if kept.question != digest(question, sound=not kept.error):
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
            own = self._place.stem.removeprefix(Path(LOG_NAME).stem)  # of process 1, "-1"
            name = f"shard{own}-{sum(bool(shard.file) for shard in self.shards):06d}.safetensors"
            # One name, so that whoever was killed while writing leaves nothing for good.
            draft = self._folder / f".shard{own}.begun"
            sha256 = write_tensors(draft, tensors, {})
            os.replace(draft, self._folder / name)
            n_entries = len(next(iter(tensors.values())))
        new = {token: text for token, text in tokens.items() if token not in self._tokens}
        shard = Shard(name, sha256, n_entries, tuple(questions), new)
        log = self._logs[self._place]
        line, checksum = signed(asdict(shard), log.checksum)
        written = line.encode("utf-8", "surrogatepass")
        self._file.write(written)
        self._file.flush()
        os.fsync(self._file.fileno())
        log.keep(len(written), checksum)
        self.shards.append(shard)
        self._take(shard)
        self._tokens |= set(new)

    def _close(self) -> None:
        self.shared.close()
        self._file.close()

    def __enter__(self) -> HarvestLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class ShardReader:
    """A log of shards, as far as it was read or written.

    Args:
        place: The file.
        given: A header with the same fields.

    Attributes:
        header: Of the log; empty before it was read.
        end: Bytes as far as the last whole line.
        seen: Bytes that were there when it was read last.
        checksum: Of the last whole line.
    """

    def __init__(self, place: Path, given: Mapping[str, Any] = _HEADER):
        self.header: dict[str, Any] = {}
        self.end = self.seen = self._n_lines = 0
        self.checksum = ""
        self._place, self._given = place, given

    def read(self, file: BinaryIO) -> list[Shard]:
        """The shards of the whole lines behind `end`; a last line that broke off is left out.

        Raises:
            ValueError: It is no log of a harvest, or is damaged.
        """
        file.seek(self.end)
        written = file.read()
        self.seen = self.end + len(written)
        lines = written.split(b"\n")[:-1]  # behind the last end of a line: nothing, or a line that broke off
        if not self.end:
            self.header, checksum = read_header(self._place, lines[0] if lines else b"", self._given)
            self.keep(len(lines[0]) + 1, checksum)
            lines = lines[1:]
        shards, last = list[Shard](), self._n_lines + len(lines)
        for number, line in enumerate(lines, start=self._n_lines + 1):
            value = parsed(line)
            if value is None and number == last:
                break
            if not isinstance(value, dict) or set(value) != {*Shard.__dataclass_fields__, "checksum"}:
                raise ValueError(damaged(self._place, number, "it is not the line of a shard"))
            checksum = verified(self._place, number, value, self.checksum)
            shards.append(_shard(self._place, number, value))
            self.keep(len(line) + 1, checksum)
        return shards

    def keep(self, n_bytes: int, checksum: str) -> None:
        """Take a whole line as read."""
        self.end, self.checksum, self._n_lines = self.end + n_bytes, checksum, self._n_lines + 1


def read_logs(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """The header and the shards of a harvest, by the first of their questions, whichever process wrote them.

    Raises:
        ValueError: It is no harvest, or is damaged.
    """
    shards, header = list[Shard](), dict[str, Any]()
    for place in logs_in(folder / LOG_NAME):
        reader = ShardReader(place)
        with place.open("rb") as file:
            shards += reader.read(file)
        header = header or reader.header
    return header, sorted(shards, key=_first)


def _first(shard: Shard) -> int:
    return min((one.index for one in shard.questions if not one.error), default=-1)


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
