"""Bootstrap intervals: how far a number would move if as many other samples had been drawn.

Conventions: samples are drawn anew with replacement; `seed` says which draws, and the same seed gives the same
interval; intervals are percentile intervals unless said otherwise. Samples are taken to be independent: questions about
the same clip are not, and are to be averaged per clip first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import DegenerateDataWarning
from scipy.stats import bootstrap as scipy_bootstrap

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values
from mechaudio.metrics.estimates import Estimate


def bootstrap(
    statistic: Callable[..., float],
    *samples: Values,
    paired: bool = True,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Literal["percentile", "BCa"] = "percentile",
) -> Estimate:
    """A bootstrap interval of any number that is computed from one or more samples.

    Args:
        statistic: takes as many one-dimensional arrays as there are samples and returns a number; one that takes
            `axis=`, as `numpy.mean` does, is given many resamples at once.
        *samples: each `[sample]`.
        paired: samples belong together element by element, as two answers to the same question do, and are drawn
            together; otherwise each is drawn on its own.
        confidence: of the interval.
        resamples: how many times samples are drawn anew.
        seed: which draws.
        method: `percentile`, or `BCa`, bias-corrected and accelerated (Efron 1987).

    Returns:
        The statistic of the samples with its interval; `n` is the number of pairs, or of all samples if not paired.

    Raises:
        ValueError: for no samples, fewer than two elements, NaN, paired samples of unequal length, a confidence outside
            0 to 1, or a statistic that is undefined on resamples.
        TypeError: for anything but numbers.
    """
    found = [checked.numbers(f"sample {index}", values) for index, values in enumerate(samples)]
    if not found or any(values.ndim != 1 for values in found):
        raise ValueError(f"bootstrap takes one-dimensional samples, got shapes {[list(v.shape) for v in found]}")
    if paired:
        checked.same_length(**{f"sample {index}": values for index, values in enumerate(found)})
    _at_least_two(min(len(values) for values in found))
    checked.resampling(resamples)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # what is NaN is refused below
        warnings.simplefilter("ignore", DegenerateDataWarning)
        low, high = scipy_bootstrap(
            found,
            statistic,
            n_resamples=resamples,
            paired=paired,
            confidence_level=checked.level(confidence),
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    value = float(statistic(*found))
    if not all(map(math.isfinite, (value, low, high))):
        raise ValueError(
            f"the interval is {low} to {high} around {value}: the statistic is undefined on some resamples, or is the "
            'same on all of them, which method="BCa" cannot correct'
        )
    n = len(found[0]) if paired else sum(map(len, found))
    return Estimate(value, float(low), float(high), n, float(confidence), f"bootstrap, {method}")


@checks_arguments
def bootstrap_mean(
    values: Values, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[Float[np.ndarray, "*column"], Float[np.ndarray, "*column"]]:
    """A percentile bootstrap interval of the mean over samples, for every column at once.

    Args:
        values: `[sample, ...]`, at least two samples; NaN in one of several columns makes that column's interval NaN.
        confidence: the share of resampled means inside the interval.
        resamples: how many times samples are drawn anew.
        seed: which draws; all columns share them.

    Returns:
        Lower and upper ends, shaped as one sample.

    Raises:
        ValueError: for fewer than two samples, NaN in a single column, no resamples, or a confidence outside 0 to 1.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    _at_least_two(n)
    checked.resampling(resamples)
    if values.ndim == 1:
        values = checked.numbers("values", values)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    low, high = percentile_interval(weights @ values.reshape(n, -1), confidence)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def percentile_interval(
    resampled: Float[np.ndarray, " resample *column"], confidence: float
) -> tuple[Float[np.ndarray, "*column"], Float[np.ndarray, "*column"]]:
    """The middle `confidence` of resampled values, per column."""
    tail = (1 - checked.level(confidence)) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def _at_least_two(n: int) -> None:
    if n < 2:
        raise ValueError(f"an interval over samples needs at least 2 of them, got {n}")
