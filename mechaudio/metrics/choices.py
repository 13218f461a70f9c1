"""Which choices of questions are right, and by how much the right one leads.

Conventions: choices are compared by their text, so that of two of the same text either is right; a question with fewer
choices than others has none behind its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked


@checks_arguments
def right_choices(
    choices: Sequence[Sequence[str]], answers: Sequence[str | None]
) -> Bool[np.ndarray, "question choice"]:
    """Which choices are right: those whose text is the answer, two where a question has it twice.

    Args:
        choices: of each question.
        answers: of each question; None where it is not known, and then no choice is right.

    Returns:
        Rows as long as the most choices of a question.

    Raises:
        ValueError: for lengths that differ, or an answer that is none of the choices.
    """
    checked.same_length(choices=choices, answers=answers)
    strange = [row for row, answer in enumerate(answers) if answer is not None and answer not in choices[row]]
    if strange:
        row = strange[0]
        raise ValueError(f"answers[{row}] is {answers[row]!r}, which is none of its choices {tuple(choices[row])!r}")
    right = np.zeros((len(choices), max(map(len, choices), default=0)), dtype=bool)
    for row, (own, answer) in enumerate(zip(choices, answers, strict=True)):
        right[row, : len(own)] = [choice == answer for choice in own]
    return right


def first_places(choices: Sequence[Sequence[str]]) -> Int[np.ndarray, "question choice"]:
    """The place at which each choice's text first stands: equal places are equal texts.

    Args:
        choices: of each question.

    Returns:
        Rows as long as the most choices of a question; 0 where one has fewer.
    """
    places = np.zeros((len(choices), max(map(len, choices), default=0)), dtype=np.int64)
    for row, own in enumerate(choices):
        places[row, : len(own)] = [own.index(choice) for choice in own]
    return places


def chance(choices: Sequence[Sequence[str]], answers: Sequence[str | None]) -> Float[np.ndarray, " question"]:
    """The share of choices that are right: how likely one who guesses is to be right.

    Args:
        choices: of each question.
        answers: of each question; None where it is not known, and then the share is 0.

    Raises:
        ValueError: for lengths that differ.
    """
    return right_choices(choices, answers).sum(-1) / np.array([len(own) for own in choices])


@checks_arguments
def margin(
    logits: Float[np.ndarray, "*#place choice"], right: Bool[np.ndarray, "*#place choice"]
) -> Float[np.ndarray, "*#place"]:
    """Logit of the right choice minus that of the best wrong one; of two right ones, of the better.

    Args:
        logits: of the choices, NaN for one that is not there.
        right: as `right_choices`; any axes in front are matched as numpy matches them.

    Returns:
        In the logits' precision; NaN where no choice is right, or none is there; infinite where none is wrong.
    """
    there = ~np.isnan(logits)
    of_right, of_wrong = (np.where(side & there, logits, -np.inf).max(-1) for side in (right, ~right))
    nothing = np.full_like(of_right, np.nan)
    return np.subtract(of_right, of_wrong, out=nothing, where=right.any(-1) & there.any(-1))
