"""Questions about one clip as one sample: how much less they tell than as many questions about different clips.

Conventions: `clips` names the clip of each question; without it every question counts as one of a clip of its own.
Counts are divided by their design effect (Rao and Scott, Biometrics 48:577, 1992), which is 1, exactly, where every
clip has one question: all formulas are then those for independent questions. The same questions given twice have an
effect of 2, and count once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, t

from mechaudio.arguments import n_of
from mechaudio.metrics import checked

#: Names of clips, one per question.
Clips = Sequence[str] | np.ndarray


def clip_numbers(clips: Clips | None, n: int) -> Int[np.ndarray, " question"]:
    """Number the clips from 0, one number per question.

    Raises:
        ValueError: For another number of names than of questions, or a blank name.
        TypeError: For a single text.
    """
    if clips is None:
        return np.arange(n)
    if isinstance(clips, str):
        raise TypeError(f"clips= names the clip of each question, got the single text {clips!r}")
    if len(clips) != n:
        raise ValueError(f"clips= names the clip of each of the {n} questions, got {n_of(len(clips), 'name')}")
    names = [str(name) for name in clips]
    if "" in names:
        raise ValueError(
            f"clips[{names.index('')}] is blank: name the clip, so that it is known which questions share it"
        )
    return np.unique(names, return_inverse=True)[1].astype(np.int64).reshape(n)


def n_clips(numbers: Int[np.ndarray, " question"]) -> int:
    """Count the clips."""
    return len(np.unique(numbers))


def shared(numbers: Int[np.ndarray, " question"]) -> int | None:
    """Count the clips where some share questions; None where every question is about a clip of its own."""
    k = n_clips(numbers)
    return k if k < len(numbers) else None


def summed(values: np.ndarray, numbers: Int[np.ndarray, " question"]) -> np.ndarray:
    """Add up values, `[question, ...]`, over the questions of each clip: `[clip, ...]`."""
    places = np.unique(numbers, return_inverse=True)[1]
    sums = np.zeros((places.max() + 1, *values.shape[1:]), dtype=values.dtype)
    np.add.at(sums, places, values)
    return sums


def design_effect(
    deviations: Float[np.ndarray, " question *column"], numbers: Int[np.ndarray, " question"]
) -> Float[np.ndarray, "*column"]:
    """Return how many times larger the variance of a mean is than if questions were independent; at least 1.

    Squared sums over clips are too small by what the clips' own mean takes from them, much so where a few clips have
    most questions: they are divided by what is left in expectation (Bell and McCaffrey, Survey Methodology 28:169,
    2002). So few clips may be alike by chance: as much as one degree of freedom is that of questions of a clip that
    are all the same (Kish).

    Args:
        deviations: What each question adds to the estimate's deviation, such as its value minus the mean. Where all are
            zero they cannot say how alike the questions of a clip are, which are then taken to be all the same.
        numbers: Numbers of the clips, from `clip_numbers`.
    """
    sizes = summed(np.ones(len(numbers)), numbers)
    if sizes.max() == 1:
        return np.ones(deviations.shape[1:])
    left, free = _left(sizes)
    apart = (deviations**2).sum(axis=0)
    together = (summed(deviations, numbers) ** 2).sum(axis=0)
    alike = (sizes**2).sum() / len(numbers)
    alone = np.full(np.shape(apart), alike)
    seen = np.divide(together / left if free else alone * apart, apart, out=alone, where=apart > 1e-12)
    return np.asarray(np.maximum(1.0, (free * seen + alike) / (free + 1)))


def freedom(numbers: Int[np.ndarray, " question"]) -> float:
    """Degrees of freedom of what is estimated from clips: as of so many equally large ones, less one; at least 1.

    They are Satterthwaite's, of clips whose means vary alike: of clips with unequal numbers of questions a few large
    ones decide.
    """
    return max(1.0, _left(summed(np.ones(len(numbers)), numbers))[1])


def _left(sizes: Float[np.ndarray, " clip"]) -> tuple[float, float]:
    """The share of the variance between clips that is left around their own mean, and its degrees of freedom.

    With weights w of the clips, the sum of w^2 (clip mean - mean)^2 is a quadratic form in the clip means, of the
    matrix M = (I - w 1') diag(w^2) (I - 1 w'): the share is tr(M) / sum(w^2), and there are tr(M)^2 / tr(M^2) degrees
    of freedom. The share is given as one of that of equally large clips, (k - 1) / k, which formulas for independent
    questions account for.
    """
    two, three, four, five = (((sizes / sizes.sum()) ** power).sum() for power in (2, 3, 4, 5))
    trace = two - 2 * three + two**2
    squared = four - 4 * five + 4 * two * four + 2 * three**2 - 4 * two**2 * three + two**4
    if len(sizes) == 1:
        return 0.0, 0.0
    k = len(sizes)
    return float(trace / two * k / (k - 1)), float(trace**2 / squared)


def quantile(confidence: float, numbers: Int[np.ndarray, " question"]) -> float:
    """Return how many standard errors reach to the ends of an interval: normal, or Student's t for shared clips.

    A design effect is estimated from the clips, hence their `freedom`.
    """
    tail = (1 + checked.level(confidence)) / 2
    alone = n_clips(numbers) == len(numbers)
    return float(norm.ppf(tail) if alone else t.ppf(tail, freedom(numbers)))


def questions_of(n: int, clips: Sequence[str] | int | None = None) -> str:
    """Say how many questions there are, and of how many clips where these are fewer.

    Args:
        n: questions.
        clips: The clip of each, or the number of clips; nothing if each is about a clip of its own.
    """
    k = clips if isinstance(clips, int) else len(set(clips)) if clips else n
    return counted(n, k) if k < n else f"n = {n_of(n, 'question')}"


def counted(n: int, clips: int | None) -> str:
    """Say how many questions there are, and of how many clips where that is fewer."""
    if clips is None:
        return f"n = {n}"
    return f"n = {n_of(n, 'question')} of {n_of(clips, 'clip')}"
