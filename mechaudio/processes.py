"""Several processes that share one run: each takes the batches that no other has, by locks in the run's folder.

A batch is taken by a lock on one byte of a file, whose place is the batch's number. The system lets go of a lock when
its process ends, however it ends, so what a killed process was at is free for the others at once. Nothing is sent from
one process to another: none waits at a barrier that another never reaches, they may begin at different times, and they
may be on any machines that see the folder. How questions are cut into batches does not depend on how many processes
there are, so the numbers do not either.

Conventions: a launcher, such as `accelerate launch` or `torchrun`, tells each process which one it is in `RANK`,
`WORLD_SIZE` and `LOCAL_RANK`; without them, it is alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from mechaudio.notices import warn

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl: Any = None

Unit = TypeVar("Unit")

LOCKS = ".processes"
PATIENCE = 600.0
"""Seconds that a batch may be in the hands of a process that is alive and writes nothing, before another does it."""
_PAUSE = 0.05, 1.0
"""Shortest and longest time in seconds between two looks at what others have done."""
_LEADS = 0
"""The byte that process 0 holds; batches have those behind it."""


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that were launched together.

    Attributes:
        rank: From 0 over all machines.
        n: Number of processes on all machines.
        local_rank: From 0 on this machine.
    """

    rank: int = 0
    n: int = 1
    local_rank: int = 0


def launch() -> Launch:
    """Read from the environment which process this is.

    Raises:
        ValueError: A variable is missing beside the others, is no whole number, or is out of range.
    """
    names = ("RANK", "WORLD_SIZE")
    given = {name: os.environ[name] for name in (*names, "LOCAL_RANK") if os.environ.get(name)}
    if not given.keys() & {*names}:
        return Launch()
    try:
        rank, n = (int(given[name]) for name in names)
        local_rank = int(given.get("LOCAL_RANK", rank))
    except (KeyError, ValueError) as error:
        raise ValueError(_misread(given)) from error
    if not 0 <= rank < n or local_rank < 0:
        raise ValueError(_misread(given))
    return Launch(rank, n, local_rank)


def _misread(given: dict[str, str]) -> str:
    said = ", ".join(f"{name}={value}" for name, value in given.items())
    return (
        "the environment should say which of several processes this is, RANK from 0 and below WORLD_SIZE, and on its "
        f"machine LOCAL_RANK from 0; it says {said}: start with accelerate launch or torchrun, or unset them"
    )


class Shared:
    """The folder of a run, shared by the processes of a launch.

    Args:
        folder: Of the run, which is there; None where nothing is kept. Then, and if this process was launched alone, it
            has everything to itself.

    Raises:
        ValueError: Several processes were launched, and there are no locks that all of them see.
    """

    def __init__(self, folder: Path | None):
        self._launch = launch()
        self._file: BinaryIO | None = None
        if folder is None or self._launch.n == 1:
            return
        if fcntl is None:
            raise ValueError(
                f"{self._launch.n} processes were launched, and on Windows they cannot share a run: start one"
            )
        self._file = (folder / LOCKS).open("a+b")
        self._leads = self._launch.rank == 0 and self._lock(_LEADS, waits=True)

    @property
    def alone(self) -> bool:
        """Whether this process has everything to itself."""
        return self._file is None

    def leads(self) -> bool:
        """Whether this process writes the result: process 0 does, or another where process 0 is not there."""
        if not self.alone and not self._leads:
            self._leads = self._lock(_LEADS)
        return self.alone or self._leads

    def take(self, number: int) -> bool:
        """Take a batch, unless another process has it."""
        return self.alone or self._lock(1 + number)

    def let_go(self, number: int) -> None:
        """Give a batch back, done or not."""
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 1 + number)

    def _lock(self, byte: int, *, waits: bool = False) -> bool:
        assert self._file is not None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB), 1, byte)
        except (BlockingIOError, PermissionError):  # two spellings of one answer: another process has it
            return False
        except OSError as error:
            raise ValueError(
                f"{self._launch.n} processes share a run by file locks, and the file system of "
                f"{os.path.dirname(self._file.name)!r} has none ({error.strerror}): give an out= on another, or start "
                "one process"
            ) from error
        return True

    def close(self) -> None:
        """Let go of everything."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Work(Generic[Unit]):
    """Units of work, each of which one of the processes does.

    Args:
        shared: The folder of the run.
        number: Of a unit, the same in all processes.
        is_done: Looks whether a unit is done, by this process or another.
        do: Does one, so that `is_done` sees it in every process.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        number: Callable[[Unit], int],
        is_done: Callable[[Unit], bool],
        do: Callable[[Unit], None],
    ):
        self._shared, self._number, self._is_done, self._do = shared, number, is_done, do
        self._left: list[Unit] = []

    def offer(self, unit: Unit) -> None:
        """Do a unit, or leave it to the process that has it."""
        if self._shared.alone:
            self._do(unit)
            return
        number = self._number(unit)
        if not self._shared.take(number):
            self._left.append(unit)
            return
        try:
            if not self._is_done(unit):
                self._do(unit)
        finally:
            self._shared.let_go(number)

    def review(self) -> None:
        """Forget what others have done by now, so that little is held."""
        self._left = [unit for unit in self._left if not self._is_done(unit)]

    def finish(self) -> None:
        """Wait for what was left to others, and do what they gave back.

        Warns:
            UserWarning: A process keeps a unit for longer than `PATIENCE`, which is then done here too.
        """
        pause, since = _PAUSE[0], time.monotonic()
        while self._left:
            left, self._left = self._left, []
            for unit in left:
                if not self._is_done(unit):
                    self.offer(unit)
            if len(self._left) < len(left):
                pause, since = _PAUSE[0], time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                warn(
                    f"another process has had batch {self._number(left[0])} for {PATIENCE:g} seconds without writing "
                    "anything, so it is done here as well; what comes first counts"
                )
                self._do(self._left.pop(0))
                since = time.monotonic()
            else:
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE[1])


def once(folder: Path, is_done: Callable[[], bool], do: Callable[[], None]) -> None:
    """Do something in a folder once, in whichever process comes first; the others wait for it.

    Args:
        folder: It is made, where it is not there.
        is_done: Looks whether it is done.
        do: Does it.
    """
    if is_done():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with Shared(folder) as shared:
        work: Work[None] = Work(shared, number=lambda _: 0, is_done=lambda _: is_done(), do=lambda _: do())
        work.offer(None)
        work.finish()
