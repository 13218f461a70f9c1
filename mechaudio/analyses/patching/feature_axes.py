"""The axes of a map over the features that an audio tower hears: seconds, and the numbers of a frame.

Conventions: a frame belongs to the window of seconds that its middle lies in; a band is the place of a number in a
frame, the mel band where features are mel spectrograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechaudio.analyses.patching.effect_map import DIRECTIONS, Direction
from mechaudio.interventions.selecting import check_choice, check_number
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import by_frame
from mechaudio.models.grouping import windows_of_rows
from mechaudio.models.selection import Where
from mechaudio.tracing.audio_lm import AudioLM

#: What stands for a hook point's name.
FEATURES: Literal["features"] = "features"
_AXES = ("second", "band")


class FeatureAxes:
    """The places of the features that are patched; axes as in a hook point's map, with bands in the place of heads."""

    name, layers, in_tower, positions = FEATURES, (None,), True, None
    heads_given = together = None

    def __init__(
        self,
        model: AudioLM,
        over: Sequence[str],
        direction: Direction,
        layers: int | Iterable[int] | None,
        heads: int | Iterable[int] | None,
        positions: Where | None,
        window: float | int,
    ):
        if model.adapter.features_beside:
            others = ", ".join(model.adapter.features_beside)
            raise ValueError(
                f"{model.adapter.network_class} hears a clip by {model.adapter.features} and by {others}, and a patch "
                "of the one would leave the other as it is: patch the towers' resid_pre, or projector_out"
            )
        self.model, self.direction, self.window = model, direction, check_number("window", window)
        check_choice("direction", direction, DIRECTIONS)
        self.over = (over,) if isinstance(over, str) else tuple(over)
        if not self.over or set(self.over) - set(_AXES) or len(set(self.over)) < len(self.over):
            raise ValueError(f"a map of 'features' goes over 'second', 'band' or both, got {over!r}")
        if layers is not None or heads is not None or positions is not None:
            raise ValueError("'features' have seconds and bands: leave layers=, heads= and positions= out")
        self.along = "second" if "second" in self.over else None
        self.heads: list[int | None] = [None]

    def count_bands(self, features: Tensor) -> None:
        """Find the bands of the map in the features."""
        if "band" in self.over:
            self.take_heads(range(by_frame(self.model.adapter, features).shape[2]))

    def take_heads(self, found: Iterable[int]) -> None:
        """Take bands that there are as those of the map."""
        self.heads = list(found)

    @property
    def counted(self) -> tuple[int, ...] | None:
        """The bands of the map, once they are counted; `None` without any."""
        return None if self.heads == [None] else tuple(self.heads)

    def axes(self, labels: Sequence[Any]) -> dict[str, tuple[Any, ...]]:
        """The axes of the map: `band`, then `second`, as a spectrogram is drawn."""
        have = {"band": tuple(self.heads), "second": tuple(labels)}
        return {name: have[name] for name in ("band", "second") if name in self.over}


def feature_frames(
    model: AudioLM, batch: PromptBatch
) -> tuple[Int[np.ndarray, "window frame"], Float[np.ndarray, "window frame"]]:
    """Which row of the batch every frame of the features belongs to, and its middle in seconds of that row's clip.

    Raises:
        ValueError: No row has audio.
    """
    adapter, timing = model.adapter, model.adapter.timing
    if adapter.features not in batch.inputs:
        raise ValueError("no row of this batch has audio, so that there are no features")
    width = batch.inputs[adapter.features].shape[adapter.frames_axis]
    hop = timing.hop / adapter.sampling_rate
    length = width * hop if timing.window is None else timing.window / adapter.sampling_rate
    owned = [(row, place) for row, own in enumerate(windows_of_rows(adapter, batch)) for place in range(len(own))]
    row = np.array([own for own, _ in owned])[:, None].repeat(width, axis=1)
    middle = np.array([place * length for _, place in owned])[:, None] + (np.arange(width) + 0.5) * hop
    return row, middle


def features_of(model: AudioLM, source: PromptBatch, base: PromptBatch) -> Tensor:
    """Return the features that the tower hears in the runs that are patched from.

    Raises:
        ValueError: One of them hears nothing, or sound of another length.
    """
    name = model.adapter.features
    both = [side.inputs.get(name) for side in (source, base)]
    if any(one is None for one in both) or both[0].shape != both[1].shape:
        shapes = [None if one is None else list(one.shape) for one in both]
        raise ValueError(
            f"the features of source and base have the shapes {shapes[0]} and {shapes[1]}: both prompts of a pair need "
            "sound of one length"
        )
    return both[0]


def with_features(model: AudioLM, batch: PromptBatch, features: Tensor) -> PromptBatch:
    """Put other features into prompts."""
    return replace(batch, inputs={**batch.inputs, model.adapter.features: features})
