"""What a harvest writes as it goes: one file of tensors per batch, and a log that says what is in which.

A shard is on the disk, whole, before the log has a line about it. So a harvest that was killed at any moment leaves
shards that the log vouches for by their digests, and at most one more, which nobody reads: its batch is written anew,
by the same process under the same name, or by another.

Conventions: an entry is one stored position of one question; entries are numbered from 0 over all shards, which are in
the order of the first of their questions, whoever wrote them and when.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mechaudio.experiments.log_lines import SCHEMA, LinesReader, damaged, parsed, short, signed, verified
from mechaudio.experiments.run_log import SharedLog, logs_in
from mechaudio.processes import launch
from mechaudio.reading import digest_of_file
from mechaudio.results import folder_of_run
from mechaudio.writing import write_tensors

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


class HarvestLog(SharedLog[Harvested]):
    """The shards of a harvest, open to write more.

    Attributes:
        n_entries: Of all processes.

    Raises:
        ValueError: The folder holds a harvest of something else, or a damaged one, or is written to by another process.
        NotADirectoryError: There is a file in the folder's place.
    """

    run, did, done = "the harvest", "this harvest ran", "run"

    def __init__(self, folder: str | os.PathLike, header: Mapping[str, Any]):
        self._shards: dict[Path, list[Shard]] = defaultdict(list)
        self.n_entries = 0
        super().__init__(folder_of_run(folder, "a harvest", log=LOG_NAME) / LOG_NAME, ShardReader, header)
        self._tokens = {token for shard in self.shards for token in shard.tokens}

    @property
    def shards(self) -> list[Shard]:
        """Those of this process."""
        return self._shards[self._place]

    def _take(self, place: Path, shards: Iterable[Shard]) -> None:
        for shard in shards:
            self._shards[place].append(shard)
            self.n_entries += shard.n_entries
            super()._take(place, shard.questions)

    def _check_all(self) -> None:
        """Look at each shard, in one process."""
        for place, shards in self._shards.items():
            for shard in shards if place == self._place or launch().rank == 0 else ():
                refuse_damaged(self._first.parent, shard)

    def add(self, questions: Sequence[Harvested], tensors: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
        """Keep one batch, all or nothing of it.

        Without questions nothing is written. Tensors have an entry per row, and there are none where no question could
        be run.
        """
        if not questions:
            return
        name, sha256, n_entries = "", "", 0
        if tensors:
            own = self._place.stem.removeprefix(Path(LOG_NAME).stem)  # of process 1, "-1"
            name = f"shard{own}-{sum(bool(shard.file) for shard in self.shards):06d}.safetensors"
            # One name, so that whoever was killed while writing leaves nothing for good.
            draft = self._first.with_name(f".shard{own}.begun")
            sha256 = write_tensors(draft, tensors, {})
            os.replace(draft, draft.with_name(name))
            n_entries = len(next(iter(tensors.values())))
        new = {token: text for token, text in tokens.items() if token not in self._tokens}
        shard = Shard(name, sha256, n_entries, tuple(questions), new)
        line, checksum = signed(asdict(shard), self._own.checksum)
        written = line.encode("utf-8", "surrogatepass")
        self._write(written)
        self._own.keep(1, len(written), checksum)
        self._take(self._place, [shard])
        self._tokens |= set(new)


class ShardReader(LinesReader):
    """A log of shards, as far as it was read or written."""

    def read(self, file: BinaryIO) -> list[Shard]:
        """The shards of the whole lines behind `end`.

        Raises:
            ValueError: It is no log of a harvest, or is damaged.
        """
        shards = list[Shard]()
        for number, line in self.new_lines(file):
            value = parsed(line)
            if not isinstance(value, dict) or set(value) != {*Shard.__dataclass_fields__, "checksum"}:
                raise ValueError(damaged(self._place, number, "it is not the line of a shard"))
            checksum = verified(self._place, number, value, self.checksum)
            shards.append(_shard(self._place, number, value))
            self.keep(1, len(line) + 1, checksum)
        return shards


def read_logs(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """The header and the shards of a harvest, by the first of their questions, whichever process wrote them.

    Raises:
        ValueError: It is no harvest, or is damaged.
    """
    shards, header = list[Shard](), dict[str, Any]()
    for place in logs_in(folder / LOG_NAME):
        reader = ShardReader(place, _HEADER)
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
