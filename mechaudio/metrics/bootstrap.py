"""Bootstrap intervals: how far a number would move if as many other samples had been drawn.

Conventions: samples are drawn anew with replacement; `seed` says which draws, and the same seed gives the same
interval; intervals are percentile intervals unless said otherwise. Samples are taken to be independent: where questions
share a clip, `clips=` names it, and clips are drawn with all their questions (the cluster bootstrap). Intervals of
means and correlations reach to the percentiles that Student's t asks for (Hesterberg's expanded percentiles, 2015):
plain ones are too narrow for few samples. Of fewer clips than `fewest` they are not given, nor is one without width: of
clips that are all alike no draw differs from another, and a bootstrap cannot say how far the number would move.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm, t

from mechaudio.arguments import checks_arguments, n_of, names_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values
from mechaudio.metrics.clips import Clips, clip_numbers, n_clips, shared
from mechaudio.metrics.estimates import Estimate
from mechaudio.notices import ignored


@names_arguments
def bootstrap(
    statistic: Callable[..., float],
    *samples: Values,
    paired: bool = True,
    clips: Clips | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Literal["percentile", "BCa"] = "percentile",
) -> Estimate:
    """A bootstrap interval of any number that is computed from one or more samples.

    Args:
        statistic: Takes as many one-dimensional arrays as there are samples and returns a number; one that takes
            `axis=`, as `numpy.mean` does, is given many resamples at once.
        *samples: Each `[sample]`.
        paired: Samples belong together element by element, as two answers to the same question do, and are drawn
            together; otherwise each is drawn on its own.
        clips: For paired samples, the name of each element's clip: clips are drawn with all that belongs to them.
        confidence: Level of the interval.
        resamples: How many times samples are drawn anew.
        seed: Which draws.
        method: `percentile`, or `BCa`, bias-corrected and accelerated (Efron 1987).

    Returns:
        The statistic of the samples with its interval, NaN where none is given; `n` is the number of pairs, or of all
        samples if not paired.

    Raises:
        ValueError: For no samples, fewer than two elements, NaN, paired samples of unequal length, a confidence outside
            0 to 1, or a statistic that is undefined on resamples.
        TypeError: For anything but numbers.
    """
    arrays = [checked.numbers(f"sample {index}", values) for index, values in enumerate(samples)]
    if not arrays or any(values.ndim != 1 for values in arrays):
        raise ValueError(f"bootstrap takes one-dimensional samples, got shapes {[list(v.shape) for v in arrays]}")
    if paired:
        checked.same_length(**{f"sample {index}": values for index, values in enumerate(arrays)})
    _at_least_two(min(len(values) for values in arrays))
    checked.resampling(resamples)
    if clips is not None:
        return _of_clips(statistic, arrays, clips, paired, confidence, resamples, seed, method)
    # What is NaN is refused below. Some versions of scipy warn of it before, whatever the method.
    with np.errstate(invalid="ignore"), ignored("The BCa confidence interval cannot be calculated"):
        low, high = scipy_bootstrap(
            arrays,
            statistic,
            n_resamples=resamples,
            paired=paired,
            confidence_level=checked.level(confidence),
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    value = float(statistic(*arrays))
    if not all(map(math.isfinite, (value, low, high))):
        raise ValueError(
            f"the interval is {low} to {high} around {value}: the statistic is undefined on some resamples, or is the "
            'same on all of them, which method="BCa" cannot correct'
        )
    n = len(arrays[0]) if paired else sum(map(len, arrays))
    low, high = given_ends(low, high, min(map(len, arrays)), confidence)
    return Estimate(value, low, high, n, float(confidence), f"bootstrap, {method}")


def _of_clips(
    statistic: Callable[..., float], samples: Sequence[Float[np.ndarray, " sample"]], clips: Clips, paired: bool,
    confidence: float, resamples: int, seed: int, method: str,
) -> Estimate:  # fmt: skip
    if not paired or method != "percentile":
        raise ValueError(f'clips= are drawn for paired samples and method="percentile", got {paired=}, {method=}')
    n = len(samples[0])
    numbers = clip_numbers(clips, n)
    members = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    k, rng = len(members), np.random.default_rng(seed)
    _at_least_two(k)
    draws = [np.concatenate([members[clip] for clip in rng.integers(k, size=k)]) for _ in range(resamples)]
    values = np.array([float(statistic(*(sample[drawn] for sample in samples))) for drawn in draws])
    value, level = float(statistic(*samples)), checked.level(confidence)
    if not (math.isfinite(value) and np.isfinite(values).all()):
        raise ValueError(
            f"the statistic is undefined on {int((~np.isfinite(values)).sum())} of {n_of(resamples, 'resample')}"
        )
    low, high = (float(np.quantile(values, tail)) for tail in ((1 - level) / 2, (1 + level) / 2))
    low, high = given_ends(low, high, k, level)
    return Estimate(value, low, high, n, level, "bootstrap over clips, percentile", shared(numbers))


def given_ends(low: float, high: float, n: int, confidence: float) -> tuple[float, float]:
    """Return the ends of one number's interval; NaN for fewer samples than `fewest`, and for no width."""
    none = n < fewest(confidence) or math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)
    return (math.nan, math.nan) if none else (float(low), float(high))


