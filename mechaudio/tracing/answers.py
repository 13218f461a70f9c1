"""The answers that logits behind a prompt give to its question."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.metrics.choices import NO_ANSWER, likeliest, refuse_nan, warn_of_unanswered
from mechaudio.models.batch import PromptBatch
from mechaudio.models.targets import refuse_whole
from mechaudio.question import Answer, AudioQuestion
from mechaudio.tracing.choice_logits import choice_logits


def answers_in(batch: PromptBatch, logits: Float[Tensor, "batch vocab"], *, required: bool = False) -> list[Answer]:
    """The answers that logits at the last prompt position give to the questions of a batch.

    Warns:
        UserWarning: Questions have no answer.

    Raises:
        ValueError: A question has no answer, where one is required; or all tokens of some words count.
    """
    refuse_whole(batch, "a single pass", "ma.answer(model, batch) and ma.sweep measure whole texts")
    return answers_of(batch, choice_logits(batch, logits.float()), required=required)


def answers_of(batch: PromptBatch, rows: Float[np.ndarray, "batch choice"], *, required: bool = False) -> list[Answer]:
    """Read answers off the logits of choices, or the log-probabilities of whole texts.

    Warns:
        UserWarning: Questions have no answer.

    Raises:
        ValueError: A question has no answer, where one is required.
    """
    n_choices = [len(question.choices) for question in batch.questions]
    ids = [question.id for question in batch.questions]
    if required:
        refuse_nan(ids, rows, n_choices, "this run")
    chosen = likeliest(rows, n_choices)
    warn_of_unanswered(ids, chosen)
    return [
        _answer(question, tuple(row[: len(question.choices)].tolist()), None if place == NO_ANSWER else place)
        for question, row, place in zip(batch.questions, rows, chosen.tolist(), strict=True)
    ]


def _answer(question: AudioQuestion, logits: tuple[float, ...], place: int | None) -> Answer:
    choice = None if place is None else question.choices[place]
    return Answer(
        question_id=question.id,
        choices=question.choices,
        choice=choice,
        letter=None if place is None else question.letters[place],
        choice_logits=logits,
        probabilities=tuple(torch.tensor(logits, dtype=torch.float64).softmax(-1).tolist()),
        correct=None if question.answer is None else choice == question.answer,
    )
