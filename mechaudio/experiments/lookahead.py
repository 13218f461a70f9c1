"""Looking at the recordings of questions in threads while the model is busy, a window of questions ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import Generic, TypeVar

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip
from mechaudio.experiments.batches import Placed
from mechaudio.question import AudioQuestion

Noted = TypeVar("Noted")
Result = TypeVar("Result")

N_THREADS = 2
"""Threads for each kind of look."""


class Lookahead(Generic[Noted]):
    """Measures each question of a stream by the headers of its recordings, and makes a note that needs their bytes.

    Threads do it for questions whose recordings are named by their files. Other recordings are read by a user's own
    code, which may not be ready for threads: it is called by the thread that draws the question. No more than two
    windows wait for their notes.
    """

    def __init__(self, length: Callable[[AudioQuestion], int], note: Callable[[AudioQuestion], Noted]):
        self._length, self._note, self._begun = length, note, Event()
        self._lengths, self._notes = dict[Placed, Future[int]](), list[Future[Noted]]()
        self._open = ExitStack()
        self._measuring, self._noting = (ThreadPoolExecutor(N_THREADS, initializer=self._begun.wait) for _ in range(2))
        for threads in (self._measuring, self._noting):  # what nobody waits for any more is not begun
            self._open.callback(partial(threads.shutdown, cancel_futures=True))
        self._open.callback(self.begin)  # else threads that have not begun would never end

    def begin(self) -> None:
        """Have the threads begin, after workers were forked: a lock that a thread holds then stays locked in them."""
        self._begun.set()

    def windows(self, drawn: Iterable[list[Placed]]) -> Iterator[list[Placed]]:
        """Give each window as soon as the next one is drawn; what cannot be drawn is raised behind all before it."""
        source, window, failed, n_given = iter(drawn), list[Placed](), None, 0
        while True:
            try:
                following = next(source, None)
                for placed in following or ():
                    self._look_at(placed, early=n_given == 0)
            except Exception as error:  # noqa: BLE001 - it is raised below
                following, failed = None, error
            if window:
                yield window
                for placed in window:
                    self._lengths.pop(placed, None)
                if self._begun.is_set():
                    wait(self._notes[n_given : n_given + len(window)])
                n_given += len(window)
            if following is None:
                break
            window = following
        if failed is not None:
            raise failed

    def length(self, placed: Placed) -> int:
        """Return the approximate length of a question that was drawn.

        Raises:
            ValueError: Its recording is missing, or no sound; likewise `OSError`.
        """
        return self._lengths[placed].result()

    def notes(self) -> list[Noted]:
        """Wait for the notes of all questions that were drawn."""
        return [note.result() for note in self._notes]

    @property
    def n(self) -> int:
        """The number of questions that were drawn."""
        return len(self._notes)

    def _look_at(self, placed: Placed, *, early: bool) -> None:
        """Have a question measured and noted; an early note may wait until the threads begin, a length may not."""
        recordings, begun = placed.question.recordings, self._begun.is_set()
        named = not any(isinstance(recording, (AudioClip, StoredClip)) and recording.source for recording in recordings)
        self._lengths[placed] = _future(self._measuring if named and begun else None, self._length, placed.question)
        self._notes.append(_future(self._noting if named and (begun or early) else None, self._note, placed.question))

    def __enter__(self) -> Lookahead[Noted]:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _future(
    threads: ThreadPoolExecutor | None, function: Callable[[AudioQuestion], Result], question: AudioQuestion
) -> Future[Result]:
    """Have a thread call a function; without threads, call it at once."""
    if threads is not None:
        return threads.submit(copy_context().run, function, question)
    future = Future[Result]()
    try:
        future.set_result(function(question))
    except (ValueError, OSError) as error:
        future.set_exception(error)
    return future
