"""Which of many measured values go with right answers, and whether the choice of the strongest would last.

Made for arrays such as audio attention `[question, layer, head]` beside right or wrong `[question]`: the point-biserial
correlation of every column, its bootstrap, and the stability of a top-K selection.

Conventions: columns are all axes behind the first; p values are two-sided; everything is computed in double precision.
`clips` names the clip of each question, whose questions are taken as a cluster (`mechaudio.metrics.clips`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import nct, pearsonr, t

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.metrics.bootstrap import drawn_weights, percentile_interval
from mechaudio.metrics.checked import Values
from mechaudio.metrics.clips import Clips, clip_numbers, counted, design_effect, freedom, n_clips, shared
from mechaudio.metrics.estimates import AsDict
from mechaudio.metrics.significance import benjamini_hochberg
from mechaudio.notices import warn
from mechaudio.showing import Shown

#: A column whose spread is below this share of its mean varies by rounding alone.
_ROUNDING = np.finfo(np.float64).eps ** 0.75

FEWEST = 30
"""Clips that the interval of a correlation needs: of fewer it is not given, as its spread is not known well enough."""

#: Correlations are taken to be no larger, as Fisher's z of 1 is infinite.
_PERFECT = 1 - 1e-12

#: Scores that differ by less than this share of the largest are equal: sums in another order differ by as much.
_EQUAL = 1e-9


@dataclass(frozen=True, eq=False)
class PointBiserial(AsDict):
    """Correlation of every column with right answers.

    Attributes:
        r: Point-biserial correlation; positive where larger values go with right answers, 0 where a column is constant.
        p: Its p value, from Student's t with n - 2 degrees of freedom; 1 where a column is constant. Where clips share
            questions, n is divided by each column's design effect and degrees of freedom are those of the clips.
        q: P values adjusted by Benjamini and Hochberg over all columns that vary.
        constant: Columns that do not vary, which have no correlation.
        n: samples.
        n_right: Right answers among them.
        n_clips: Clips that they are about; None where each is about a clip of its own.
    """

    r: Float[np.ndarray, "*column"]
    p: Float[np.ndarray, "*column"]
    q: Float[np.ndarray, "*column"]
    constant: Bool[np.ndarray, "*column"]
    n: int
    n_right: int
    n_clips: int | None = None

    def __str__(self) -> str:
        strongest = np.unravel_index(np.abs(self.r).argmax(), self.r.shape)
        note = (
            f"point-biserial r of {n_of(self.r.size, 'column')} {list(self.r.shape)}, {counted(self.n, self.n_clips)} "
            f"({self.n_right} right): strongest {self.r[strongest]:+.3f} at {tuple(map(int, strongest))}, p = "
            f"{self.p[strongest]:.3g}, q = {self.q[strongest]:.3g}"
        )
        return note + (
            f"; {n_of(self.constant.sum(), 'column does', 'columns do')} not vary" if self.constant.any() else ""
        )


@dataclass(frozen=True, eq=False)
class ResampledPointBiserial(Shown):
    """The correlations that other samples of the same size would have given.

    Attributes:
        low: Lower end of the interval of r; NaN for fewer than `FEWEST` clips.
        high: Upper end.
        resampled: R of each resample; what `top_k_stability` takes.
        n: samples.
        confidence: Level of the intervals.
        n_clips: Clips that they are about; None where each is about a clip of its own.
    """

    low: Float[np.ndarray, "*column"]
    high: Float[np.ndarray, "*column"]
    resampled: Float[np.ndarray, " resample *column"]
    n: int
    confidence: float
    n_clips: int | None = None


@dataclass(frozen=True, eq=False)
class TopKStability(AsDict):
    """Stability of the K highest columns.

    Attributes:
        chosen: Places of the K highest columns, highest first; of equal ones, by lot.
        frequency: Share of resamples in which each column is among the K highest; sums to K.
        overlap: Share of the chosen that a resample chooses too, mean over resamples.
        low: Lower end of the interval that holds `confidence` of the resamples' overlaps.
        high: Upper end.
        chance: Overlap with K columns drawn at random, K over their number.
        resamples: How many.
        confidence: Level of the interval.
        tied: Columns that are as high as the lowest of the chosen, where not all of them are chosen: which ones are was
            drawn by lot, in the sample as in each resample. 0 where nothing had to be drawn.
    """

    chosen: tuple[tuple[int, ...], ...]
    frequency: Float[np.ndarray, "*column"]
    overlap: float
    low: float
    high: float
    chance: float
    resamples: int
    confidence: float
    tied: int = 0

    def __str__(self) -> str:
        ties = f"; {self.tied} are level at the last place, drawn by lot" if self.tied else ""
        return (
            f"of the top {len(self.chosen)} of {self.frequency.size}, a resample keeps {self.overlap:.0%} "
            f"({100 * self.confidence:g}% of {self.resamples} resamples {100 * self.low:.0f} to "
            f"{self.high:.0%}; {self.chance:.1%} by chance{ties})"
        )


@checks_arguments
def point_biserial(values: Values, correct: Values, *, clips: Clips | None = None) -> PointBiserial:
    """Correlate every column with right answers, as `scipy.stats.pointbiserialr` does one by one.

    A column that does not vary has no correlation: its r is 0 and its p 1, `constant` marks it, and a warning names it.

    Args:
        values: `[question, ...]`, finite.
        correct: Right or wrong, `[question]`.
        clips: The name of each question's clip; by default each is of its own.

    Raises:
        ValueError: For fewer than 3 questions, lengths that differ, NaN, or answers that are all right or all wrong.
        TypeError: For anything but numbers, or an answer that is neither right nor wrong.
    """
    columns, correct, shape = _columns(values, correct)
    numbers = clip_numbers(clips, len(correct))
    constant, k = _constant(columns), n_clips(numbers)
    if constant.any():
        places = [tuple(map(int, place)) for place in np.argwhere(constant.reshape(shape))]
        shown = ", ".join(map(str, places[:10])) + (", ..." if len(places) > 10 else "")
        warn(
            f"{len(places)} of {constant.size} columns do not vary, and have no correlation (r is given as 0): {shown}"
        )
    r, p, q = np.zeros(constant.shape), np.ones(constant.shape), np.ones(constant.shape)
    if not constant.all():
        statistic, pvalue = pearsonr(columns[:, ~constant], correct[:, None].astype(np.float64), axis=0)
        r[~constant] = statistic
        p[~constant] = pvalue if k == len(numbers) else _clustered_p(columns[:, ~constant], correct, numbers)
        q[~constant] = benjamini_hochberg(p[~constant])
    return PointBiserial(
        *(part.reshape(shape) for part in (r, p, q, constant)),
        n=len(correct), n_right=int(correct.sum()), n_clips=shared(numbers),
    )  # fmt: skip


def _clustered_p(
    columns: Float[np.ndarray, "question column"], correct: Bool[np.ndarray, " question"], numbers: np.ndarray
) -> Float[np.ndarray, " column"]:
    """P values of correlations where clips share questions, from what each question adds to r (its influence)."""
    r, effective = _effective(columns, correct, numbers)
    with np.errstate(divide="ignore", invalid="ignore"):  # r of 1; 0/0 of no freedom is no evidence
        statistic = np.nan_to_num(np.abs(r) * np.sqrt(np.maximum(0.0, effective - 2) / (1 - r**2)), nan=0.0)
    return 2 * t.sf(statistic, max(1.0, freedom(numbers) - 1))


def _effective(
    columns: Float[np.ndarray, "question column"], correct: Bool[np.ndarray, " question"], numbers: np.ndarray
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """The correlation of every column, and of how many independent questions it would be as uncertain."""
    z, y = (part - part.mean(axis=0) for part in (columns, correct[:, None].astype(np.float64)))
    z, y = z / z.std(axis=0), y / y.std(axis=0)
    r = (z * y).mean(axis=0).clip(-1.0, 1.0)
    return r, len(y) / design_effect(z * y - r * (z**2 + y**2) / 2, numbers)


def _fisher(
    r: Float[np.ndarray, " column"], effective: Float[np.ndarray, " column"],
    resampled: Float[np.ndarray, "resample column"], k: int, confidence: float,
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:  # fmt: skip
    """Intervals around Fisher's z of each r, as wide as the bootstrap or the effective number asks for."""
    by_number = 1 / np.sqrt(np.maximum(effective - 3, 1e-9))
    z = np.arctanh(r.clip(-_PERFECT, _PERFECT))
    by_bootstrap = np.arctanh(resampled.clip(-_PERFECT, _PERFECT)).std(axis=0)
    reach = t.ppf((1 + checked.level(confidence)) / 2, k - 2) * np.maximum(by_number, by_bootstrap)
    return np.tanh(z - reach), np.tanh(z + reach)


