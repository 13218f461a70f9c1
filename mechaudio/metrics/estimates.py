"""Numbers with their intervals: what the scores return, how it prints, and what of it goes into JSON.

Conventions: shares and rates are from 0 to 1, and print in percent, their differences in percentage points; `as_dict`
holds plain Python numbers and text, so that `json.dumps` takes it and a `Result` keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isnan
from typing import Any

import numpy as np

from mechaudio.arguments import n_of
from mechaudio.metrics.clips import counted
from mechaudio.showing import Shown


class AsDict(Shown):
    """The base of dataclasses that go into JSON."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, arrays as lists, for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.as_dict() if isinstance(value, AsDict) else value.tolist() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class Estimate(AsDict):
    """A number and the interval that its sampling leaves it.

    Attributes:
        value: The estimate from the sample itself.
        low: Lower end of the interval; NaN where too few clips give none.
        high: Upper end.
        n: Samples that it rests on.
        confidence: Level of the interval, 0.95 for a 95% interval.
        method: How the interval was made.
        n_clips: Clips that the samples are about, which the interval takes as clusters; None where each is about a clip
            of its own.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    method: str
    n_clips: int | None = None

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self._interval(f'{self.low:.3g} to {self.high:.3g}')})"

    def in_percent(self) -> str:
        """A share in words, in percent."""
        value, low, high = (f"{100 * number:.1f}" for number in (self.value, self.low, self.high))
        return f"{value}% ({self._interval(f'{low} to {high}%')})"

    def in_points(self) -> str:
        """A difference of two shares in words, in percentage points and with its sign."""
        value, low, high = (f"{round(100 * number, 1) + 0.0:+.1f}" for number in (self.value, self.low, self.high))
        return f"{value} points ({self._interval(f'{low} to {high}')})"

    def _interval(self, ends: str) -> str:
        interval = "no interval" if isnan(self.low) else f"{100 * self.confidence:g}% interval {ends}"
        return f"{interval}, {counted(self.n, self.n_clips)}"


@dataclass(frozen=True)
class Proportion(AsDict):
    """`count` of `n`, with Wilson's interval, for clips as clusters where they share questions (Rao and Scott 1992).

    Attributes:
        count: How many.
        n: Number of cases, at least one.
        low: Lower end of the interval of the share.
        high: Upper end.
        confidence: Level of the interval.
        n_clips: Clips that they are about; None where each is about a clip of its own.
        unanswered: How many of them have no answer, because logits were NaN; they are among `n` and not in `count`.
    """

    count: int
    n: int
    low: float
    high: float
    confidence: float
    n_clips: int | None = None
    unanswered: int = 0

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.count / self.n

    def __str__(self) -> str:
        interval = f"{100 * self.confidence:g}% interval {100 * self.low:.1f} to {self.high:.1%}"
        of = "" if self.n_clips is None else f" questions of {n_of(self.n_clips, 'clip')}"
        nan = f"; {self.unanswered} without an answer: NaN" if self.unanswered else ""
        return f"{self.value:.1%} ({interval}; {self.count} of {self.n}{of}{nan})"

    def as_dict(self) -> dict[str, Any]:
        """The fields and the share by name, for JSON."""
        return {"value": self.value} | super().as_dict()
