"""Effects of single places in a network on the answers to clean and corrupted prompts, found by whatever method.

Conventions: the value of a place is the metric in the run in which that place was changed; on the scale of a map the
corrupted run is 0 and the clean run 1. Denoising starts from the corrupted run and puts clean activations in, so that
0 means no effect; noising starts from the clean run and puts corrupted ones in, so that 1 means no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.patching.scale import ROUNDING, Metric, Scale
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.metrics.ranking import largest_first
from mechaudio.results import Result

if TYPE_CHECKING:
    import xarray

Direction = Literal["denoising", "noising"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EffectMap(Result):
    """The effect of every place on every pair of prompts.

    Attributes:
        axes: Name of each axis (`layer`, `head`, `position`, `role`, `second`, `event`) -> its labels.
        values: The metric with that place changed; NaN where there is no such place.
        clean: The metric in the clean runs.
        corrupted: In the corrupted runs.
        metric: What is measured of the answers.
        direction: What is put into what.
        hook_point: Where.
        ids: Ids of the clean questions.
        heads: Heads that were changed together, `None` for all of them and where the map goes over heads.
        window_seconds: Length of a window, where the map goes over seconds.
        clips: Name of the clip of each pair, a cluster in every interval; without them, each has a clip of its own.
    """

    axes: Mapping[str, tuple[Any, ...]]
    values: Float[np.ndarray, "*axis pair"]
    clean: Float[np.ndarray, " pair"]
    corrupted: Float[np.ndarray, " pair"]
    metric: Metric
    direction: Direction
    hook_point: str
    ids: tuple[str, ...]
    heads: tuple[int, ...] | None = None
    window_seconds: float | None = None
    clips: tuple[str, ...] = ()

    @property
    def scale(self) -> Scale:
        """The runs at which the scale is 0 and 1."""
        return Scale(self.clean, self.corrupted, self.clips)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Ids of the pairs whose clean and corrupted runs agree: they have no scale, and count for nothing here."""
        return tuple(name for name, defined in zip(self.ids, self.scale.defined, strict=True) if not defined)

    @property
    def change(self) -> Float[np.ndarray, "*axis pair"]:
        """The change by each place, in units of the metric: from the run that was changed, towards the other one."""
        return self.values - (self.corrupted if self.direction == "denoising" else self.clean)

    def per_pair(self) -> Float[np.ndarray, "*axis pair"]:
        """Every pair on its own scale, from 0 (as corrupted) to 1 (as clean); NaN where it has none."""
        return self.scale.per_pair(self.values)

    def mean(self) -> Float[np.ndarray, "*axis"]:
        """The mean over the pairs that have the place, in parts of their mean difference of clean and corrupted runs.

        Raises:
            ValueError: Clean and corrupted runs agree in all pairs.
        """
        return self.scale.mean(self.values)

    @property
    def counted(self) -> Int[np.ndarray, "*axis"]:
        """The number of pairs in the mean of each place: those that have the place and a scale."""
        return self.scale.counted(self.values)

    @property
    def no_effect(self) -> float:
        """The number on the scale at which a place does nothing: 0 when denoising, 1 when noising."""
        return 0.0 if self.direction == "denoising" else 1.0

    def interval(
        self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> tuple[Float[np.ndarray, "*axis"], Float[np.ndarray, "*axis"]]:
        """Bootstrap interval of `mean` over the clips of the pairs, for each place by itself.

        NaN where pairs of fewer than six clips have the place and a scale, and where the mean difference of clean and
        corrupted runs may be zero (`Scale.interval`).

        Raises:
            ValueError: Pairs of fewer than two clips whose clean and corrupted runs differ.
        """
        return self.scale.interval(self.values, confidence=confidence, resamples=resamples, seed=seed)

    def excludes_no_effect(
        self, low: Float[np.ndarray, "*axis"], high: Float[np.ndarray, "*axis"]
    ) -> Bool[np.ndarray, "*axis"]:
        """Mark the intervals that lie on one side of `no_effect`, by more than rounding."""
        return (low - self.no_effect > ROUNDING) | (self.no_effect - high > ROUNDING)

    def top(self, n: int = 10) -> list[tuple[dict[str, Any], float]]:
        """The places with the largest mean effect, either way: their labels, and the mean on the map's scale.

        Raises:
            TypeError: A number of places that is not whole.
            ValueError: One below 1, or clean and corrupted runs that agree in all pairs.
        """
        if checked.whole("n", n) < 1:
            raise ValueError(f"n is how many places to name, at least 1; got {n}")
        mean = self.mean()
        largest = largest_first(np.abs(mean - self.no_effect))[:n]
        places = [np.unravel_index(index, mean.shape) for index in largest]
        return [(self._labels(place), float(mean[place])) for place in places]

    @property
    def _table_axes(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.axes, "pair")

    def to_xarray(self) -> xarray.Dataset:
        """Named axes: `values` and `effect` `[*axes, pair]`, `mean` `[*axes]`, and the two ends of the scale."""
        import xarray

        dims = tuple(self.axes)
        return xarray.Dataset(
            {
                "values": ((*dims, "pair"), self.values),
                "effect": ((*dims, "pair"), self.per_pair()),
                "mean": (dims, self.mean()),
                "clean": (("pair",), self.clean),
                "corrupted": (("pair",), self.corrupted),
            },
            {**{name: list(labels) for name, labels in self.axes.items()}, "pair": list(self.ids)},
            {**self._attrs, "metric": self.metric, "direction": self.direction, "hook_point": self.hook_point},
        )

    def _labels(self, place: tuple[Any, ...]) -> dict[str, Any]:
        return {name: labels[int(at)] for (name, labels), at in zip(self.axes.items(), place, strict=True)}

    def __repr__(self) -> str:
        """Say what was measured, and of how many pairs there is nothing to measure."""
        size = " x ".join(n_of(len(labels), name) for name, labels in self.axes.items())
        none = f", {len(self.undefined)} of them without a difference" if self.undefined else ""
        return (
            f"<{type(self).__name__} of {self.hook_point}, {size}, {self.direction}, on "
            f"{n_of(len(self.ids), 'pair')}{none}>"
        )


@checks_arguments
def agreement(
    estimated: EffectMap, exact: EffectMap, *, places: Bool[np.ndarray, "*axis"] | None = None
) -> dict[str, float]:
    """How well one map stands for another: Pearson's and Spearman's correlation of their means over places, and more.

    Args:
        estimated: A cheap map.
        exact: The map of the same places, pairs, metric and direction that it stands for.
        places: Which places to compare; all that both have by default.

    Returns:
        `pearson`, `spearman`, `error` (the largest difference of two means), `top` (how many of the ten places with
        the largest effect in `exact` are among those of `estimated`, as a share) and `places`, how many were compared.

    Raises:
        ValueError: Maps of other places, pairs, metrics or directions, or fewer than three places.
    """
    from scipy.stats import pearsonr, spearmanr

    for name in ("axes", "ids", "metric", "direction"):
        mine, theirs = getattr(estimated, name), getattr(exact, name)
        if mine != theirs:
            raise ValueError(f"the maps have another {name}, {mine} and {theirs}: compare like with like")
    means = np.stack([estimated.mean(), exact.mean()])
    both = ~np.isnan(means).any(0)
    mine, theirs = means[:, both if places is None else both & places]
    if len(mine) < 3:
        raise ValueError(f"a correlation takes at least three places, got {len(mine)}")
    n = min(10, len(mine))
    best = [set(largest_first(np.abs(mean - exact.no_effect))[:n].tolist()) for mean in (mine, theirs)]
    return {
        "pearson": float(pearsonr(mine, theirs)[0]),
        "spearman": float(spearmanr(mine, theirs)[0]),
        "error": float(np.abs(mine - theirs).max()),
        "top": len(best[0] & best[1]) / n,
        "places": float(len(mine)),
    }