@checks_arguments
def point_biserial_power(r: float, n: int, *, level: float = 0.05) -> float:
    """How likely the test of one correlation finds an effect of known size: its power.

    Values are taken to be normal around a mean for right and a mean for wrong answers, equally spread; the test's t
    then has the noncentral t distribution with n - 2 degrees of freedom and noncentrality r sqrt(n / (1 - r^2)) (Cohen
    1988). To plan for many columns, give the level that their correction leaves to each of them.

    Args:
        r: The correlation that there is, above -1 and below 1.
        n: questions.
        level: P values below it count as found.

    Raises:
        ValueError: For an `r` that is not between -1 and 1, fewer than 3 questions, or a level outside 0 to 1.
    """
    if not -1 < r < 1:
        raise ValueError(f"r is a correlation between -1 and 1, got {r}")
    if n < 3:
        raise ValueError(f"a correlation and its p value need at least 3 questions, got {n}")
    if not 0 < level < 1:
        raise ValueError(f"level is a p value between 0 and 1, such as 0.05, got {level}")
    shift, critical = r * np.sqrt(n / (1 - r**2)), t.ppf(1 - level / 2, n - 2)
    return float(nct.sf(critical, n - 2, shift) + nct.cdf(-critical, n - 2, shift))


@checks_arguments
def bootstrap_point_biserial(
    values: Values,
    correct: Values,
    *,
    clips: Clips | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> ResampledPointBiserial:
    """Bootstrap the correlation of every column with right answers; all columns share the same resamples.

    Resamples without a right or without a wrong answer are drawn anew. A column that is constant in a resample has r 0
    there.

    Where clips share questions, clips are drawn with all of theirs. An interval lies around Fisher's z of r and is
    Student's t times its standard error, which is the larger of two: the standard deviation over the resamples, and
    that of normal columns with as many independent questions as the clips are worth (`mechaudio.metrics.clips`).
    Percentiles of the resamples are too narrow for some tens of clips. Intervals are not given, NaN, for fewer than
    `FEWEST` clips. Those of strong correlations of very skewed columns remain too narrow.

    Args:
        values: `[question, ...]`, finite.
        correct: Right or wrong, `[question]`.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the intervals.
        resamples: How many times clips are drawn anew.
        seed: Which draws.

    Raises:
        ValueError: For no resamples, a confidence outside 0 to 1, and as `point_biserial`.
        TypeError: As `point_biserial`.
    """
    columns, correct, shape = _columns(values, correct)
    checked.resampling(resamples)
    constant = _constant(columns)
    centred = columns - columns.mean(axis=0)
    centred[:, constant] = 0.0
    z = centred / np.where(constant, 1.0, centred.std(axis=0))  # no cancellation below, whatever the units
    numbers = clip_numbers(clips, len(correct))
    weights, k = _two_sided_weights(correct, numbers, resamples, seed), n_clips(numbers)
    right = (weights @ correct)[:, None]
    mean = weights @ z
    variance = weights @ z**2 - mean**2
    covariance = (weights * correct) @ z - right * mean
    spread = np.sqrt(np.clip(variance, 0.0, None) * right * (1 - right))
    varies = variance > 1e-12  # in units of the whole sample's variance
    r = np.divide(covariance, spread, out=np.zeros_like(covariance), where=varies).clip(-1.0, 1.0)
    low, high = np.full((2, len(constant)), np.nan)
    if k >= FEWEST:
        low[constant] = high[constant] = 0.0
        ends = _fisher(*_effective(columns[:, ~constant], correct, numbers), r[:, ~constant], k, confidence)
        low[~constant], high[~constant] = ends
    return ResampledPointBiserial(
        low.reshape(shape), high.reshape(shape), resampled=r.reshape(resamples, *shape), n=len(correct),
        confidence=float(confidence), n_clips=shared(numbers),
    )  # fmt: skip


@checks_arguments
def top_k_stability(
    scores: Values, resampled: Values, k: int, *, confidence: float = 0.95, seed: int = 0
) -> TopKStability:
    """Measure how often the K highest scores of a sample are the K highest of its resamples.

    For heads ranked by the size of their correlation:
    `top_k_stability(abs(found.r), abs(bootstrapped.resampled), k=20)`.

    Args:
        scores: Scores of the whole sample, one per column, `[...]`.
        resampled: Scores of each resample, `[resample, ...]`.
        k: How many are chosen.
        confidence: Share of the resamples within the interval of the overlap.
        seed: Seed of the lots that decide between equal scores.

    Raises:
        ValueError: For shapes that do not match, NaN, or a `k` outside 1 to the number of columns.
        TypeError: For anything but numbers, or a `k` that is not whole.
    """
    whole, each = checked.numbers("scores", scores), checked.numbers("resampled", resampled)
    if each.shape[1:] != whole.shape or not len(each):
        raise ValueError(
            f"resampled needs the columns of scores {list(whole.shape)} behind its first axis, got {list(each.shape)}"
        )
    if not 1 <= k <= whole.size:
        raise ValueError(f"k is a number of columns from 1 to {whole.size}, got {k}")
    flat = whole.reshape(1, -1)
    chosen = highest(flat, k, seed)[0]
    among_highest = np.zeros((len(each), whole.size), dtype=bool)
    np.put_along_axis(among_highest, highest(each.reshape(len(each), -1), k, seed + 1), values=True, axis=1)
    overlaps = among_highest[:, chosen].mean(axis=1)
    low, high = percentile_interval(overlaps, confidence)
    return TopKStability(
        chosen=tuple(tuple(map(int, np.unravel_index(place, whole.shape))) for place in chosen),
        frequency=among_highest.mean(axis=0).reshape(whole.shape),
        overlap=float(overlaps.mean()), low=float(low), high=float(high),
        chance=k / whole.size, resamples=len(each), confidence=float(confidence),
        tied=tied_at(flat[0], k),
    )  # fmt: skip


def _columns(
    values: Values, correct: Values
) -> tuple[Float[np.ndarray, "question column"], Bool[np.ndarray, " question"], tuple[int, ...]]:
    """Values with their columns in one axis, right or wrong, and the shape of the columns."""
    found, right = checked.numbers("values", values), checked.outcomes("correct", correct)
    checked.same_length(values=found, correct=right)
    if len(right) < 3:
        raise ValueError(f"a correlation and its p value need at least 3 questions, got {len(right)}")
    if not found[0].size:
        raise ValueError(f"values has no columns, its shape is {list(found.shape)}")
    if right.all() or not right.any():
        side = "right" if right.all() else "wrong"
        raise ValueError(
            f"every answer is {side} ({len(right)} here), so nothing can go with being right: ask other questions"
        )
    return found.reshape(len(found), -1), right, found.shape[1:]


def _constant(columns: Float[np.ndarray, "question column"]) -> Bool[np.ndarray, " column"]:
    mean = columns.mean(axis=0)
    return (np.ptp(columns, axis=0) == 0) | (np.linalg.norm(columns - mean, axis=0) < _ROUNDING * np.abs(mean))


def _two_sided_weights(
    correct: Bool[np.ndarray, " question"], numbers: Int[np.ndarray, " question"], resamples: int, seed: int
) -> Float[np.ndarray, "resample question"]:
    """The weight of each question in resamples of the clips that hold right and wrong answers."""
    rng = np.random.default_rng(seed)
    weights = drawn_weights(numbers, resamples, rng)
    while (one_sided := ~((weights @ correct > 0) & (weights @ ~correct > 0))).any():
        weights[one_sided] = drawn_weights(numbers, int(one_sided.sum()), rng)
    return weights


def highest(scores: Float[np.ndarray, "row column"], k: int, seed: int = 0) -> Int[np.ndarray, "row k"]:
    """The columns of the `k` highest scores of each row, highest first; of equal ones, by lot."""
    lots = np.random.default_rng(seed).random(scores.shape)
    return np.lexsort((lots, -_levelled(scores)), axis=1)[:, :k]


def tied_at(scores: Float[np.ndarray, " column"], k: int) -> int:
    """Count the columns that are as high as the K-th, where not all of them are among the K highest; else 0."""
    levelled = _levelled(scores[None])[0]
    last = np.sort(levelled)[::-1][k - 1]
    level = int((levelled == last).sum())
    return level if int((levelled >= last).sum()) > k else 0


def _levelled(scores: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Scores without their rounding, so that equal ones are equal."""
    step = _EQUAL * max(float(np.abs(scores).max()), np.finfo(np.float64).tiny)
    return np.round(scores / step)
