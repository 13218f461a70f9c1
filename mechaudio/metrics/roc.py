"""How well one score tells right answers from wrong ones: the area under its ROC curve.

Conventions: a higher score should mean a right answer; p values are two-sided; `clips` names the clip of each question,
whose questions are taken as a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu, norm, rankdata, t

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values
from mechaudio.metrics.clips import Clips, clip_numbers, counted, design_effect, freedom, n_clips, quantile
from mechaudio.metrics.estimates import AsDict

#: At 0 and 1 themselves there is no variance, so that they always lie within none of it.
_EDGE = 1e-9

#: Right and wrong answers of one stratum, and the places of both among all questions.
_Stratum = tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]


@dataclass(frozen=True)
class RocAuc(AsDict):
    """The chance that a right answer's score is above a wrong answer's, ties counting half.

    Attributes:
        value: Area under the ROC curve; 0.5 for a score that tells nothing.
        low: Lower end of Newcombe's interval (2006).
        high: Upper end.
        p: P value of the Mann-Whitney test that right and wrong answers have the same scores; where clips share
            questions, of its normal form with the variance that the clips have (Obuchowski 1997).
        n_right: Right answers that were compared.
        n_wrong: Wrong answers that were compared.
        confidence: Level of the interval.
        n_clips: Clips that the answers are about; None where each is about a clip of its own.
    """

    value: float
    low: float
    high: float
    p: float
    n_right: int
    n_wrong: int
    confidence: float
    n_clips: int | None = None

    def __str__(self) -> str:
        n = self.n_right + self.n_wrong
        of = "" if self.n_clips is None else f"; {counted(n, self.n_clips)}"
        return (
            f"AUC {self.value:.3f} ({100 * self.confidence:g}% interval {self.low:.3f} to {self.high:.3f}, "
            f"p = {self.p:.3g}, {self.n_right} right, {self.n_wrong} wrong{of})"
        )


@checks_arguments
def roc_auc(
    scores: Values,
    correct: Values,
    *,
    strata: Values | None = None,
    clips: Clips | None = None,
    confidence: float = 0.95,
) -> RocAuc:
    """The area under the ROC curve of a score that should be higher for right answers (Hanley and McNeil 1982).

    With `strata`, answers are compared with answers of their own stratum alone: the area is the share of all such pairs
    in which the right answer scores higher. A score that only tells easy kinds of questions from hard ones is at 0.5
    then. The p value is that of the stratified Mann-Whitney test (van Elteren 1960, all pairs weighing the same).

    The interval holds the areas that lie within so many of their own standard errors of the one seen (Newcombe,
    Statistics in Medicine 25:559, 2006, method 5). At 0.5 that is the standard error of the Mann-Whitney test, so the
    interval does not contradict its p value, and it has a width where every right answer scores above every wrong one.
    Where clips share questions, numbers of answers are divided by the design effect, the variance of DeLong's
    components summed over clips (Obuchowski, Biometrics 53:567, 1997) over that of the components one by one. It
    counts the clips of both sides together: where few clips have most of the right or of the wrong answers, and these
    are all alike, intervals miss up to 7% in place of 5, and p up to 8 (docs/statistics.md).

    Args:
        scores: `[question]`, finite.
        correct: Right or wrong, `[question]`.
        strata: The kind of each question, such as its task; strata with fewer than two right or two wrong answers are
            left out.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the interval.

    Raises:
        ValueError: For lengths that differ, NaN, fewer than two right or two wrong answers (in every stratum), or a
            confidence outside 0 to 1.
        TypeError: For anything but numbers, or an answer that is neither right nor wrong.
    """
    values, correct = checked.numbers("scores", scores), checked.outcomes("correct", correct)
    if values.ndim != 1:
        raise ValueError(f"scores needs one number per question, got shape {list(values.shape)}")
    checked.same_length(scores=values, correct=correct)
    confidence = checked.level(confidence)
    numbers = clip_numbers(clips, len(values))
    compared = _strata(values, correct, strata)
    among = np.concatenate([side for stratum in compared for side in stratum])
    sizes = [(len(right), len(wrong)) for right, wrong in compared]
    parts = [_components(values, stratum) for stratum in compared]
    n_pairs = sum(m * n for m, n in sizes)
    area = sum(part.mean() * m * n for (part, _), (m, n) in zip(parts, sizes, strict=True)) / n_pairs
    deviations = np.concatenate(
        [
            (side - side.mean()) / len(side) * m * n / n_pairs
            for part, (m, n) in zip(parts, sizes, strict=True)
            for side in part
        ]
    )
    chosen = numbers[among]
    effect, k = float(design_effect(deviations, chosen)), n_clips(chosen)
    low, high = _newcombe(float(area), [(m / effect, n / effect) for m, n in sizes], quantile(confidence, chosen))
    if k < len(chosen):
        p = _normal_p(values, compared, effect, freedom(chosen))
    elif len(compared) == 1:
        p = float(mannwhitneyu(*(values[side] for side in compared[0]), method="auto").pvalue)
    else:
        p = _normal_p(values, compared, 1.0, None)
    n_right, n_wrong = (sum(counts) for counts in zip(*sizes, strict=True))
    return RocAuc(float(area), low, high, p, n_right, n_wrong, confidence, k if k < len(chosen) else None)


def _strata(
    scores: Float[np.ndarray, " question"], correct: Bool[np.ndarray, " question"], strata: Values | None
) -> list[_Stratum]:
    """The places of the right and of the wrong answers, of one stratum after another."""
    if strata is None:
        right, wrong = np.flatnonzero(correct), np.flatnonzero(~correct)
        if min(len(right), len(wrong)) < 2:
            raise ValueError(
                "the area with its interval needs at least 2 right and 2 wrong answers, got "
                f"{len(right)} and {len(wrong)}"
            )
        return [(right, wrong)]
    checked.same_length(scores=scores, strata=strata)
    kinds = np.array([str(kind) for kind in strata])
    sides = [
        (np.flatnonzero((kinds == kind) & correct), np.flatnonzero((kinds == kind) & ~correct))
        for kind in dict.fromkeys(kinds.tolist())
    ]
    compared = [stratum for stratum in sides if min(map(len, stratum)) >= 2]
    if not compared:
        raise ValueError(
            f"none of the {len(sides)} strata has 2 right and 2 wrong answers, which the area within strata needs: "
            "give fewer, larger strata"
        )
    return compared


def _components(
    scores: Float[np.ndarray, " question"], stratum: _Stratum
) -> tuple[Float[np.ndarray, " right"], Float[np.ndarray, " wrong"]]:
    """Give each right answer the share of wrong ones below it, each wrong one the share of right ones above it."""
    right, wrong = (scores[side] for side in stratum)
    ranks = rankdata(np.concatenate([right, wrong]))
    m, n = len(right), len(wrong)
    return (ranks[:m] - rankdata(right)) / n, 1 - (ranks[m:] - rankdata(wrong)) / m


def _newcombe(area: float, sizes: Sequence[tuple[float, float]], z: float) -> tuple[float, float]:
    """The areas from which the one seen is `z` standard errors away."""
    n_pairs = sum(m * n for m, n in sizes)

    def variance(true: float) -> float:
        total = 0.0
        for m, n in sizes:
            more = max(0.0, (m + n) / 2 - 1)
            total += m * n * true * (1 - true) * (1 + more * ((1 - true) / (2 - true) + true / (1 + true)))
        return total / n_pairs**2

    def beyond(true: float) -> float:
        return (area - true) ** 2 - z**2 * variance(true)

    low = 0.0 if area <= 0 else float(brentq(beyond, 0.0, min(area, 1 - _EDGE)))
    return low, 1.0 if area >= 1 else float(brentq(beyond, max(area, _EDGE), 1.0))


def _normal_p(
    scores: Float[np.ndarray, " question"], compared: Sequence[_Stratum], effect: float, df: float | None
) -> float:
    """Give the p value of the sum over strata of U, about normal; ties reduce its variance (van Elteren 1960)."""
    beyond = variance = 0.0
    for stratum in compared:
        ranks = rankdata(scores[np.concatenate(stratum)])
        m, n = map(len, stratum)
        beyond += ranks[:m].sum() - m * (m + n + 1) / 2
        variance += m * n * ranks.var(ddof=1) / (m + n)
    if not variance:
        return 1.0
    standard = abs(beyond) / np.sqrt(variance * effect)
    return float(2 * (norm.sf(standard) if df is None else t.sf(standard, df)))
