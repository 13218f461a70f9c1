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
from typing import Any

from mechaudio.audio.stored import duration_of
from mechaudio.models.clips import longest_clip
from mechaudio.question import AudioQuestion
from mechaudio.tracing.memory import bytes_per_position, memory_of, widest_bytes

WINDOW = 128
"""Questions that are sorted together; no more than two windows are held at a time."""

MOST_POSITIONS = {"cuda": 16_384, "cpu": 4_096}
"""Of a batch by default, however large the memory: a batch is the unit in which results are written."""

_CHARACTERS_PER_TOKEN = 3
_TEMPLATE = 40


@dataclass(frozen=True, eq=False)
class Placed:
    """A question and its place in the stream.

    Attributes:
        index: From 0.
        question: The question.
        length: About how many positions its prompt has.
    """

    index: int
    question: AudioQuestion
    length: int = 0


def windows(questions: Iterable[AudioQuestion], size: int = WINDOW) -> Iterator[list[Placed]]:
    """The stream in pieces of `size`, each taken from it when it is asked for.

    Raises:
        TypeError: For something else than a question.
    """
    numbered = enumerate(questions)
    while window := list(islice(numbered, min(size, sys.maxsize))):
        for index, question in window:
            if not isinstance(question, AudioQuestion):
                raise TypeError(f"questions are AudioQuestion, but number {index} is {question!r}")
        yield [Placed(index, question) for index, question in window]


def batches(window: Iterable[Placed], positions: int, questions: int = 0) -> Iterator[list[Placed]]:
    """The questions of a window, longest first, in batches.

    Args:
        window: The questions.
        positions: Most positions of a batch, padding included, 0 for any number; a question that is longer by itself is
            a batch of its own.
        questions: Most questions of a batch, 0 for any number.
    """
    waiting = sorted(window, key=lambda placed: (-placed.length, placed.index))
    while waiting:
        fitting = max(1, positions // max(1, waiting[0].length)) if positions else len(waiting)
        n = min(fitting, questions or fitting)
        yield waiting[:n]
        waiting = waiting[n:]


def length_of(model: Any, question: AudioQuestion, condition: str) -> int:
    """About how many positions a question's prompt has, from the header of its recording.

    Raises:
        FileNotFoundError: If the recording is not there.
        ValueError: If it is no sound.
    """
    adapter = model.adapter
    letters = len(question.text) + sum(len(choice) + 4 for choice in question.choices)
    letters += len(question.caption or "") if "caption" in condition else 0
    seconds = 0.0
    if condition != "caption" and question.audio is not None:
        seconds = duration_of(question.audio)
        longest = longest_clip(model.processor, adapter)
        if longest is not None:
            seconds = min(seconds, longest / adapter.sampling_rate)
        if adapter.timing.pads_to_window and adapter.timing.window is not None:
            seconds = max(seconds, adapter.timing.window / adapter.sampling_rate)
    return _TEMPLATE + letters // _CHARACTERS_PER_TOKEN + round(1000 * seconds / adapter.milliseconds)


def positions_that_fit(model: Any) -> int:
    """Positions of a batch whose keys, values and widest activations fit into the memory that may be used."""
    fitting = int(memory_of(model) / (bytes_per_position(model) + widest_bytes(model)))
    return max(1, min(fitting, MOST_POSITIONS["cuda" if model.device.type == "cuda" else "cpu"]))
