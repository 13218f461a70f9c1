"""Which choices of questions are right, which one a model chose, and by how much the right one leads.

All that is said of the likeliest choice is decided here, once.

Conventions: choices are compared by their text, so that of two of the same text either is right; a question with fewer
choices than others has none behind its own. A logit of minus infinity is a logit: a letter that was banned is not
chosen while another is there. A NaN among a question's own logits leaves it without an answer, for nothing can be said
of which is the largest; so does the largest logit if it is infinite and stands there twice (all letters banned, or
several overflowed).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.notices import warn

#: Stands for the choice where there is none.
NO_ANSWER = -1
#: Stands for a text where there is none, as its tokens were chosen by logits that are NaN.
NO_TEXT = "[NaN]"
UNWRITTEN = "logits are NaN or overflow"
REMEDY_OF_NAN = "float16 overflows like that: open the network in bfloat16 or float32"
_NAMED = 3


@checks_arguments
def right_choices(
    choices: Sequence[Sequence[str]], answers: Sequence[str | None]
) -> Bool[np.ndarray, "question choice"]:
    """Mark the right choices: those whose text is the answer, two where a question has it twice.

    Args:
        choices: Choices of each question.
        answers: Answers of each question; None where it is not known, and then no choice is right.

    Returns:
        Rows as long as the most choices of a question.

    Raises:
        ValueError: For lengths that differ, or an answer that is none of the choices.
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
        choices: Choices of each question.

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
        choices: Choices of each question.
        answers: Answers of each question; None where it is not known, or there are no choices, and then the share is 0.

    Raises:
        ValueError: For lengths that differ.
    """
    n_choices = np.array([len(own) for own in choices], dtype=np.int64)
    return right_choices(choices, answers).sum(-1) / np.maximum(1, n_choices)


def likeliest(
    logits: Float[np.ndarray, "*place choice"], n_choices: Int[np.ndarray, "*#place"] | Sequence[int] | int
) -> Int[np.ndarray, "*place"]:
    """Return the choice of the highest logit, the first of several alike; `NO_ANSWER` where there is none.

    Args:
        logits: Logits of the choices.
        n_choices: How many choices each question has, as broadcast against the places; what stands behind them is not
            looked at.
    """
    is_choice = np.arange(logits.shape[-1]) < np.asarray(n_choices)[..., None]
    there = np.where(is_choice, logits, -np.inf)
    unclear = np.isnan(there).any(-1)
    there = np.where(np.isnan(there), -np.inf, there)
    highest = there.max(-1, keepdims=True)
    several = ((there == highest) & is_choice).sum(-1) > 1
    unclear |= np.isneginf(highest[..., 0]) | (np.isposinf(highest[..., 0]) & several)
    return np.where(unclear, NO_ANSWER, there.argmax(-1))


def warn_of_unanswered(ids: Sequence[str], chosen: Int[np.ndarray, "*variant question"]) -> None:
    """Say how many questions have no answer, and which.

    Args:
        ids: Ids of the questions.
        chosen: As `likeliest`.

    Warns:
        UserWarning: A question has no answer, under one variant or more.
    """
    unanswered = _ids_where(ids, chosen == NO_ANSWER)
    if unanswered:
        warn(
            f"{len(unanswered)} of {len(ids)} questions have no answer, for logits of their choices are NaN or "
            f"overflow ({_first(unanswered)}): they count as not right. {REMEDY_OF_NAN}"
        )


def warn_of_unwritten(ids: Sequence[str], is_written: Bool[np.ndarray, "*variant question"]) -> None:
    """Say how many questions have no text, and which.

    Args:
        ids: Ids of the questions.
        is_written: Whether each has a text.

    Warns:
        UserWarning: A question has none, under one variant or more.
    """
    unwritten = _ids_where(ids, ~is_written)
    if unwritten:
        warn(
            f"{UNWRITTEN}, so that {len(unwritten)} of {len(ids)} texts were not written ({_first(unwritten)}): they "
            f"are {NO_TEXT!r}. {REMEDY_OF_NAN}"
        )


def _ids_where(ids: Sequence[str], marked: Bool[np.ndarray, "*variant question"]) -> list[str]:
    """Return the ids of questions that are marked under one variant or more."""
    return [ids[row] for row in np.flatnonzero(marked.reshape(-1, len(ids)).any(0))]


def _first(ids: Sequence[str]) -> str:
    """Name the first of some ids."""
    return ", ".join(map(repr, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")


def refuse_nan(
    ids: Sequence[str], logits: Float[np.ndarray, "question choice"], n_choices: Sequence[int], what: str
) -> None:
    """Refuse logits that nothing can be measured against.

    Args:
        ids: Ids of the questions.
        logits: Logits of the choices.
        n_choices: How many choices each question has.
        what: The run that they are from, as messages call it.

    Raises:
        ValueError: A question's own logits hold a NaN.
    """
    is_choice = np.arange(logits.shape[-1]) < np.asarray(n_choices)[:, None]
    nowhere = np.flatnonzero((np.isnan(logits) & is_choice).any(-1))
    if len(nowhere):
        raise ValueError(
            f"{len(nowhere)} of {len(ids)} questions have logits that are NaN in {what}, {ids[nowhere[0]]!r} first: "
            f"nothing can be held against them. {REMEDY_OF_NAN}"
        )


def are_right(
    chosen: Int[np.ndarray, "*place"], right: Bool[np.ndarray, "*#place choice"]
) -> Bool[np.ndarray, "*place"]:
    """Tell which of the chosen choices are right; none is where there is no answer.

    Args:
        chosen: As `likeliest`.
        right: As `right_choices`.
    """
    matched = np.take_along_axis(np.broadcast_to(right, (*chosen.shape, right.shape[-1])), chosen[..., None], -1)
    return matched[..., 0] & (chosen != NO_ANSWER)


def best_wrong(
    logits: Float[np.ndarray, "*#place choice"], right: Bool[np.ndarray, "*#place choice"]
) -> Int[np.ndarray, "*place"]:
    """Return the wrong choice of the highest logit; the first wrong one where none of them has a number.

    Args:
        logits: Logits of the choices, NaN for one that is not there.
        right: As `right_choices`; at least one choice of each question is wrong.
    """
    lowest = np.finfo(np.float64).min
    there = np.nan_to_num(logits.astype(np.float64), nan=lowest, neginf=lowest)
    return np.where(right, -np.inf, there).argmax(-1)


@checks_arguments
def margin(
    logits: Float[np.ndarray, "*#place choice"],
    right: Bool[np.ndarray, "*#place choice"],
    n_choices: Int[np.ndarray, "*#place"] | Sequence[int] | None = None,
) -> Float[np.ndarray, "*#place"]:
    """Logit of the right choice minus that of the best wrong one; of two right ones, of the better.

    Args:
        logits: Logits of the choices, NaN for one that is not there.
        right: As `right_choices`; any axes in front are matched as numpy matches them.
        n_choices: How many choices each question has, so that a NaN among these is known from a choice that is not
            there; without it every NaN counts as that.

    Returns:
        In the logits' precision; NaN where no choice is right, or `likeliest` finds no answer; infinite where none is
        wrong.
    """
    there = ~np.isnan(logits)
    lowest = np.array(-np.inf, dtype=logits.dtype)
    if n_choices is None:
        unclear = (likeliest(np.where(there, logits, lowest), logits.shape[-1]) == NO_ANSWER) | ~(there & right).any(-1)
    else:
        unclear = (likeliest(logits, n_choices) == NO_ANSWER) | ~right.any(-1)
    of_right, of_wrong = (np.where(side & there, logits, lowest).max(-1) for side in (right, ~right))
    nothing = np.full(np.broadcast_shapes(of_right.shape, unclear.shape), np.nan, dtype=logits.dtype)
    return np.subtract(of_right, of_wrong, out=nothing, where=~unclear)
