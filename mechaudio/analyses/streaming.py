"""Questions in batches, so that any number of them can be asked in bounded memory.

Every analysis takes its questions through here: questions in any iterable, drawn when their turn comes, or prompts that
are made already, which are one batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from mechaudio.analyses.ahead import Ahead
from mechaudio.audio.stored import duration_of
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import longest_clip
from mechaudio.models.prompt import PromptFormat, as_prompts
from mechaudio.progress import bar
from mechaudio.question import NO_QUESTIONS, AudioQuestion, Recording, only_questions
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.memory import bytes_per_position, memory_of, widest_bytes

Made = TypeVar("Made")

#: What an analysis is asked about: questions, or prompts made of them; where no question is needed, also a dict of the
#: network's own inputs.
Questions = PromptBatch | Mapping[str, Any] | Iterable[AudioQuestion]
#: What is asked together: some questions, pairs of them, or prompts.
Together = Sequence[Any] | PromptBatch | Mapping[str, Any]

MOST_POSITIONS = {"cuda": 16_384, "cpu": 2_048}
"""Default number of positions of a batch, however large the memory: more at once run no faster, and a batch is the unit
in which results are written."""

_CHARACTERS_PER_TOKEN = 3
_TEMPLATE = 40


def batches_of(model: AudioLM, questions: Questions, condition: str = "audio", **options: Any) -> Iterator[PromptBatch]:
    """Prompts a batch at a time: those given, or questions written out, ahead of the model.

    Prompts, or a dict of the network's own inputs, are one batch; questions are drawn when their turn comes. Options
    are those of `prepared_batches`.

    Raises:
        TypeError: Something else.
        ValueError: Without questions, for prompts made in another condition, or as `ma.prompt`.
    """
    make = partial(as_prompts, model, condition=condition)
    with closing(prepared_batches(model, questions, make, condition=condition, **options)) as prepared:
        for _, batch in prepared:
            yield batch


def prepared_batches(
    model: AudioLM,
    questions: Questions,
    prepare: Callable[[Any], Made],
    *,
    condition: str = "audio",
    batch_size: int | None = None,
    workers: int = 0,
    what: str,
    progress: bool | None,
) -> Generator[tuple[Together, Made], None, None]:
    """As `in_batches`, each with what is made of it: while the model works on one batch, others are made.

    Processes make them (`Ahead`), without any of these a thread, a batch ahead. Where making prompts runs the network
    (audio tokens merged by content, transcripts), which does one run at a time, each batch is made when its turn comes.

    Questions are drawn in the thread of the caller; what `prepare` raises is raised when the batch's turn comes.

    Raises:
        ValueError: As `in_batches`.
    """
    ahead: Ahead[Any, Made] = Ahead(model, prepare, workers, threaded=True, refers_to=questions_in)
    shown = bar(what=what, unit="questions", total=_total(questions), progress=progress)
    drawn = in_batches(model, questions, condition=condition, batch_size=batch_size, what=what, progress=False)
    with closing(ahead(drawn)) as batches, shown:
        for batch, made in batches:
            yield batch, made
            shown.update(len(questions_in(batch)))


def in_batches(
    model: AudioLM,
    questions: Questions | Iterable[Any],
    *,
    condition: str = "audio",
    batch_size: int | None = None,
    most: int | None = None,
    batch_positions: int | None = None,
    what: str,
    progress: bool | None,
) -> Iterator[Together]:
    """Questions a batch at a time; they are drawn from the iterable, and their clips read, when their turn comes.

    They may be pairs of questions, and prompts are one batch. By default a batch has as many as fit into
    `batch_positions`, or as memory allows, and at `most` so many.

    Raises:
        TypeError: Something else than questions and prompts.
        ValueError: For a batch size below one, or without questions.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(questions, (PromptBatch, Mapping)):
        yield questions
        return
    if isinstance(questions, (str, bytes, AudioQuestion)) or not isinstance(questions, Iterable):
        raise TypeError(
            "questions= takes a list of ma.AudioQuestion, or prompts that ma.prompt made of them; got "
            f"{type(questions).__name__} {questions!r:.80}" + (": write [question]" if hasattr(questions, "id") else "")
        )
    done = 0
    with bar(what=what, unit="questions", total=_total(questions), progress=progress) as shown:
        for batch in _cut(model, questions, condition, batch_size, most, batch_positions):
            yield batch
            done += len(batch)
            shown.update(len(batch))
    if not done:
        raise ValueError(NO_QUESTIONS)


def questions_in(asked: Questions) -> Sequence[AudioQuestion]:
    """The questions of what is asked together; none of a dict of the network's own inputs."""
    if isinstance(asked, PromptBatch):
        return asked.questions
    return () if isinstance(asked, Mapping) else list(asked)


def required_questions(questions: Questions, condition: str = "audio") -> Iterable[AudioQuestion]:
    """The questions themselves, for what writes prompts of its own: of prompts, those that they were made of.

    Raises:
        TypeError: A dict of the network's own inputs, which does not say what is asked.
        ValueError: Prompts made in another condition.
    """
    if isinstance(questions, Mapping) or (isinstance(questions, PromptBatch) and not questions.questions):
        raise TypeError("plain inputs do not say what is asked: give questions, or prompts made of them with ma.prompt")
    if not isinstance(questions, PromptBatch):
        return only_questions(questions) if isinstance(questions, Iterator) else questions
    if questions.condition != condition:
        raise ValueError(
            f"these prompts were made with condition={questions.condition!r}, and {condition!r} is asked about: give "
            "the questions"
        )
    return questions.questions


