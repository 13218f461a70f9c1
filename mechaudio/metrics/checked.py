"""Checks of what scores are given: right and wrong, numbers, ids, levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.arguments import n_of, shown

#: More draws than any interval needs, and as many as memory holds.
MOST_RESAMPLES = 1_000_000

#: An array, or nested lists of what it would hold.
Values = np.ndarray | Sequence


def outcomes(name: str, values: Any) -> Bool[np.ndarray, " question"]:
    """Right or wrong, one per question, at least one.

    Raises:
        ValueError: For another shape, for none, or for a number other than 0 and 1.
        TypeError: For anything that is neither right nor wrong, such as None.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} needs one value per question, got an array of shape {list(array.shape)}")
    if not len(array):
        raise ValueError(f"{name} is empty: there is nothing to count without a question")
    if array.dtype.kind == "O":
        odd = next(index for index, value in enumerate(array) if not isinstance(value, (bool, np.bool_)))
        raise TypeError(
            f"{name}[{odd}] is {array[odd]!r}, neither right nor wrong: leave out questions without a known answer"
        )
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} needs True or False per question, got {array.dtype} such as {array[0]!r}")
    if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        odd = int(np.flatnonzero(~np.isin(array, (0, 1)))[0])
        raise ValueError(f"{name} needs True or False (1 or 0) per question, got {array[odd]} at {odd}")
    return array.astype(bool)


def paired_outcomes(before: Any, after: Any) -> tuple[Bool[np.ndarray, " question"], Bool[np.ndarray, " question"]]:
    """Right or wrong before and after, for the same questions in the same order.

    Raises:
        ValueError: For lengths that differ, and all that `outcomes` raises.
        TypeError: As `outcomes`.
    """
    before, after = outcomes("before", before), outcomes("after", after)
    same_length(before=before, after=after)
    return before, after


def same_length(**named: Sequence[Any] | np.ndarray) -> None:
    """Refuse things that should go together question by question and differ in number.

    Raises:
        ValueError: For lengths that differ.
    """
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"{' and '.join(lengths)} go together one by one, but {listed}: give both for the same questions"
        )


def numbers(name: str, values: Any) -> Float[np.ndarray, " sample *column"]:
    """Finite numbers in double precision, one row per sample.

    Raises:
        TypeError: For anything but numbers.
        ValueError: For a single number, or for NaN and infinity, which are located.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} needs real numbers, got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name} needs one row per sample, got the single number {array}")
    array = array.astype(np.float64)
    strange = ~np.isfinite(array)
    if strange.any():
        columns = np.argwhere(strange.any(axis=0))
        where = f"samples {_some(np.flatnonzero(strange))}"
        if array.ndim > 1:
            where = (
                f"{len(columns)} of {n_of(array[0].size, 'column')}, "
                f"{_some(tuple(map(int, place)) for place in columns)}"
            )
        raise ValueError(
            f"{name} holds NaN or infinity in {where}: leave them out (a layer without attention has no share of it)"
        )
    return array


def probabilities(name: str, values: Any) -> Float[np.ndarray, "*test"]:
    """P values: at least one, each from 0 to 1.

    Raises:
        ValueError: For none, or one that is no probability.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError(f"{name} is empty: give at least one p value")
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        raise ValueError(
            f"{name} needs probabilities from 0 to 1, got {_some(array[wrong])} ({wrong.sum()} of {array.size})"
        )
    return array


def whole(name: str, given: Any) -> int:
    """One whole number.

    Raises:
        TypeError: For anything else, True and False among it.
    """
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, np.integer)):
        raise TypeError(f"{name} is a whole number, such as 5, got {given!r}")
    return int(given)


def level(confidence: float) -> float:
    """A confidence strictly between 0 and 1.

    Raises:
        TypeError: For what is no number.
        ValueError: For any other.
    """
    if not isinstance(confidence, (int, float, np.number)):
        raise TypeError(f"confidence is a share between 0 and 1, such as 0.95, got {shown(confidence)}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is a share between 0 and 1, such as 0.95, got {confidence}")
    return float(confidence)


def resampling(resamples: int) -> None:
    """Refuse a bootstrap without resamples.

    Raises:
        TypeError: For what is no whole number.
        ValueError: For fewer than one, or more than `MOST_RESAMPLES`.
    """
    if not 1 <= whole("resamples", resamples) <= MOST_RESAMPLES:
        raise ValueError(f"resamples must be at least 1 and at most {MOST_RESAMPLES:,}, got {resamples}")


def unique(name: str, ids: Sequence[str]) -> tuple[str, ...]:
    """Ids of which none comes twice.

    Raises:
        ValueError: For those that do.
    """
    repeated = [key for key, times in Counter(ids).items() if times > 1]
    if repeated:
        raise ValueError(
            f"{name} holds {_some(repeated)} more than once, so answers cannot be told apart by id: make ids unique"
        )
    return tuple(ids)


def some_wrong(ids: Sequence[str], n_choices: Sequence[int], right: Bool[np.ndarray, "question choice"]) -> None:
    """Refuse a question whose choices are all right: there is none to hold the right one against.

    Raises:
        ValueError: For the first of them.
    """
    for name, n, own in zip(ids, n_choices, right, strict=True):
        if own.sum() == n:
            raise ValueError(
                f"all {n} choices of question {name!r} are right, so there is no wrong one to hold the right one "
                "against: give other choices, or leave the question out"
            )


def _some(things: Iterable[Any]) -> str:
    """The first three things, and that there are more."""
    shown = [str(thing) if isinstance(thing, np.generic) else repr(thing) for thing in things]
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
