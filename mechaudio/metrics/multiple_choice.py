"""Scores of multiple-choice answers, and of what an intervention did to them.

Conventions: `correct`, `before` and `after` hold right (True) or wrong (False), one per question, `before` and `after`
for the same questions in the same order; rates are from 0 to 1 with Wilson's 95% interval. `clips`
names the clip of each question, whose questions intervals and tests take as a cluster (`mechaudio.metrics.clips`).
Logits are those of the choices, NaN where a question has fewer choices than another.

Fix rate: wrong answers made right, among the wrong. Break rate: right answers made wrong, among the right. A fix rate
alone says little, since answering at random fixes wrong answers too: one in n with n choices, one in n - 1 if the
answer always moves. Hence `random_fix_rate`, and the break rate and the net change beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binom

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values
from mechaudio.metrics.clips import Clips, clip_numbers
from mechaudio.metrics.estimates import AsDict, Estimate, Proportion
from mechaudio.metrics.significance import McNemar, mcnemar, paired_difference, share


@dataclass(frozen=True)
class AnswerChange(AsDict):
    """Changes of the answers to the same questions.

    Attributes:
        n: questions.
        before: Accuracy before.
        after: Accuracy after.
        change: Accuracy after minus before.
        fix_rate: Wrong made right among the wrong; None if none was wrong.
        break_rate: Right made wrong among the right; None if none was right.
        test: Whether fixes and breaks balance.
    """

    n: int
    before: Proportion
    after: Proportion
    change: Estimate
    fix_rate: Proportion | None
    break_rate: Proportion | None
    test: McNemar

    def __str__(self) -> str:
        return "\n".join(
            (
                f"accuracy    {self.before} -> {self.after}",
                f"change      {self.change.in_points()}",
                f"fix rate    {self.fix_rate or 'none was wrong'}",
                f"break rate  {self.break_rate or 'none was right'}",
                f"test        {self.test}",
            )
        )


@dataclass(frozen=True)
class RandomFixRate(AsDict):
    """The fix rate of one who does not listen; its intervals hold that share of all such answerers.

    Attributes:
        uniform: Each choice is equally likely, the earlier one too: 1/n with n choices.
        another: Each choice but the earlier one is equally likely: 1/(n - 1).
    """

    uniform: Estimate
    another: Estimate

    def __str__(self) -> str:
        return f"any choice      {self.uniform.in_percent()}\nanother choice  {self.another.in_percent()}"


@checks_arguments
def accuracy(correct: Values, *, clips: Clips | None = None, confidence: float = 0.95) -> Proportion:
    """The share of right answers.

    Args:
        correct: Right or wrong, `[question]`.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the interval.

    Raises:
        ValueError: For no answers, or a confidence outside 0 to 1.
        TypeError: For an answer that is neither right nor wrong.
    """
    return share(correct, clips=clips, confidence=confidence)


@checks_arguments
def accuracy_by_group(
    correct: Values,
    groups: Values,
    *,
    clips: Clips | None = None,
    confidence: float = 0.95,
) -> dict[str, Proportion]:
    """The share of right answers in each group, in the order in which the groups first come.

    Args:
        correct: Right or wrong, `[question]`.
        groups: The name of each question's group, such as its task.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the intervals.

    Raises:
        ValueError: For lengths that differ, and as `accuracy`.
        TypeError: As `accuracy`.
    """
    right, names = checked.outcomes("correct", correct), [str(group) for group in groups]
    checked.same_length(correct=right, groups=names)
    members: dict[str, list[int]] = {}
    for question, name in enumerate(names):
        members.setdefault(name, []).append(question)
    clip_numbers(clips, len(right))  # raises if there are more clips than questions, or fewer
    named = None if clips is None else np.array(list(clips), dtype=object)
    return {
        name: share(right[those], clips=None if named is None else named[those], confidence=confidence)
        for name, those in members.items()
    }


@checks_arguments
def fix_rate(before: Values, after: Values, *, clips: Clips | None = None, confidence: float = 0.95) -> Proportion:
    """Wrong answers made right, among the wrong.

    Raises:
        ValueError: If no answer was wrong before, for no answers, lengths that differ, or a confidence outside 0 to 1.
        TypeError: For an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    if before.all():
        raise ValueError(f"none of the {len(before)} answers was wrong before, so none can be fixed")
    return share(after[~before], clips=_those(clips, ~before), confidence=confidence)


@checks_arguments
def break_rate(before: Values, after: Values, *, clips: Clips | None = None, confidence: float = 0.95) -> Proportion:
    """Right answers made wrong, among the right.

    Raises:
        ValueError: If no answer was right before, for no answers, lengths that differ, or a confidence outside 0 to 1.
        TypeError: For an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    if not before.any():
        raise ValueError(f"none of the {len(before)} answers was right before, so none can be broken")
    return share(~after[before], clips=_those(clips, before), confidence=confidence)


@checks_arguments
def answer_change(
    before: Values, after: Values, *, clips: Clips | None = None, confidence: float = 0.95
) -> AnswerChange:
    """Compare answers: accuracy before and after, net change, fix rate, break rate, and McNemar's test.

    Args:
        before: Right or wrong, `[question]`.
        after: Right or wrong, of the same questions in the same order (see `match_ids`).
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the intervals.

    Raises:
        ValueError: For no answers, lengths that differ, or a confidence outside 0 to 1.
        TypeError: For an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    told: dict[str, Any] = {"clips": clips, "confidence": confidence}
    return AnswerChange(
        n=len(before),
        before=accuracy(before, **told),
        after=accuracy(after, **told),
        change=paired_difference(before, after, **told),
        fix_rate=None if before.all() else fix_rate(before, after, **told),
        break_rate=break_rate(before, after, **told) if before.any() else None,
        test=mcnemar(before, after, clips=clips),
    )


