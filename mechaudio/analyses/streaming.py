"""Questions in batches, so that any number of them can be asked in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from mechaudio.progress import bar

Asked = TypeVar("Asked")
Made = TypeVar("Made")


def in_batches(
    questions: Iterable[Asked], batch_size: int, *, what: str, progress: bool | None
) -> Iterator[list[Asked]]:
    """Questions a batch at a time; they are drawn from the iterable, and their clips read, when their turn comes.

    Args:
        questions: Any iterable of questions, or of pairs of them.
        batch_size: How many at a time.
        what: Stands before the progress bar.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: For a batch size below one, or without questions.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    total = len(questions) if hasattr(questions, "__len__") else None
    drawn, done = iter(questions), 0
    with bar(what=what, unit="questions", total=total, progress=progress) as shown:
        while batch := list(islice(drawn, batch_size)):
            yield batch
            done += len(batch)
            shown.update(len(batch))
    if not done:
        raise ValueError("there is nothing to ask: no questions were given")


def prepared_batches(
    questions: Iterable[Asked],
    batch_size: int,
    prepare: Callable[[list[Asked]], Made],
    *,
    what: str,
    progress: bool | None,
) -> Iterator[tuple[list[Asked], Made]]:
    """As `in_batches`, each with what is made of it: while the model works on one batch, a thread makes the next.

    Reading a clip and computing its spectrogram can take half as long as a forward pass on a GPU.

    Args:
        questions: As in `in_batches`; they are drawn in the thread of the caller.
        batch_size: How many at a time.
        prepare: Makes the prompts of a batch. What it raises is raised when the batch's turn comes.
        what: Stands before the progress bar.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: As `in_batches`.
    """
    total = len(questions) if hasattr(questions, "__len__") else None
    batches = in_batches(questions, batch_size, what=what, progress=False)
    shown = bar(what=what, unit="questions", total=total, progress=progress)
    with ThreadPoolExecutor(1) as worker, shown:
        batch = next(batches, None)
        making = None if batch is None else worker.submit(prepare, batch)
        while batch is not None and making is not None:
            made, now = making.result(), batch
            batch = next(batches, None)
            making = None if batch is None else worker.submit(prepare, batch)
            yield now, made
            shown.update(len(now))
