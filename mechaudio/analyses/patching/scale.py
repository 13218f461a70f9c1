"""How far from the corrupted run to the clean one an answer lies.

A number taken from a patched run says little by itself: it is put on the scale on which the corrupted run is 0 and the
clean run 1.

Conventions: logits are those of the choices' letters at the last position, `nan` where a question has fewer choices;
the right choice is the clean question's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.interventions.selecting import check_choice
from mechaudio.metrics import checked
from mechaudio.metrics.bootstrap import drawn_weights, percentile_interval
from mechaudio.metrics.choices import NO_ANSWER, likeliest, margin
from mechaudio.metrics.clips import clip_numbers, n_clips

#: What is read off the logits of the choices:
#: `logit_difference`, of the right choice and one wrong choice, the same in every run (`Contrast.wrong`);
#: `margin`, of the right choice and the best wrong one of that very run;
#: `probability` of the right choice among the choices;
#: `answer`, 1 where the likeliest choice has the text of the clean run's, else 0.
Metric = Literal["logit_difference", "margin", "probability", "answer"]
METRICS: tuple[str, ...] = get_args(Metric)
#: Smaller differences between clean and corrupted, in parts of the larger of the two, are rounding.
ROUNDING = 1e-4
#: Numbers of resamples and places that an interval holds at once.
AT_ONCE = 2**22


def value(
    metric: Metric,
    logits: Float[np.ndarray, "*variant pair choice"],
    right: Bool[np.ndarray, "pair choice"],
    wrong: Int[np.ndarray, " pair"],
    clean: Float[np.ndarray, "pair choice"],
    texts: Int[np.ndarray, "pair choice"] | None = None,
) -> Float[np.ndarray, "*variant pair"]:
    """One number of every run.

    `right`, `wrong` and `texts` are those of a `Contrast`; without `texts` each choice has one of its own.

    Raises:
        ValueError: An unknown metric.
    """
    check_choice("metric", metric, METRICS)
    n_choices = (~np.isnan(clean)).sum(-1)  # clean runs have no NaN of their own: `Contrast.wrong` refuses them
    lacking = likeliest(logits, n_choices) == NO_ANSWER
    logits = np.where(lacking[..., None], 0.0, logits.astype(np.float64))
    if metric == "answer":
        same = chosen(logits, n_choices, texts) == chosen(clean, n_choices, texts)
        return np.where(lacking, np.nan, same.astype(np.float64))
    return np.where(lacking, np.nan, _value(metric, logits, right, wrong))


def _value(
    metric: Metric,
    logits: Float[np.ndarray, "*variant pair choice"],
    right: Bool[np.ndarray, "pair choice"],
    wrong: Int[np.ndarray, " pair"],
) -> Float[np.ndarray, "*variant pair"]:
    """The metric of runs whose logits are numbers."""
    if metric == "logit_difference":
        of_wrong = np.take_along_axis(logits, np.broadcast_to(wrong[:, None], (*logits.shape[:-1], 1)), -1)[..., 0]
        with np.errstate(invalid="ignore"):  # both are banned, or both overflowed: nothing lies between them
            return np.where(right, logits, -np.inf).max(-1) - of_wrong
    if metric == "margin":
        return margin(logits, right)
    highest = np.nanmax(logits, -1, keepdims=True)
    behind = np.subtract(logits, highest, out=np.zeros_like(logits), where=logits != highest)  # not inf - inf
    likelihood = np.nan_to_num(np.exp(behind))
    return np.where(right, likelihood, 0.0).sum(-1) / likelihood.sum(-1)


@dataclass(frozen=True, eq=False)
class Scale:
    """The two ends of one metric: the runs at 0 and at 1.

    Attributes:
        clean: The metric in the clean runs.
        corrupted: In the corrupted runs.
        clips: Name of the clip of each pair, a cluster in every interval; without them, each has a clip of its own.
    """

    clean: Float[np.ndarray, " pair"]
    corrupted: Float[np.ndarray, " pair"]
    clips: tuple[str, ...] = ()

    @property
    def defined(self) -> Bool[np.ndarray, " pair"]:
        """Pairs whose clean and corrupted runs differ; where they agree there is nothing to explain."""
        return np.abs(self.clean - self.corrupted) > ROUNDING * np.maximum(abs(self.clean), abs(self.corrupted))

    def per_pair(self, found: Float[np.ndarray, "*variant pair"]) -> Float[np.ndarray, "*variant pair"]:
        """Between 0 (as corrupted) and 1 (as clean), or beyond; NaN where clean and corrupted agree."""
        gap = np.where(self.defined, self.clean - self.corrupted, np.nan)
        return (found - self.corrupted) / gap

    def counted(self, found: Float[np.ndarray, "*variant pair"]) -> Int[np.ndarray, "*variant"]:
        """Count the pairs that a mean is over: those that differ, and that have the place (no NaN)."""
        return (self.defined & ~np.isnan(found)).sum(-1)

    def counted_clips(self, found: Float[np.ndarray, "*variant pair"]) -> Int[np.ndarray, "*variant"]:
        """Count the clips that the pairs of a mean are about; no more than `counted`."""
        about = self._numbers[:, None] == np.unique(self._numbers)
        return ((self.defined & ~np.isnan(found)).astype(np.int64) @ about.astype(np.int64) > 0).sum(-1)

    @property
    def n_clips(self) -> int:
        """The number of clips that the pairs that differ are about."""
        return n_clips(self._numbers[self.defined])

    @property
    def _numbers(self) -> Int[np.ndarray, " pair"]:
        return clip_numbers(self.clips or None, len(self.clean))

    def mean(self, found: Float[np.ndarray, "*variant pair"]) -> Float[np.ndarray, "*variant"]:
        """The mean change over pairs in parts of the mean difference of clean and corrupted.

        The two means are taken before they are divided: a pair in which little is to be explained counts little,
        where a mean of quotients would be ruled by it. Both are over the pairs that `found` has a number for; NaN where
        that is none.

        Raises:
            ValueError: Clean and corrupted agree in all pairs.
        """
        if not self.defined.any():
            raise ValueError(
                f"clean and corrupted runs agree in every pair ({len(self.clean)} here), so there is no scale to put "
                "anything on: corrupt more, choose another metric, or ask questions whose answers the sound decides"
            )
        flat = found.reshape(-1, found.shape[-1])
        change, gap = self._sums(flat, self.defined[None].astype(np.float64))
        mean = np.divide(change, gap, out=np.full_like(change, np.nan), where=gap != 0)
        return mean.reshape(found.shape[:-1])

    def interval(
        self,
        found: Float[np.ndarray, "*variant pair"],
        *,
        confidence: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> tuple[Float[np.ndarray, "*variant"], Float[np.ndarray, "*variant"]]:
        """Bootstrap interval of `mean` over the clips of the pairs in which clean and corrupted differ.

        Clips are drawn with all their pairs, and percentiles expanded (Hesterberg 2015) to the clips that a place has.
        NaN where pairs of too few clips have a number (`mechaudio.metrics.bootstrap.fewest`), and where the mean
        difference of clean and corrupted may be zero or of the other sign, by its own interval over the same
        resamples: a quotient of means is then anything.

        Raises:
            ValueError: Such pairs of fewer than two clips, or a confidence outside 0 to 1.
        """
        numbers = self._numbers[self.defined]
        if self.n_clips < 2:
            raise ValueError(
                f"an interval over pairs needs at least 2 in which clean and corrupted differ, got {len(numbers)}"
                + (", all about one clip" if len(numbers) > 1 else "")
            )
        checked.resampling(resamples)
        weights = np.zeros((resamples, len(self.defined)))
        weights[:, self.defined] = drawn_weights(numbers, resamples, np.random.default_rng(seed))
        flat = found.reshape(-1, found.shape[-1])
        low, high = np.full((2, len(flat)), np.nan)
        at_once = max(1, AT_ONCE // resamples)
        for start in range(0, len(flat), at_once):
            block = slice(start, start + at_once)
            low[block], high[block] = self._ends(flat[block], weights, confidence)
        return low.reshape(found.shape[:-1]), high.reshape(found.shape[:-1])

    def _ends(
        self, found: Float[np.ndarray, "place pair"], weights: Float[np.ndarray, "resample pair"], confidence: float
    ) -> tuple[Float[np.ndarray, " place"], Float[np.ndarray, " place"]]:
        """The interval of some places; a resample may have no pair with a place, and counts for nothing there."""
        change, gap = self._sums(found, weights)
        there = weights @ (~np.isnan(found)).T.astype(np.float64) > 0
        drawn = np.divide(change, gap, out=np.full_like(change, np.nan), where=there & (gap != 0))
        clips = self.counted_clips(found)
        least, most = _interval(np.where(there, gap, np.nan), confidence, clips)
        low, high = _interval(drawn, confidence, clips)
        known = (least > 0) | (most < 0)
        return np.where(known, low, np.nan), np.where(known, high, np.nan)

    def _sums(
        self, found: Float[np.ndarray, "place pair"], weights: Float[np.ndarray, "resample pair"]
    ) -> tuple[Float[np.ndarray, "resample place"], Float[np.ndarray, "resample place"]]:
        """Weighted sums over the pairs that have a place: of what it changes, and of clean minus corrupted."""
        change = (found - self.corrupted).T
        lacking, gap = np.isnan(change), (self.clean - self.corrupted)[:, None]
        return weights @ np.where(lacking, 0.0, change), weights @ np.where(lacking, 0.0, gap)


def _interval(
    drawn: Float[np.ndarray, "resample place"], confidence: float, clips: Int[np.ndarray, " place"]
) -> tuple[Float[np.ndarray, " place"], Float[np.ndarray, " place"]]:
    """Expanded percentile intervals that leave NaN out; NaN where there are too few clips."""
    low, high = np.full((2, drawn.shape[1]), np.nan)
    for k in np.unique(clips[clips >= 2]).tolist():
        low[clips == k], high[clips == k] = percentile_interval(drawn[:, clips == k], confidence, k)
    for place in np.flatnonzero(np.isnan(low) & (clips >= 2)):
        known = drawn[~np.isnan(drawn[:, place]), place]
        if len(known):
            low[place], high[place] = percentile_interval(known, confidence, int(clips[place]))
    return low, high


def chosen(
    logits: Float[np.ndarray, "*variant pair choice"],
    n_choices: Int[np.ndarray, " pair"] | Sequence[int],
    texts: Int[np.ndarray, "pair choice"] | None = None,
) -> Int[np.ndarray, "*variant pair"]:
    """The likeliest choice of each run, or with `texts` the first with its text; `NO_ANSWER` without one."""
    places = likeliest(logits, n_choices)
    if texts is None:
        return places
    firsts = np.take_along_axis(np.broadcast_to(texts, logits.shape), places[..., None], -1)[..., 0]
    return np.where(places == NO_ANSWER, NO_ANSWER, firsts)
