"""Asking the questions of one batch, under every variant: prompts, answers, and who could not be asked.

The prompt runs once for all variants: letter logits come from one sweep, texts continue from what it left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from mechaudio.arguments import n_of
from mechaudio.experiments.batches import Placed
from mechaudio.experiments.run_log import Row, digest, task_of
from mechaudio.interventions.selecting import check_choice
from mechaudio.interventions.sweep import generate_variants, sweep
from mechaudio.metrics.choices import UNWRITTEN
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import PromptFormat, prompt
from mechaudio.notices import warn, withheld
from mechaudio.question import EVERY_CONDITION, AudioQuestion
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.generation import generate
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import run

SCORINGS = ("letter_logit", "generate")
UNASKABLE = (ValueError, OSError)
"""Errors of a recording that is missing, damaged, too long or too short, or of a question that lacks something."""

Variants = Sequence[Sequence[Intervention]]
Logits = tuple[float, ...]
Found = TypeVar("Found")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Asking:
    """How questions are asked.

    Attributes:
        condition: What the model is given.
        scoring: `letter_logit`, or `generate` for greedy generation.
        max_new_tokens: Most tokens of a generated answer.
        layout: How questions are written out.
        allow_cut: Take the beginning of recordings that are longer than the model hears.

    Raises:
        ValueError: For a condition or scoring that there is not, or fewer than one new token.
    """

    condition: str = "audio"
    scoring: str = "letter_logit"
    max_new_tokens: int = 32
    layout: PromptFormat = field(default_factory=PromptFormat)
    allow_cut: bool = False

    def __post_init__(self):
        if self.condition not in EVERY_CONDITION:
            raise ValueError(f"condition is one of {EVERY_CONDITION}, got {self.condition!r}")
        check_choice("scoring", self.scoring, SCORINGS)
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")


def measured(length: Callable[[Placed], int], window: Sequence[Placed]) -> tuple[list[Placed], list[Row]]:
    """The questions with about how long they are; and rows of those whose recording is missing or no sound."""
    lengths, failed = _each(window, length)
    return [replace(placed, length=length) for placed, length in lengths.items()], failed


@dataclass(frozen=True, eq=False)
class Written:
    """Questions of a batch that can be asked, their prompts (None without any), and rows of those that cannot."""

    placed: Sequence[Placed]
    batch: PromptBatch | None
    failed: Sequence[Row]


def ask(model: AudioLM, asking: Asking, variants: Variants, placed: Sequence[Placed], batch: PromptBatch) -> list[Row]:
    """Ask some questions together, under every variant; of several variants, the first is the clean run, with none.

    Returns:
        One row per question.
    """
    if asking.scoring == "generate":
        answers = [{"texts": texts} for texts in zip(*_texts(model, batch, variants, asking), strict=True)]
    else:
        answers = [{"logits": logits} for logits in _letter_logits(model, batch, variants)]
    return [replace(_row(each), **answer) for each, answer in zip(placed, answers, strict=True)]


def write_out(model: AudioLM, asking: Asking, together: Sequence[Placed]) -> Written:
    """Make the prompts of the questions that can be asked, and rows of those that cannot."""
    opened, failed = _each(together, lambda placed: _opened(asking, placed.question))
    try:
        batch = _prompts(model, asking, list(opened.values())) if opened else None
    except UNASKABLE:  # of one of them: each by itself says of which
        askable, refused = _each(opened, lambda placed: _prompts(model, asking, [opened[placed]]).n_rows)
        opened = {placed: opened[placed] for placed in askable}
        failed += refused
        batch = _prompts(model, asking, list(opened.values())) if opened else None
    if batch is not None:  # the recordings that were read for it are held no longer
        batch = replace(batch, questions=tuple(placed.question for placed in opened))
    return Written(list(opened), batch, failed)


def in_halves(
    model: AudioLM,
    asking: Asking,
    do: Callable[[Sequence[Placed], PromptBatch], Made],
    together: Sequence[Placed],
    written: Written | None = None,
) -> tuple[list[Made], list[Row]]:
    """Do something to some questions at once or, where a GPU has no memory for it, to halves of them, and so on.

    Returns:
        What was made of the whole, or of its parts in their order; and rows of questions that cannot be asked, or for
        which there is no memory even one at a time.

    Warns:
        UserWarning: They are halved, and may give other bits for it.
    """
    try:
        written = written or write_out(model, asking, together)
        return [] if written.batch is None else [do(written.placed, written.batch)], [*written.failed]
    except torch.OutOfMemoryError as error:
        why = str(error).partition(". ")[0]
    del written  # its prompts take room, too
    torch.cuda.empty_cache()  # behind the error, which holds what there was no more room beside
    if len(together) == 1:
        lacking = MemoryError(f"the GPU has no memory for this question by itself, beside the model ({why})")
        return [], [_failed(together[0], lacking)]
    half = (len(together) + 1) // 2
    warn(
        f"the GPU has no memory for {n_of(len(together), 'question')} at once, so they are asked {half} at a time, and "
        "numbers may differ in their last bits from those of a whole batch. A smaller batch_size= is one from the "
        "beginning"
    )
    halves = together[:half], together[half:]
    (first, failed), (second, more) = (in_halves(model, asking, do, part) for part in halves)
    return first + second, failed + more


def _each(questions: Iterable[Placed], tried: Callable[[Placed], Found]) -> tuple[dict[Placed, Found], list[Row]]:
    """Try each question; give what came of it, and the rows of those of which nothing came."""
    made, failed = {}, []
    for placed in questions:
        try:
            made[placed] = tried(placed)
        except UNASKABLE as error:
            failed.append(_failed(placed, error))
    return made, failed


def _failed(placed: Placed, error: Exception) -> Row:
    without_sound = digest(placed.question, sound=False)
    return replace(_row(placed), question=without_sound, error=f"{type(error).__name__}: {error}")


def _row(placed: Placed) -> Row:
    question = placed.question
    return Row(placed.index, question.id, digest(question), task_of(question), question.choices, question.answer)


def _opened(asking: Asking, question: AudioQuestion) -> AudioQuestion:
    """The question with its recording read, if it is needed."""
    needless = asking.condition == "caption" or question.audio is None
    return question if needless else replace(question, audio=question.clips())


def _prompts(model: AudioLM, asking: Asking, questions: Sequence[AudioQuestion]) -> PromptBatch:
    return prompt(model, questions, condition=asking.condition, layout=asking.layout, allow_cut=asking.allow_cut)


def _letter_logits(model: AudioLM, batch: PromptBatch, variants: Variants) -> list[tuple[Logits, ...]]:
    """Per question and variant, the logits of the choices' letters."""
    if len(variants) == 1:
        logits = run(model, batch, interventions=variants[0], logits="last").logits[:, -1]
        by_variant = [choice_logits(batch, logits.float()).tolist()]
    else:
        swept = sweep(model, batch, variants[1:], progress=False)
        by_variant = [swept.clean.tolist(), *swept.logits.tolist()]
    return [
        tuple(tuple(logits[row][: len(question.choices)]) for logits in by_variant)
        for row, question in enumerate(batch.questions)
    ]


def _texts(model: AudioLM, batch: PromptBatch, variants: Variants, asking: Asking) -> list[Sequence[str]]:
    """Per variant, what the model writes to each question."""
    n = asking.max_new_tokens
    with withheld(UNWRITTEN):  # of all questions together it is said at the end
        if len(variants) > 1:
            written = generate_variants(model, batch, variants[1:], max_new_tokens=n, progress=False)
            return [written.clean_texts, *written.texts]
        return [generate(model, batch, max_new_tokens=n, interventions=variants[0]).texts]
