"""How well one score tells right answers from wrong ones: the area under its ROC curve.

Conventions: a higher score should mean a right answer; p values are two-sided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import mannwhitneyu, norm, rankdata

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values


@dataclass(frozen=True)
class RocAuc:
    """The chance that a right answer's score is above a wrong answer's, ties counting half.

    Attributes:
        value: area under the ROC curve; 0.5 for a score that tells nothing.
        low: lower end of the percentile bootstrap interval, right and wrong answers drawn separately.
        high: upper end.
        p: of the Mann-Whitney test that right and wrong answers have the same scores.
        n_right: right answers that were compared.
        n_wrong: wrong answers that were compared.
        confidence: of the interval.
    """

    value: float
    low: float
    high: float
    p: float
    n_right: int
    n_wrong: int
    confidence: float

    def __str__(self) -> str:
        return (
            f"AUC {self.value:.3f} ({100 * self.confidence:g} % interval {self.low:.3f} to {self.high:.3f}, "
            f"p = {self.p:.3g}, {self.n_right} right, {self.n_wrong} wrong)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)


@checks_arguments
def roc_auc(
    scores: Values,
    correct: Values,
    *,
    strata: Values | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> RocAuc:
    """The area under the ROC curve of a score that should be higher for right answers (Hanley and McNeil 1982).

    With `strata`, answers are compared with answers of their own stratum alone: the area is the share of all such pairs
    in which the right answer scores higher. A score that only tells easy kinds of questions from hard ones is at 0.5
    then. The p value is that of the stratified Mann-Whitney test (van Elteren 1960, all pairs weighing the same).

    Of few questions the bootstrap sees too little: where every right answer scores above every wrong one, all resamples
    agree, and the interval has no width.

    Args:
        scores: `[question]`, finite.
        correct: right or wrong, `[question]`.
        strata: the kind of each question, such as its task; strata with fewer than two right or two wrong answers are
            left out.
        confidence: of the interval.
        resamples: how many times right and wrong answers are drawn anew, within their strata.
        seed: which draws.

    Raises:
        ValueError: for lengths that differ, NaN, fewer than two right or two wrong answers (in every stratum), no
            resamples, or a confidence outside 0 to 1.
        TypeError: for anything but numbers, or an answer that is neither right nor wrong.
    """
    found, correct = checked.numbers("scores", scores), checked.outcomes("correct", correct)
    if found.ndim != 1:
        raise ValueError(f"scores needs one number per question, got shape {list(found.shape)}")
    checked.same_length(scores=found, correct=correct)
    halves = _halves(found, correct, strata)
    checked.resampling(resamples)
    low, high = scipy_bootstrap(
        halves,
        _area,
        n_resamples=resamples,
        confidence_level=checked.level(confidence),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    p = float(mannwhitneyu(*halves, method="auto").pvalue) if len(halves) == 2 else _stratified_p(halves)
    n_right, n_wrong = (sum(map(len, side)) for side in (halves[::2], halves[1::2]))
    return RocAuc(float(_area(*halves)), float(low), float(high), p, n_right, n_wrong, float(confidence))


def _halves(
    scores: Float[np.ndarray, " question"], correct: np.ndarray, strata: Values | None
) -> list[Float[np.ndarray, " _"]]:
    """Scores of the right and of the wrong answers, of one stratum after another."""
    if strata is None:
        right, wrong = scores[correct], scores[~correct]
        if min(len(right), len(wrong)) < 2:
            raise ValueError(
                "the area with its interval needs at least 2 right and 2 wrong answers, got "
                f"{len(right)} and {len(wrong)}"
            )
        return [right, wrong]
    checked.same_length(scores=scores, strata=strata)
    kinds = np.array([str(kind) for kind in strata])
    halves = []
    for kind in dict.fromkeys(kinds.tolist()):
        right, wrong = scores[(kinds == kind) & correct], scores[(kinds == kind) & ~correct]
        if min(len(right), len(wrong)) >= 2:
            halves += [right, wrong]
    if not halves:
        raise ValueError(
            f"none of the {len(set(kinds.tolist()))} strata has 2 right and 2 wrong answers, which the area within "
            "strata needs: give fewer, larger strata"
        )
    return halves


def _area(*halves: Float[np.ndarray, "..."], axis: int = -1) -> np.ndarray | np.float64:
    """Mann and Whitney's U over the number of pairs, summed over strata, for one or many resamples."""
    strata = list(zip(halves[::2], halves[1::2], strict=True))
    u = sum(mannwhitneyu(right, wrong, axis=axis, method="asymptotic").statistic for right, wrong in strata)
    return u / sum(right.shape[axis] * wrong.shape[axis] for right, wrong in strata)


def _stratified_p(halves: Sequence[Float[np.ndarray, " _"]]) -> float:
    """Of the sum over strata of U, which is about normal; ties reduce its variance (van Elteren 1960)."""
    beyond = variance = 0.0
    for right, wrong in zip(halves[::2], halves[1::2], strict=True):
        both = np.concatenate([right, wrong])
        ranks, pairs, n = rankdata(both), len(right) * len(wrong), len(both)
        beyond += ranks[: len(right)].sum() - len(right) * (n + 1) / 2
        variance += pairs * ranks.var(ddof=1) / n
    return float(2 * norm.sf(abs(beyond) / np.sqrt(variance))) if variance else 1.0
