"""What a run writes as it goes, so that nothing is lost when it is killed.

`answers.jsonl` begins with a line that says what is run: settings, model, versions. Then comes one line per question,
with its answers under every variant, or with the error that kept it from being asked. The lines of a batch are written
together and forced to the disk. Each says how many lines its batch has, so that a batch that was cut short, between
lines or within one, is recognised when the run is taken up again: it is cut off the file and asked anew. Each also
carries a checksum of itself and of all lines before it; a line that was changed, moved or taken out is refused.

Several processes that share a run write a log each, `answers-1.jsonl` and so on beside process 0's; all begin with the
line that `answers.jsonl` begins with, which is written by whoever comes first. Each process reads the others' as they
grow, and so does one that takes the run up by itself.

Conventions: a question is known by its place in the stream, and by a digest of what it asks.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Generic, TypeVar

from mechaudio.arguments import n_of
from mechaudio.data.question_digest import digest
from mechaudio.experiments.log_lines import SCHEMA, LogReader, Row, as_line, read_header, short, signed
from mechaudio.processes import Shared, launch
from mechaudio.provenance import Provenance
from mechaudio.question import AudioQuestion
from mechaudio.results import digest_of, folder_of_run
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.fingerprint import fingerprint
from mechaudio.tracing.record import Intervention
from mechaudio.writing import write_once

LOG_NAME = "answers.jsonl"
_NAMED = 3


def run_header(model: AudioLM, provenance: Provenance, variants: Sequence[Sequence[Intervention]]) -> dict[str, Any]:
    """What has to be the same for a run to be taken up.

    Raises:
        ValueError: As `fingerprint`.
        TypeError: An intervention that cannot be kept.
    """
    return {
        "settings": dict(provenance.settings),
        "seed": provenance.seed,
        "interventions": [[repr(one) for one in variant] for variant in variants],
        "interventions_sha256": digest_of(tuple(tuple(variant) for variant in variants)),
        "checkpoint": provenance.checkpoint,
        "revision": provenance.revision,
        "network": type(model.network).__name__,
        **fingerprint(model),
        "versions": dict(provenance.versions),
    }


#: Questions as a log knows them: with `index`, `id`, `question` (a digest) and `error`.
Entry = TypeVar("Entry", bound=Any)
Log = TypeVar("Log", bound="SharedLog")


class SharedLog(Generic[Entry]):
    """A log of this process, open to write more, and what the other processes that share its folder wrote.

    Args:
        first: The log of process 0; None to keep nothing.
        reader: Makes what reads a log, which has a header.
        header: What is run, in words of JSON; `header["run"]` has to be the same when the run is taken up again,
            anything else is taken from the file. `header["run"]` may be a function that works it out: where nothing is
            there to take up, it is asked by `begin`, and not before. Processes that share a run wait so only where the
            caller sets how many questions a batch has: what fits into memory is what the file says.

    Attributes:
        header: Of the run.
        known: Questions by place in the stream, those of all processes that share the run.
        shared: The folder, as the processes share it.
        folder: None where nothing is kept.

    Raises:
        ValueError: If the folder holds a run of something else, or a damaged one, or is written to by another process
            of the same rank.
    """

    #: What is kept, what it did before, and what could not be done to some questions, in messages.
    run: ClassVar[str]
    did: ClassVar[str]
    done: ClassVar[str]

    def __init__(self, first: Path | None, reader: Callable[[Path, Mapping[str, Any]], Any], header: Mapping[str, Any]):
        self.header: dict[str, Any] = {"schema": SCHEMA, **header}
        self.known: dict[int, Entry] = {}
        self.shared = Shared(None)
        self._reader, self._readers = reader, dict[Path, Any]()
        self._file: BinaryIO | None = None
        self.folder = None if first is None else first.parent
        if first is None:
            return
        rank = launch().rank
        self._first, self._place = first, first.with_name(f"{first.stem}-{rank}{first.suffix}") if rank else first
        fresh = callable(header["run"]) and not any(map(Path.exists, logs_in(first)))
        self._waits = fresh and (launch().n == 1 or not header["batch_positions"])
        if self._waits:
            self.shared = Shared(self.folder)
        else:
            self.begin()

    def begin(self) -> None:
        """Open the log, if that has not been done.

        Raises:
            ValueError: As for the class; or another process began a run in the folder since this was made, with other
                batches where the two share it.
        """
        if self.folder is None or self._file is not None:
            return
        if callable(self.header["run"]):
            self.header["run"] = self.header["run"]()
        if self._waits and self.shared.alone and self._first.exists():
            raise ValueError(
                f"another process began a run in {str(self.folder)!r} meanwhile: wait for it, or give another out="
            )
        given, self.header = self.header, begun_header(self._first, self.header)
        if self._waits and not self.shared.alone:  # batches may have been cut already
            self.refuse_other_batches(given["batch_positions"], given["batch_size"])
        begin(self._place, self.header)
        self._file = self._place.open("r+b")
        try:
            _claim(self._file, self._place)
            self._read(self._place, self._file)
            self._file.truncate(self._own.end)
            self._file.seek(self._own.end)
            if not self._waits:
                self.shared = Shared(self.folder)
            self.refresh()
            self._check_all()
        except BaseException:
            self.close()
            raise

    def refuse_other_batches(self, batch_positions: int | None, batch_size: int | None) -> None:
        """Refuse to cut questions into other batches than the run does; None takes the run's.

        Raises:
            ValueError: They differ; the message says in what.
        """
        for name, given in (("batch_size", batch_size), ("batch_positions", batch_positions)):
            if given not in (None, self.header[name]):
                raise ValueError(
                    f"{self.run} in {str(self.folder)!r} was begun with {name}={self.header[name] or None}, got "
                    f"{given or None}: {'leave it out' if given else 'give that'}, or give another out="
                )

    def _read(self, place: Path, file: BinaryIO) -> None:
        """Read what a log has that is new."""
        self._take(place, self._reader_of(place).read(file))

    def _take(self, _place: Path, entries: Iterable[Entry]) -> None:
        """Know questions; what could not be asked once may have been asked since, or elsewhere."""
        for entry in entries:
            if entry.index not in self.known or self.known[entry.index].error:
                self.known[entry.index] = entry

    def _check_all(self) -> None:
        """Check what was read when the log is opened, beyond its lines."""

    def _reader_of(self, place: Path) -> Any:
        return self._readers.setdefault(place, self._reader(place, self.header))

    @property
    def _own(self) -> Any:
        return self._readers[self._place]

    def _write(self, written: bytes) -> None:
        assert self._file is not None, "a log without a folder writes nothing"
        self._file.write(written)
        self._file.flush()
        os.fsync(self._file.fileno())

    def refresh(self) -> None:
        """Read what other processes have written by now, and those of earlier runs before."""
        if self._file is None:
            return
        for place in logs_in(self._first):
            if place != self._place and place.stat().st_size != self._reader_of(place).seen:
                with place.open("rb") as file:
                    self._read(place, file)

    def check(self, index: int, question: AudioQuestion) -> None:
        """Refuse a question that is another one than was asked in its place.

        Raises:
            ValueError: It is; the message says which.
        """
        kept = self.known[index]
        if kept.question != digest(question, sound=not kept.error):
            which = (
                f"{question.id!r} for {kept.id!r}" if question.id != kept.id else f"{kept.id!r}, with another content"
            )
            raise ValueError(
                f"question {index} is not the one that {self.did} before ({which}): take it up with the same "
                "questions in the same order, or give another out="
            )

    def forget(self) -> None:
        """Let go of the log in a worker, a forked copy, or it would stay claimed until the last of them ends.

        Closing the file there would move where the first process writes.
        """
        if self._file is not None:
            os.close(self._file.fileno())

    def close(self) -> None:
        """Let go of the files."""
        self.shared.close()
        if self._file is not None:
            self._file.close()

    def __enter__(self: Log) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunLog(SharedLog[Row]):
    """The rows of a run, in memory and, where a folder is given, in its `answers.jsonl`.

    Each question is asked under `n_variants` lists of interventions, where their number is known.

    Raises:
        ValueError: As in `SharedLog`.
        NotADirectoryError: If there is a file in the folder's place.
    """

    run, did, done = "the run", "this run asked", "asked"

    def __init__(self, folder: str | os.PathLike | None, header: Mapping[str, Any], n_variants: int | None = None):
        first = None if folder is None else folder_of_answers(folder) / LOG_NAME
        super().__init__(first, partial(LogReader, n_variants=n_variants), header)

    def check(self, index: int, question: AudioQuestion) -> None:
        """Refuse a question that is another one than was asked in its place, or whose row was changed.

        Raises:
            ValueError: It is; the message says which.
        """
        super().check(index, question)
        row = self.known[index]
        kept = (row.id, row.options, row.answer, row.task)
        if kept != (question.id, question.choices, question.answer, task_of(question)):
            raise ValueError(
                f"question {index} ({row.id!r}) is kept with another id, other choices, another answer or task than it "
                f"has: {kept}. The log was changed by hand: give another out="
            )

    def add(self, rows: Sequence[Row]) -> None:
        """Keep the rows of one batch, all or none of them."""
        if not rows:
            return
        if self._file is not None:
            lines, checksum = self._own.lines(rows)
            self._write(lines)
            self._own.keep_batch(rows, len(lines), checksum)
        self.known |= {row.index: row for row in rows}


def folder_of_answers(folder: str | os.PathLike) -> Path:
    """Make the folder of a run, and refuse one that something else is kept in, as `folder_of_run`."""
    return folder_of_run(folder, "a run of ma.evaluate", log=LOG_NAME, results=("Evaluation", "Comparison"))


def task_of(question: AudioQuestion) -> str:
    """The task of a question, blank where it has none."""
    return str(question.meta.get("task", ""))


def logs_in(first: Path) -> list[Path]:
    """The logs of all processes, that of process 0 first."""
    return [first, *sorted(first.parent.glob(f"{first.stem}-*{first.suffix}"))]


def begun_header(first: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The header of a run, that of the log of process 0, which is begun with the given one if it is not there.

    Raises:
        ValueError: The log is of another run, or damaged.
    """
    begin(first, given)
    with first.open("rb") as file:
        known = read_header(first, file.readline().rstrip(b"\n"), given)[0]
    refuse_others(first, known["run"], given["run"])
    return known


