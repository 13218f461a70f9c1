"""Looking at the recordings of questions in threads, a window of them ahead, while the model is busy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
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
    """Looks at each question of a stream twice: how long it is, for which headers are read, and a note of it.

    Recordings that something else than the name of a file stands for are looked at by the thread that draws them: what
    reads them may bear no other.

    Args:
        length: Gives about how long a question is.
        note: Works something out that needs the bytes of recordings.
    """

    def __init__(self, length: Callable[[AudioQuestion], int], note: Callable[[AudioQuestion], Noted]):
        self._length, self._note, self._begun = length, note, Event()
        self._lengths, self._notes = dict[Placed, Future[int]](), list[Future[Noted]]()
        self._open = ExitStack()
        self._measuring, self._noting = (
            self._open.enter_context(ThreadPoolExecutor(N_THREADS, initializer=self._begun.wait)) for _ in range(2)
        )
        self._open.callback(self.begin)  # or they would wait for ever

    def begin(self) -> None:
        """Have the threads begin: workers have been forked, in which what a thread held would be held for good."""
        self._begun.set()

    def windows(self, drawn: Iterable[list[Placed]]) -> Iterator[list[Placed]]:
        """Give each window when the next one has been drawn; what cannot be drawn is raised behind all before it."""
        source, window, failed = iter(drawn), list[Placed](), None
        while True:
            try:
                following = next(source, None)
                for placed in following or ():
                    self._look_at(placed)
            except Exception as error:  # noqa: BLE001 - it is raised below
                following, failed = None, error
            if window:
                yield window
                for placed in window:
                    self._lengths.pop(placed, None)
            if following is None:
                break
            window = following
        if failed is not None:
            raise failed

    def length(self, placed: Placed) -> int:
        """Return about how long a question is that was drawn.

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

    def _look_at(self, placed: Placed) -> None:
        recordings = placed.question.recordings
        here = any(isinstance(recording, (AudioClip, StoredClip)) and recording.source for recording in recordings)
        measuring = self._measuring if self._begun.is_set() and not here else None
        self._lengths[placed] = _begun(measuring, self._length, placed.question)
        self._notes.append(_begun(None if here else self._noting, self._note, placed.question))

    def __enter__(self) -> Lookahead[Noted]:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _begun(
    threads: ThreadPoolExecutor | None, function: Callable[[AudioQuestion], Result], question: AudioQuestion
) -> Future[Result]:
    """Have a thread call a function; without threads, it is called at once."""
    if threads is not None:
        return threads.submit(function, question)
    future = Future[Result]()
    try:
        future.set_result(function(question))
    except (ValueError, OSError) as error:
        future.set_exception(error)
    return future
