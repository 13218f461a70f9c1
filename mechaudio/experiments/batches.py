"""Which questions are asked together: neighbours in the stream that are about as long as each other.

Questions are taken from the stream a window at a time and sorted within it, longest first; batches are then cut off the
front. So the batches that remain of a window do not depend on how many were asked before, and a run that is taken up
again goes through the same batches.

Conventions: a length is in positions of the prompt, and an estimate: no sound is decoded for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from mechaudio.question import AudioQuestion, only_questions

WINDOW = 128
"""Questions that are sorted together; no more than two windows are held at a time."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A question, its place in the stream from 0, and about how many positions its prompt has."""

    index: int
    question: AudioQuestion
    length: int = 0


def windows(questions: Iterable[AudioQuestion], size: int = WINDOW) -> Iterator[list[Placed]]:
    """The stream in pieces of `size`, each taken from it when it is asked for.

    Raises:
        TypeError: For something else than a question.
    """
    numbered = enumerate(only_questions(questions))
    while window := list(islice(numbered, min(size, sys.maxsize))):
        yield [Placed(index, question) for index, question in window]


def batches(window: Iterable[Placed], batch_positions: int, questions: int = 0) -> Iterator[list[Placed]]:
    """The questions of a window, longest first, in batches.

    Of positions (padding included) and of questions a batch has so many at most, or with 0 any number; a question that
    is longer by itself is a batch of its own.
    """
    waiting = sorted(window, key=lambda placed: (-placed.length, placed.index))
    while waiting:
        fitting = max(1, batch_positions // max(1, waiting[0].length)) if batch_positions else len(waiting)
        n = min(fitting, questions or fitting)
        yield waiting[:n]
        waiting = waiting[n:]
