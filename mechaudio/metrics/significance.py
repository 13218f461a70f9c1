"""How sure a score is: intervals of shares, tests of a change in accuracy, and corrections for many tests.

Conventions: shares and p values are from 0 to 1; p values are two-sided. Wilson's interval, McNemar's exact test
and Benjamini-Hochberg are those of statsmodels; the mid-p value and the interval of a paired difference are those that
Fagerland, Lydersen and Laake recommend for paired yes-or-no data (BMC Medical Research Methodology 13:91, 2013;
Statistics in Medicine 33:2850, 2014).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.multitest import fdrcorrection
from statsmodels.stats.proportion import proportion_confint

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values
from mechaudio.metrics.estimates import Estimate, Proportion


@dataclass(frozen=True)
class McNemar:
    """Whether the answers that changed did so evenly in both directions.

    Only answers that changed tell: if the change had no direction, each would be a fair coin's toss.

    Attributes:
        n: questions.
        fixed: wrong before, right after.
        broken: right before, wrong after.
        p: McNemar's exact conditional test; never too small, and conservative.
        p_mid: its mid-p version, closer to its nominal level (Fagerland, Lydersen and Laake 2013).
    """

    n: int
    fixed: int
    broken: int
    p: float
    p_mid: float

    def __str__(self) -> str:
        return (
            f"{self.fixed} fixed, {self.broken} broken of {self.n}: McNemar exact p = {self.p:.3g}, "
            f"mid-p = {self.p_mid:.3g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return asdict(self)


@checks_arguments
def wilson_interval(count: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927).

    Args:
        count: how many.
        n: of how many.
        confidence: of the interval.

    Returns:
        Lower and upper end, within 0 to 1.

    Raises:
        ValueError: for fewer than one of them, a count outside 0 to `n`, or a confidence outside 0 to 1.
    """
    if n < 1 or not 0 <= count <= n:
        raise ValueError(f"a share needs 0 <= count <= n and n >= 1, got {count=}, {n=}")
    low, high = proportion_confint(count, n, alpha=1 - checked.level(confidence), method="wilson")
    return (0.0 if count == 0 else float(low)), (1.0 if count == n else float(high))  # the ends are exact there


@checks_arguments
def proportion(count: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """A share with Wilson's interval; arguments and errors as `wilson_interval`."""
    low, high = wilson_interval(count, n, confidence=confidence)
    return Proportion(int(count), int(n), low, high, float(confidence))


def mcnemar(before: Values, after: Values) -> McNemar:
    """McNemar's test of two sets of answers to the same questions.

    Args:
        before: right or wrong, `[question]`.
        after: right or wrong, of the same questions in the same order (see `match_ids`).

    Raises:
        ValueError: for no questions, or lengths that differ.
        TypeError: for an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
    p = float(exact_mcnemar([[0, fixed], [broken, 0]], exact=True).pvalue)
    seen = float(binom.pmf(min(fixed, broken), fixed + broken, 0.5)) if fixed + broken else 0.0  # no change: p is 1
    return McNemar(len(before), fixed, broken, p, p - (seen if fixed != broken else seen / 2))


def sign_flip_test(differences: Values) -> float:
    """Fisher's randomisation test of paired differences (1935), over all signs that they could have had.

    If each difference came with the other sign as easily, how likely is a sum that is as large? Of differences of -1, 0
    and 1 this is McNemar's exact test.

    Args:
        differences: Whole numbers, `[question]`.

    Returns:
        The p value.

    Raises:
        ValueError: For no differences.
        TypeError: For anything but whole numbers.
    """
    found = np.asarray(differences)
    if found.dtype.kind not in "iu":
        raise TypeError(f"the test of signs takes whole numbers, got {found.dtype}: count right answers, not shares")
    if found.ndim != 1 or not found.size:
        raise ValueError(f"the test of signs takes one difference per question, got shape {list(found.shape)}")
    sizes = np.abs(found[found != 0]).astype(np.int64)
    chances, reach = np.ones(1), int(sizes.sum())
    for size in sizes:  # of every sum of the sizes so far, each with either sign
        chances = (np.pad(chances, (0, 2 * size)) + np.pad(chances, (2 * size, 0))) / 2
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(int(found.sum()))].sum()))


def paired_difference(before: Values, after: Values, *, confidence: float = 0.95) -> Estimate:
    """Share right after minus share right before, with Bonett and Price's adjusted Wald interval (2012).

    The interval is centred on the difference with one more question fixed and one more broken, so that it has a width
    where no answer changed.

    Args:
        before: right or wrong, `[question]`.
        after: right or wrong, of the same questions in the same order.
        confidence: of the interval.

    Raises:
        ValueError: for no questions, lengths that differ, or a confidence outside 0 to 1.
        TypeError: for an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    n = len(before)
    fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
    p_fixed, p_broken = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    centre = p_fixed - p_broken
    half = float(norm.ppf((1 + checked.level(confidence)) / 2)) * sqrt((p_fixed + p_broken - centre**2) / (n + 2))
    return Estimate(
        (fixed - broken) / n, max(-1.0, centre - half), min(1.0, centre + half), n, confidence, "Bonett-Price"
    )


def holm(p_values: Values) -> Float[np.ndarray, "*test"]:
    """P values adjusted by Holm's method (1979): all below alpha are significant with family-wise error alpha.

    Args:
        p_values: of any shape, all of one family.

    Returns:
        Adjusted p values, in the same shape.

    Raises:
        ValueError: for none, or one outside 0 to 1.
    """
    p_values = checked.probabilities("p_values", p_values)
    order = np.argsort(p_values, axis=None)
    n_left = np.arange(p_values.size, 0, -1)  # not by statsmodels, which collects the garbage of the process each time
    adjusted = np.empty(p_values.size)
    adjusted[order] = np.maximum.accumulate(p_values.ravel()[order] * n_left).clip(max=1)
    return adjusted.reshape(p_values.shape)


def benjamini_hochberg(p_values: Values) -> Float[np.ndarray, "*test"]:
    """P values adjusted by Benjamini and Hochberg's method (1995): q values, at false discovery rate q.

    It holds for independent tests and for positively dependent ones.

    Args:
        p_values: of any shape, all of one family.

    Returns:
        Adjusted p values, in the same shape.

    Raises:
        ValueError: for none, or one outside 0 to 1.
    """
    p_values = checked.probabilities("p_values", p_values)
    return fdrcorrection(p_values.ravel())[1].reshape(p_values.shape)
