"""The places of a map in a tensor of activations, gradients or features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.patching.feature_axes import FEATURES, FeatureAxes, feature_frames
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.analyses.patching.places import frame_windows
from mechaudio.tracing.hook_points import stack_of
from mechaudio.tracing.tower_frames import tower_frames


@dataclass(frozen=True, eq=False)
class Ground:
    """The places of a map in one tensor.

    Attributes:
        row: Which pair each entry of the tensor's first two axes belongs to.
        places: Label of a place -> the entries it holds.
    """

    row: Int[np.ndarray, "clip frame"]
    places: dict[Any, Bool[np.ndarray, "clip frame"]]

    def per_pair(self, numbers: Float[np.ndarray, "clip frame head"], n_pairs: int) -> Float[np.ndarray, "head pair"]:
        """Sums over all entries of every pair."""
        return np.stack([numbers[self.row == pair].sum(0) for pair in range(n_pairs)], axis=-1)

    def summed(
        self, numbers: Float[np.ndarray, "clip frame head"], n_pairs: int
    ) -> Float[np.ndarray, "head place pair"]:
        """Sums over the entries of every place and pair."""
        sums = [self.per_pair(numbers * mask[..., None], n_pairs) for mask in self.places.values()]
        return np.stack(sums, axis=1)

    def there(self, n_pairs: int) -> Bool[np.ndarray, "place pair"]:
        """Which pairs have which place."""
        return np.array(
            [[(mask & (self.row == pair)).any() for pair in range(n_pairs)] for mask in self.places.values()]
        )


def ground(wanted: PatchedPlaces | FeatureAxes, pair: Contrast, size: tuple[int, int]) -> Ground:
    """Find the places in a tensor whose first two axes, clips and frames or prompts and positions, are so long."""
    if wanted.name == FEATURES or wanted.in_tower:
        if wanted.name == FEATURES:
            row, middle = feature_frames(wanted.model, pair.clean)
        else:
            when = tower_frames(wanted.model, pair.clean, size, stack_of(wanted.name))
            row, middle = when.row, None if wanted.along is None else when.middle
        return Ground(row, frame_windows(row, middle, None if wanted.along is None else wanted.window))
    row = np.arange(size[0])[:, None].repeat(size[1], axis=1)
    masks = {}
    for label, rows in wanted.places_of(pair).items():
        masks[label] = np.zeros(size, dtype=bool)
        for own, positions in enumerate(rows):
            masks[label][own, list(positions)] = True
    return Ground(row, masks)