def fewest(confidence: float = 0.95) -> int:
    """Clips that an interval of a mean needs: of fewer, not even from the lowest to the highest is wide enough.

    Resampled means lie within the clips' own values, and all k of these are on one side of the middle with a chance of
    2^(1 - k): 95% takes 6 clips.

    Args:
        confidence: Level of the interval.

    Raises:
        ValueError: For a confidence outside 0 to 1.
    """
    return math.ceil(1 - math.log2(1 - checked.level(confidence)) - 1e-9)


def too_few(n: int, clips: Sequence[str] | None, confidence: float = 0.95) -> str:
    """Say that there are no intervals of means of so few clips; nothing where there are enough.

    Args:
        n: questions.
        clips: The clip of each; nothing if each is about a clip of its own.
        confidence: Level of the intervals.
    """
    needed = fewest(confidence)
    return f"no intervals, which take {n_of(needed, 'clip')}" if (len(set(clips)) if clips else n) < needed else ""


@checks_arguments
def bootstrap_mean(
    values: Values, *, clips: Clips | None = None, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Float[np.ndarray, "*column"], Float[np.ndarray, "*column"]]:
    """A bootstrap interval of the mean over samples, for every column at once, by expanded percentiles.

    Args:
        values: `[sample, ...]`, at least two samples; NaN in one of several columns makes that column's interval NaN,
            as do samples that are all alike, and fewer clips than `fewest(confidence)` make all of them NaN.
        clips: The name of each sample's clip, at least two clips: clips are drawn with all their samples.
        confidence: The share of resampled means inside the interval.
        resamples: How many times samples are drawn anew.
        seed: Which draws; all columns share them.

    Returns:
        Lower and upper ends, shaped as one sample.

    Raises:
        ValueError: For fewer than two samples, NaN in a single column, no resamples, or a confidence outside 0 to 1.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    numbers = clip_numbers(clips, n)
    _at_least_two(n_clips(numbers) if n else 0)
    checked.resampling(resamples)
    if values.ndim == 1:
        values = checked.numbers("values", values)
    weights = drawn_weights(numbers, resamples, np.random.default_rng(seed))
    low, high = percentile_interval(weights @ values.reshape(n, -1), confidence, n_clips(numbers))
    alike = np.isclose(low, high, rtol=1e-9, atol=1e-12)
    ends = [np.where(alike, np.nan, end).reshape(values.shape[1:]) for end in (low, high)]
    return ends[0], ends[1]


def mean_estimate(
    values: Values, *, clips: Clips | None = None, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The mean over samples with its interval from `bootstrap_mean`; arguments as there, one clip is enough.

    Returns:
        The mean; its interval is NaN where there are fewer clips than `fewest`, or where all of them are alike.

    Raises:
        ValueError: For no samples, NaN, another number of clips, or a confidence outside 0 to 1.
    """
    array = checked.numbers("values", values)
    if not len(array):
        raise ValueError("there is no sample, so there is no mean")
    numbers = clip_numbers(clips, len(array))
    low = high = math.nan
    if n_clips(numbers) >= fewest(confidence):
        ends = bootstrap_mean(array, clips=clips, confidence=confidence, resamples=resamples, seed=seed)
        low, high = given_ends(float(ends[0]), float(ends[1]), n_clips(numbers), confidence)
    method = "bootstrap, expanded percentiles"
    return Estimate(float(array.mean()), low, high, len(array), float(confidence), method, shared(numbers))


def drawn_weights(
    numbers: Int[np.ndarray, " sample"], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "resample sample"]:
    """The weight of each sample in each resample of the clips; they add up to 1."""
    k = n_clips(numbers)
    drawn = rng.multinomial(k, np.full(k, 1 / k), size=resamples)[:, np.unique(numbers, return_inverse=True)[1]]
    return drawn / drawn.sum(axis=1, keepdims=True)


def percentile_interval(
    resampled: Float[np.ndarray, " resample *column"], confidence: float, n: int | None = None
) -> tuple[Float[np.ndarray, "*column"], Float[np.ndarray, "*column"]]:
    """The middle `confidence` of resampled values, per column.

    With `n`, the number of independent samples, the percentiles are expanded to where Student's t with n - 1 degrees of
    freedom would reach (Hesterberg, The American Statistician 69:371, 2015); NaN where these are fewer than `fewest`.
    """
    tail = (1 - checked.level(confidence)) / 2
    if n is not None and n < fewest(confidence):
        low, high = np.full((2, *resampled.shape[1:]), np.nan)
        return np.asarray(low), np.asarray(high)
    if n is not None:
        tail = float(norm.cdf(t.ppf(tail, n - 1) * math.sqrt(n / (n - 1))))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def _at_least_two(n: int) -> None:
    if n < 2:
        raise ValueError(f"an interval over samples needs at least 2 of them, got {n}")