def asked_anew(
    questions: Questions, condition: str = "audio", layout: PromptFormat | None = None
) -> Iterable[AudioQuestion]:
    """The questions themselves, for what writes them out again.

    Raises:
        TypeError: As `required_questions`.
        ValueError: As `required_questions`; prompts that would not be written again as they are: of conversations, in
            another layout, or measured on words, which would be offered as choices.
    """
    anew = required_questions(questions, condition)
    if not isinstance(questions, PromptBatch):
        return anew
    aim = next(filter(None, questions.aims), None)
    if aim is not None:
        raise ValueError(
            f"these prompts are measured on words (target={aim.target!r}), and here questions are written out again, "
            "which would offer the words as choices: give the questions. Behind prompts words are measured by "
            "ma.answer, ma.sweep, patching, lenses and ma.analyses.specialist_heads"
        )
    if questions.layout is None:
        raise ValueError(
            "some of these prompts are conversations, and here questions are written out again, which would leave out "
            "all but the last turn: ask them as questions, or read the prompts with ma.run, ma.generate, lenses or "
            "patching"
        )
    if questions.layout != (layout or PromptFormat()):
        raise ValueError(
            f"these prompts are written with layout={questions.layout}, and here questions are written out again with "
            f"layout={layout or PromptFormat()}: give the questions"
        )
    return anew


def sequence_of(questions: Questions) -> Sequence[AudioQuestion]:
    """The questions as a sequence, for what goes through them more than once; a sequence stays what it is.

    Raises:
        TypeError: As `required_questions`.
        ValueError: As `required_questions`.
    """
    anew = asked_anew(questions)
    return anew if isinstance(anew, Sequence) or hasattr(anew, "__getitem__") else list(anew)


def concatenated(parts: Sequence[np.ndarray], fill: Any, *, in_front: bool = False) -> np.ndarray:
    """Arrays behind one another along the first axis, the others filled up to the longest, or `in_front` as prompts."""
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int) if parts[0].ndim > 1 else []
    padded = []
    for part in parts:
        short = [int(size) - length for size, length in zip(shape, part.shape[1:], strict=True)]
        padding = [(0, 0), *((n, 0) if in_front else (0, n) for n in short)]
        padded.append(np.pad(part, padding, constant_values=fill))
    return np.concatenate(padded)


def length_of(model: AudioLM, question: AudioQuestion, condition: str) -> int:
    """About how many positions a question's prompt has, from the header of its recording.

    Raises:
        FileNotFoundError: If the recording is not there.
        ValueError: If it is no sound.
    """
    adapter = model.adapter
    letters = len(question.text) + sum(len(choice) + 4 for choice in question.choices)
    letters += len(question.caption or "") if "caption" in condition else 0
    seconds = sum(_heard(model, recording) for recording in question.recordings) if condition != "caption" else 0.0
    return _TEMPLATE + letters // _CHARACTERS_PER_TOKEN + round(1000 * seconds / adapter.milliseconds)


def _heard(model: AudioLM, recording: Recording) -> float:
    """Seconds that a recording takes of the prompt."""
    timing, rate = model.adapter.timing, model.adapter.sampling_rate
    seconds, longest = duration_of(recording), longest_clip(model.processor, model.adapter)
    if longest is not None:
        seconds = min(seconds, longest / rate)
    return max(seconds, timing.window / rate) if timing.pads_to_window and timing.window is not None else seconds


def positions_that_fit(model: AudioLM) -> int:
    """Positions of a batch whose keys, values and widest activations fit into the memory that may be used."""
    fitting = int(memory_of(model) / (bytes_per_position(model) + widest_bytes(model)))
    return max(1, min(fitting, MOST_POSITIONS["cuda" if model.device.type == "cuda" else "cpu"]))


def _cut(
    model: AudioLM,
    questions: Iterable[Any],
    condition: str,
    batch_size: int | None,
    most: int | None,
    batch_positions: int | None,
) -> Iterator[list[Any]]:
    """Neighbours, so many at once, or as many as fit by their estimated lengths."""
    drawn = iter(questions)
    if batch_size is not None:
        while batch := list(islice(drawn, min(batch_size, sys.maxsize))):
            yield batch
        return
    room, batch, longest = batch_positions or positions_that_fit(model), [], 0
    for asked in drawn:
        length = _length(model, asked, condition)
        if batch and (max(longest, length) * (len(batch) + 1) > room or len(batch) == most):
            yield batch
            batch, longest = [], 0
        batch.append(asked)
        longest = max(longest, length)
    if batch:
        yield batch


def _length(model: AudioLM, asked: Any, condition: str) -> int:
    """About how many positions a question has, or the longer of a pair."""
    if isinstance(asked, tuple):
        return max(_length(model, each, condition) for each in asked)
    try:
        return length_of(model, asked, condition)
    except (AttributeError, OSError, ValueError):  # what is wrong with it is said when its prompt is made
        return 1


def _total(questions: Any) -> int | None:
    return len(questions) if hasattr(questions, "__len__") else None
