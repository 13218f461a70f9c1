"""How sure a score is: intervals of shares, tests of a change in accuracy, and corrections for many tests.

Conventions: shares and p values are from 0 to 1; p values are two-sided. Wilson's interval, McNemar's exact test
and Benjamini-Hochberg are those of statsmodels; the mid-p value and the interval of a paired difference are those that
Fagerland, Lydersen and Laake recommend for paired yes-or-no data (BMC Medical Research Methodology 13:91, 2013;
Statistics in Medicine 33:2850, 2014). With `clips=`, questions of one clip count as a cluster: counts are divided by
their design effect (Rao and Scott 1992, `mechaudio.metrics.clips`), and tests flip the signs of whole clips; with one
question per clip the formulas are those for independent questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.multitest import fdrcorrection
from statsmodels.stats.proportion import proportion_confint

from mechaudio.arguments import checks_arguments, n_of, names_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.checked import Values
from mechaudio.metrics.clips import Clips, clip_numbers, design_effect, quantile, shared, summed
from mechaudio.metrics.estimates import AsDict, Estimate, Proportion

#: Sums of signs that the test of them goes through: more are no numbers of right answers.
_LARGEST = 10_000_000


@dataclass(frozen=True)
class McNemar(AsDict):
    """A test of whether the answers that changed did so evenly in both directions.

    Only answers that changed tell: if the change had no direction, each would be a fair coin's toss.

    Attributes:
        n: questions.
        fixed: Wrong before, right after.
        broken: Right before, wrong after.
        p: McNemar's exact conditional test; never too small, and conservative. Where clips share questions, the exact
            test of signs over clips, each with its fixed answers less its broken ones.
        p_mid: Its mid-p version, closer to its nominal level (Fagerland, Lydersen and Laake 2013).
        n_clips: Clips that the questions are about; None where each is about a clip of its own.
    """

    n: int
    fixed: int
    broken: int
    p: float
    p_mid: float
    n_clips: int | None = None

    def __str__(self) -> str:
        size = str(self.n) if self.n_clips is None else f"{n_of(self.n, 'question')} of {n_of(self.n_clips, 'clip')}"
        test = "McNemar exact" if self.n_clips is None else "exact test of signs over clips"
        return f"{self.fixed} fixed, {self.broken} broken of {size}: {test} p = {self.p:.3g}, mid-p = {self.p_mid:.3g}"


@checks_arguments
def wilson_interval(count: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927).

    Args:
        count: How many.
        n: Number of cases.
        confidence: Level of the interval.

    Returns:
        Lower and upper end, within 0 to 1.

    Raises:
        ValueError: For fewer than one of them, a count outside 0 to `n`, or a confidence outside 0 to 1.
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


def share(correct: Values, *, clips: Clips | None = None, confidence: float = 0.95) -> Proportion:
    """The share of right answers with Wilson's interval, of the effective numbers where clips share questions.

    Args:
        correct: Right or wrong, `[question]`.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the interval.

    Raises:
        ValueError: For no answers, another number of clips, or a confidence outside 0 to 1.
        TypeError: For an answer that is neither right nor wrong.
    """
    right = checked.outcomes("correct", correct)
    numbers, n, count = clip_numbers(clips, len(right)), len(right), int(right.sum())
    k = shared(numbers)
    if k is None:
        return proportion(count, n, confidence=confidence)
    effect = float(design_effect(right - right.mean(), numbers))
    alpha = 2 * float(norm.sf(quantile(confidence, numbers)))
    low, high = proportion_confint(count / effect, n / effect, alpha=alpha, method="wilson")
    ends = (0.0 if count == 0 else float(low)), (1.0 if count == n else float(high))
    return Proportion(count, n, *ends, float(confidence), k)


@checks_arguments
def mcnemar(before: Values, after: Values, *, clips: Clips | None = None) -> McNemar:
    """McNemar's test of two sets of answers to the same questions.

    Where clips share questions, the test of signs over clips takes its place (`sign_flip_test`): if a change had no
    direction, a clip's fixed answers less its broken ones would have either sign as easily.

    Args:
        before: Right or wrong, `[question]`.
        after: Right or wrong, of the same questions in the same order (see `match_ids`).
        clips: The name of each question's clip; by default each is of its own.

    Raises:
        ValueError: For no questions, or lengths that differ.
        TypeError: For an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
    numbers = clip_numbers(clips, len(before))
    k = shared(numbers)
    if k is not None:
        p, seen = _sign_flips(summed(after.astype(np.int64) - before, numbers))
        return McNemar(len(before), fixed, broken, p, p - seen / 2, k)
    p = float(exact_mcnemar([[0, fixed], [broken, 0]], exact=True).pvalue)
    seen = float(binom.pmf(min(fixed, broken), fixed + broken, 0.5)) if fixed + broken else 0.0  # no change: p is 1
    return McNemar(len(before), fixed, broken, p, p - (seen if fixed != broken else seen / 2))