def _those(clips: Clips | None, chosen: Bool[np.ndarray, " question"]) -> Clips | None:
    """The clips of some of the questions."""
    clip_numbers(clips, len(chosen))
    return None if clips is None else [name for name, among in zip(clips, chosen, strict=True) if among]


def best_rows(
    correct: Bool[np.ndarray, "variant question"], margin: Float[np.ndarray, "variant question"] | None = None
) -> tuple[int, ...]:
    """The rows with most right answers; of equally many, of the largest mean margin; several where these are equal.

    A variant that is chosen so is to be judged on other questions.

    Args:
        correct: Whether each answer is right.
        margin: Logit of the right choice minus that of the best wrong one; a mean that is NaN is below all others.

    Raises:
        ValueError: For no rows, or no questions.
    """
    if not np.size(correct):
        raise ValueError(f"the best is chosen among variants by answers, got an array of shape {np.shape(correct)}")
    with np.errstate(invalid="ignore"):  # banned letters may lead by infinity here and lag by it there
        lead = np.zeros(len(correct)) if margin is None else np.nan_to_num(margin.mean(1), nan=-np.inf)
    order = list(zip(correct.sum(1), lead, strict=True))
    best = max(order)
    return tuple(row for row, own in enumerate(order) if own == best)


def best_row(
    correct: Bool[np.ndarray, "variant question"],
    margin: Float[np.ndarray, "variant question"] | None = None,
    *,
    seed: int = 0,
) -> int:
    """The best of `best_rows`, drawn by a lot of this seed where there are several.

    Raises:
        ValueError: As `best_rows`.
    """
    best = best_rows(correct, margin)
    return best[int(np.random.default_rng(seed).integers(len(best)))]


@checks_arguments
def random_fix_rate(
    before: Values, n_choices: Values | int, *, n_right: Values | int = 1, confidence: float = 0.95
) -> RandomFixRate:
    """The fix rate of answers at random, to hold a fix rate against.

    Args:
        before: Right or wrong before, `[question]`; only the wrong count.
        n_choices: Choices of each question, or one number for all.
        n_right: Choices whose text is the answer, where a question repeats it.
        confidence: Share of random answerers within the intervals, at the least.

    Raises:
        ValueError: If no answer was wrong before, for lengths that differ, for fewer than 2 choices or 1 right one, or
            for a question whose choices are all right.
        TypeError: For an answer that is neither right nor wrong.
    """
    wrong = ~checked.outcomes("before", before)
    if not wrong.any():
        raise ValueError(f"none of the {len(wrong)} answers was wrong before, so none can be fixed")
    choices, right = _per_question("n_choices", n_choices, len(wrong)), _per_question("n_right", n_right, len(wrong))
    odd = np.flatnonzero((choices < 2) | (right < 1) | (right >= choices))
    if len(odd):
        raise ValueError(
            f"a question that can be answered wrongly needs 1 <= n_right < n_choices, got n_right={right[odd[0]]}, "
            f"n_choices={choices[odd[0]]} at question {odd[0]}"
        )
    choices, right, tail = choices[wrong], right[wrong], (1 - checked.level(confidence)) / 2

    def among(candidates: Int[np.ndarray, " wrong"], method: str) -> Estimate:
        n, hits = len(candidates), right / candidates
        each = (binom.pmf(np.arange(m + 1), m, p) for p, m in zip(*np.unique(hits, return_counts=True), strict=True))
        low, high = np.searchsorted(reduce(np.convolve, each).cumsum(), [tail, 1 - tail]) / n
        return Estimate(float(hits.mean()), float(low), float(high), n, confidence, method)

    return RandomFixRate(
        uniform=among(choices, "Poisson binomial, any choice"),
        another=among(choices - 1, "Poisson binomial, another choice"),
    )


@checks_arguments
def match_ids(before: Sequence[str], after: Sequence[str]) -> Int[np.ndarray, " question"]:
    """Find the questions of one evaluation in another: `after_correct[match_ids(before_ids, after_ids)]`.

    Args:
        before: Ids of one evaluation.
        after: Ids of the other, the same in any order.

    Returns:
        For each id of `before`, its place in `after`.

    Raises:
        ValueError: For an id that comes twice, or that only one of them has.
    """
    first, second = checked.unique("before", before), checked.unique("after", after)
    places = {key: place for place, key in enumerate(second)}
    missing, extra = [key for key in first if key not in places], sorted(set(second) - set(first))
    if missing or extra:
        raise ValueError(
            f"the two were not asked the same questions: {n_of(len(missing), 'is', 'are')} in the first alone "
            f"{missing[:3]}, {len(extra)} in the second alone {extra[:3]}; compare those that both have"
        )
    return np.array([places[key] for key in first], dtype=np.int64)


def _per_question(name: str, values: Values | int, n: int) -> Int[np.ndarray, " question"]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} needs whole numbers, got {array.dtype}")
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name} needs one number for all, or one per question ({n}), got shape {list(array.shape)}")
    return np.broadcast_to(array.astype(np.int64), (n,))