def begin(place: Path, header: Mapping[str, Any]) -> None:
    """Make a log with its first line, whole or not at all, unless it is there.

    Raises:
        ValueError: There is something else in its place.
    """
    if place.exists() and not place.is_file():
        raise ValueError(f"{os.fspath(place)!r} is no file, so no run is kept in it: give another out=")
    write_once(place, signed(header, "")[0].encode("utf-8", "surrogatepass"))


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
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
            raise


def refuse_others(place: Path, there: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to take up a run of something else.

    Raises:
        ValueError: They differ; the message says in what.
    """
    before, now = _flat(there), _flat(json.loads(as_line(given)))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if "interventions" in differing:
        differing.remove("interventions_sha256")  # what they read like says more
    if differing:
        parts = [name.removeprefix("weights.") for name in differing if name.startswith("weights.")]
        differences = [
            f"{name} was {short(before.get(name))} and is {short(now.get(name))}"
            for name in differing
            if not name.startswith("weights.")
        ]
        if parts:
            differences.append(f"weights differ in {n_of(len(parts), 'part')} of the network ({_some(parts)})")
        raise ValueError(
            f"{str(place)!r} is of another run: {'; '.join(differences)}. Take it up as it was, or give another out="
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _flat(part, f"{before}{name}.") if isinstance(part, Mapping) else {f"{before}{name}": part}
    return flat
