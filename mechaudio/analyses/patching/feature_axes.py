"""The axes of a map over the features that an audio tower hears: seconds, and the numbers of a frame.

Conventions: a frame belongs to the window of seconds that its middle lies in; a band is the place of a number in a
frame, the mel band where features are mel spectrograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechaudio.analyses.patching.effect_map import Direction
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.analyses.patching.patched_places import PatchedPlaces
from mechaudio.analyses.patching.places import Ground, frame_windows
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import by_frame
from mechaudio.models.grouping import onsets_of_windows, why_unknown
from mechaudio.models.positions import Where
from mechaudio.tracing.audio_lm import AudioLM

#: What stands for a hook point's name.
FEATURES: Literal["features"] = "features"


class FeatureAxes(PatchedPlaces):
    """The places of the features that are patched: as those of a hook point, with bands in the place of heads."""

    AXES, HEADS = ("band", "second"), "band"  # as a spectrogram is drawn
    name, layers, in_tower, heads_given = FEATURES, (None,), True, None

    def __init__(
        self,
        model: AudioLM,
        over: Sequence[str],
        direction: Direction,
        layers: int | Iterable[int] | None,
        heads: int | Iterable[int] | None,
        positions: Where | None,
        window_seconds: float | int,
    ):
        if model.adapter.features_beside:
            others = ", ".join(model.adapter.features_beside)
            raise ValueError(
                f"{model.adapter.network_class} hears a clip by {model.adapter.features} and by {others}, and a patch "
                "of the one would leave the other as it is: patch the towers' resid_pre, or projector_out"
            )
        self._begin(model, over, direction, None, window_seconds)
        if not self.over or set(self.over) - set(self.AXES) or len(set(self.over)) < len(self.over):
            raise ValueError(f"a map of 'features' goes over 'second', 'band' or both, got {over!r}")
        if layers is not None or heads is not None or positions is not None:
            raise ValueError("'features' have seconds and bands: leave layers=, heads= and positions= out")
        self.along = "second" if "second" in self.over else None

    def count_bands(self, features: Tensor) -> None:
        """Find the bands of the map in the features."""
        if "band" in self.over:
            self.take_heads(range(by_frame(self.model.adapter, features).shape[2]))

    def ground(self, pair: Contrast, size: Sequence[int]) -> Ground:  # noqa: ARG002 - features have one size
        """Find the places in the features.

        Raises:
            ValueError: No row has audio, or seconds of a prompt with several clips.
        """
        row, middle = _feature_frames(self.model, pair.clean, timed=self.along is not None)
        return Ground(row, frame_windows(row, middle, None if self.along is None else self.window_seconds))


def _feature_frames(
    model: AudioLM, batch: PromptBatch, *, timed: bool
) -> tuple[Int[np.ndarray, "window frame"], Float[np.ndarray, "window frame"]]:
    """The prompt that each frame of the features belongs to, and its middle in seconds of that prompt's clip.

    Middles are not numbers where it is not known when windows begin, which is refused if they are wanted (`timed`).

    Raises:
        ValueError: No row has audio, or seconds of a prompt with several clips.
    """
    adapter = model.adapter
    if adapter.features not in batch.inputs:
        raise ValueError("no row of this batch has audio, so that there are no features")
    width = batch.inputs[adapter.features].shape[adapter.frames_axis]
    onsets = onsets_of_windows(adapter, batch)
    if timed and (why := why_unknown(onsets)) is not None:
        raise ValueError(f"the features of these clips have no time of their own: {why}. Go over 'band'")
    begins = [(row, onset) for row, own in enumerate(onsets) for onset in own]
    row = np.array([row for row, _ in begins])[:, None].repeat(width, axis=1)
    within = (np.arange(width) + 0.5) * (adapter.timing.hop / adapter.sampling_rate)
    return row, np.array([onset for _, onset in begins])[:, None] + within


def features_of(model: AudioLM, source: PromptBatch, base: PromptBatch) -> Tensor:
    """Return the features that the tower hears in the runs that are patched from.

    Raises:
        ValueError: One of them hears nothing, or sound of another length.
    """
    name = model.adapter.features
    both = [side.inputs.get(name) for side in (source, base)]
    if any(features is None for features in both) or both[0].shape != both[1].shape:
        shapes = [None if features is None else list(features.shape) for features in both]
        raise ValueError(
            f"the features of source and base have the shapes {shapes[0]} and {shapes[1]}: both prompts of a pair need "
            "sound of one length"
        )
    return both[0]


def with_features(model: AudioLM, batch: PromptBatch, features: Tensor) -> PromptBatch:
    """Put other features into prompts."""
    return replace(batch, inputs={**batch.inputs, model.adapter.features: features})
