"""Variants of a run as changes of single hook points, or the reason why one of them has to run on its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.tracing.bind import Change, bind
from mechaudio.tracing.edit import Intervention
from mechaudio.tracing.hook_points import LAYER_POINTS

if TYPE_CHECKING:
    from mechaudio.models.batch import PromptBatch
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True, eq=False)
class Variant:
    """A list of interventions, taken apart.

    Attributes:
        index: Its place among all variants.
        changes: What it changes in the decoder, in the order given.
        start: The first position that it changes in any prompt.
        layer: The first layer that it changes something in; the number of layers for the final norm.
        front: What it changes before the decoder's layers, in the order given.
        embeds: The last rows in front of the first layer, where that has been worked out and changes them.
    """

    index: int
    changes: tuple[Change, ...]
    start: int
    layer: int
    front: tuple[Change, ...] = ()
    embeds: Float[Tensor, "batch row d_model"] | None = None

    def entering(self, clean: Float[Tensor, "batch row d_model"]) -> Float[Tensor, "batch row d_model"]:
        """Its rows in front of its first layer, given those of the clean run."""
        if self.embeds is None:
            return clean
        own = self.embeds.to(clean.device)
        return torch.cat([clean[:, : clean.shape[1] - own.shape[1]], own], dim=1)


def take_apart(
    model: AudioLM, batch: PromptBatch, index: int, interventions: Sequence[Intervention], known: dict[Hashable, Any]
) -> Variant | str:
    """A variant as changes of single sites, or why it has to run on its own.

    Args:
        model: The opened model.
        batch: The prompts.
        index: The variant's place.
        interventions: Its interventions.
        known: What was worked out for other variants of these prompts.
    """
    changes, front, starts = [], [], []
    everywhere = [list(range(batch.n_positions))] * batch.n_rows
    for change in bind(model, batch, interventions, known):
        point, positions = change.edit.point, change.positions
        if point.part == "encoder":
            if change.scores is not None:
                return f"{point.name} comes before the decoder"
            front.append(change)
            starts += [row[0] for row in batch.audio_positions if row]
            continue
        if point.point not in (*LAYER_POINTS, "embed", "final_norm"):
            return f"{point.name} lies outside the layers"
        if point.point == "result":
            return "result is as wide as the residual stream for every head, and is computed for one run at a time"
        if positions is None:
            positions = everywhere
        if point.point == "embed":
            front.append(change)
            starts += [min(row) for row in positions]
            continue
        if point.point == "final_norm" and any(list(row) != [batch.n_positions - 1] for row in positions):
            return "final_norm is changed before the last position"
        changes += [] if change.idle else [replace(change, positions=positions)]
    start, layer = extent(changes, batch, model.site_map.depth["decoder"])
    if front:
        return Variant(index, tuple(changes), min([start, *starts]), 0, tuple(front))
    if start == layer == 0:
        return "it changes the first position in the first layer, so nothing is left of the clean run"
    return Variant(index, tuple(changes), start, layer)


def extent(changes: Sequence[Change], batch: PromptBatch, depth: int) -> tuple[int, int]:
    """The first position that changes touch, and the first layer.

    Args:
        changes: The changes; where there are none, the last position and the final norm.
        batch: The prompts.
        depth: Number of the decoder's layers.
    """
    start = min((min(row) for change in changes for row in change.positions), default=batch.n_positions - 1)
    layer = min((depth if change.site.layer is None else change.site.layer for change in changes), default=depth)
    return start, layer
