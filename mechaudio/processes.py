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
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
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
_WHOLE, _FIRST = 0, 1
"""The byte that stands for the folder as a whole, and that of batch 0."""


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
    if given.get("WORLD_SIZE", "1") == "1" and given.get("RANK", "0") == "0":
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

    @property
    def alone(self) -> bool:
        """Return whether this process has everything to itself."""
        return self._file is None

    def take(self, number: int) -> bool:
        """Take a batch, unless another process has it."""
        if self._file is None:
            return True
        try:
            _lock(self._file, _FIRST + number)
        except (BlockingIOError, PermissionError):  # two spellings of one answer: another process has it
            return False
        except OSError as error:
            raise ValueError(
                f"{self._launch.n} processes share a run by file locks, and the file system of "
                f"{os.path.dirname(self._file.name)!r} has none ({error.strerror}): give an out= on another, or start "
                "one process"
            ) from error
        return True

    def let_go(self, number: int) -> None:
        """Give a batch back, done or not."""
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _FIRST + number)

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
        number: Gives the number of a unit, the same in all processes.
        is_done: Looks whether a unit is done, by this process or another.
        do: Does one, so that `is_done` sees it in every process.
        ahead: Goes through units that this process does, and gives each with what was made of it ahead, which `do` is
            given beside it.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        number: Callable[[Unit], int],
        is_done: Callable[[Unit], bool],
        do: Callable[..., None],
        ahead: Callable[[Iterator[Unit]], Iterator[tuple[Any, ...]]] = zip,
    ):
        self._shared, self._number, self._is_done, self._do, self._ahead = shared, number, is_done, do, ahead
        self._left: list[Unit] = []

    def do_all(self, units: Iterable[Unit]) -> None:
        """Do units, but for those that are done; wait for those that other processes have, and do what they give back.

        Warns:
            UserWarning: A process keeps a unit for longer than `PATIENCE`, which is then done here too.
        """
        self._do_free(units)
        pause, since = _PAUSE[0], time.monotonic()
        while self._left:
            left, self._left = self._left, []
            self._do_free(unit for unit in left if not self._is_done(unit))
            if len(self._left) < len(left):
                pause, since = _PAUSE[0], time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                warn(
                    f"another process has had batch {self._number(left[0])} for {PATIENCE:g} seconds without writing "
                    "anything, so it is done here as well; what is written first counts"
                )
                unit, since = self._left.pop(0), time.monotonic()
                for taken in self._ahead(iter([unit])):
                    self._do(*taken)
            else:
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE[1])

    def _do_free(self, units: Iterable[Unit]) -> None:
        """Do the units that no other process has, and keep the others for later."""
        ahead = self._ahead(self._taken(units))
        try:
            for unit, *made in ahead:
                try:
                    # Another process may have given it back done before this one could read its log.
                    if self._shared.alone or not self._is_done(unit):
                        self._do(unit, *made)
                finally:
                    self._shared.let_go(self._number(unit))
        finally:
            if isinstance(ahead, Generator):
                ahead.close()  # and with it whatever works ahead, also where an error is kept that refers to it

    def _taken(self, units: Iterable[Unit]) -> Iterator[Unit]:
        for unit in units:
            if not self._shared.take(self._number(unit)):
                # What others have done by now is let go of, so that no more is held than they are at.
                self._left = [*(left for left in self._left if not self._is_done(left)), unit]
            elif self._is_done(unit):
                self._shared.let_go(self._number(unit))
            else:
                yield unit


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Have a folder to itself while open, as far as the processes of a launch are concerned; others wait.

    Args:
        folder: It is there.
    """
    if fcntl is None or launch().n == 1:
        yield
        return
    with (folder / LOCKS).open("a+b") as file:
        with suppress(OSError):  # a file system without locks
            _lock(file, _WHOLE, waits=True)
        yield


def _lock(file: BinaryIO, byte: int, *, waits: bool = False) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB), 1, byte)