@names_arguments
def sign_flip_test(differences: Values, *, clips: Clips | None = None) -> float:
    """Fisher's randomisation test of paired differences (1935), over all signs that they could have had.

    If each difference came with the other sign as easily, how likely is a sum that is as large? Of differences of -1, 0
    and 1 this is McNemar's exact test. Differences of one clip are added up, and have one sign.

    Args:
        differences: Whole numbers, `[question]`.
        clips: The name of each question's clip; by default each is of its own.

    Returns:
        The p value.

    Raises:
        ValueError: For no differences, ones that add up to more than 10,000,000, or another number of clips.
        TypeError: For anything but whole numbers.
    """
    array = np.asarray(differences)
    if array.dtype.kind not in "iu":
        raise TypeError(f"the test of signs takes whole numbers, got {array.dtype}: count right answers, not shares")
    if array.ndim != 1 or not array.size:
        raise ValueError(f"the test of signs takes one difference per question, got shape {list(array.shape)}")
    if sum(abs(difference) for difference in array.tolist()) > _LARGEST:
        raise ValueError(
            f"the test of signs takes differences that add up to {_LARGEST} at most, of numbers of right answers; got "
            f"one of {max(array.tolist(), key=abs)}"
        )
    return _sign_flips(summed(array.astype(np.int64), clip_numbers(clips, len(array))))[0]


def _sign_flips(differences: Int[np.ndarray, " clip"]) -> tuple[float, float]:
    """The chance of a sum of random signs that is at least as large, and of one that is as large."""
    sizes = np.abs(differences[differences != 0])
    if not sizes.size:
        return 1.0, 0.0
    step = int(np.gcd.reduce(sizes))  # questions given several times make no larger a table
    sizes, total = sizes // step, abs(int(differences.sum())) // step
    chances, reach = np.ones(1), int(sizes.sum())
    for size in sizes:  # of every sum of the sizes so far, each with either sign
        chances = (np.pad(chances, (0, 2 * size)) + np.pad(chances, (2 * size, 0))) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(chances[sums >= total].sum())), float(chances[sums == total].sum())


@checks_arguments
def paired_difference(
    before: Values, after: Values, *, clips: Clips | None = None, confidence: float = 0.95
) -> Estimate:
    """Share right after minus share right before, with Bonett and Price's adjusted Wald interval (2012).

    The interval is centred on the difference with one more question fixed and one more broken, so that it has a width
    where no answer changed. Where clips share questions, it is that of the effective numbers of questions.

    Args:
        before: Right or wrong, `[question]`.
        after: Right or wrong, of the same questions in the same order.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the interval.

    Raises:
        ValueError: For no questions, lengths that differ, or a confidence outside 0 to 1.
        TypeError: For an answer that is neither right nor wrong.
    """
    before, after = checked.paired_outcomes(before, after)
    n, numbers = len(before), clip_numbers(clips, len(before))
    fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
    moved = after.astype(np.float64) - before
    effect = float(design_effect(moved - moved.mean(), numbers))
    p_fixed, p_broken = ((count / effect + 1) / (n / effect + 2) for count in (fixed, broken))
    centre = p_fixed - p_broken
    half = quantile(confidence, numbers) * sqrt((p_fixed + p_broken - centre**2) / (n / effect + 2))
    k = shared(numbers)
    method = "Bonett-Price" if k is None else "Bonett-Price, clips as clusters (Rao-Scott)"
    ends = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate((fixed - broken) / n, *ends, n, float(confidence), method, k)


@names_arguments
def holm(p_values: Values) -> Float[np.ndarray, "*test"]:
    """P values adjusted by Holm's method (1979): all below alpha are significant with family-wise error alpha.

    Args:
        p_values: P values in any shape, all of one family.

    Returns:
        Adjusted p values, in the same shape.

    Raises:
        ValueError: For none, or one outside 0 to 1.
    """
    p_values = checked.probabilities("p_values", p_values)
    order = np.argsort(p_values, axis=None)
    n_left = np.arange(p_values.size, 0, -1)  # not by statsmodels, which collects the garbage of the process each time
    adjusted = np.empty(p_values.size)
    adjusted[order] = np.maximum.accumulate(p_values.ravel()[order] * n_left).clip(max=1)
    return adjusted.reshape(p_values.shape)


@names_arguments
def benjamini_hochberg(p_values: Values) -> Float[np.ndarray, "*test"]:
    """P values adjusted by Benjamini and Hochberg's method (1995): q values, at false discovery rate q.

    It holds for independent tests and for positively dependent ones.

    Args:
        p_values: P values in any shape, all of one family.

    Returns:
        Adjusted p values, in the same shape.

    Raises:
        ValueError: For none, or one outside 0 to 1.
    """
    p_values = checked.probabilities("p_values", p_values)
    return fdrcorrection(p_values.ravel())[1].reshape(p_values.shape)
