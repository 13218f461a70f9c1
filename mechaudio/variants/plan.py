"""Which variants run together, on which prompts, and why some run one by one: worked out before anything runs.

A plan is made of numbers and of changes that are bound to prompts; it touches no network.

Conventions: rows are prompts of a batch, positions are places in a prompt. Causal attention forbids a change to reach
what comes before it, so a variant is the positions from its first change on, in the layers from its first change on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import Change
from mechaudio.tracing.hook_points import LAYER_POINTS
from mechaudio.tracing.memory import bytes_per_position, weights_bytes, widest_bytes

T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """Prompts and a network in numbers, and about what parts of their runs take, in bytes.

    Attributes:
        n_rows: Number of prompts.
        n_positions: Positions of each.
        n_layers: Layers of the decoder.
        sound: Per prompt with sound, the first position that hears it.
        keys: Keys and values of one position of one prompt, in all layers.
        prompt: All that is kept of one prompt: those of its positions, and a few residual streams.
        widest: One position of a variant in one prompt, where it takes most.
        logits: The logits of one variant on one prompt.
    """

    n_rows: int
    n_positions: int
    n_layers: int
    sound: tuple[int, ...] = ()
    keys: int = 1
    prompt: int = 1
    widest: int = 1
    logits: int = 0

    @classmethod
    def of(cls, model: AudioLM, batch: PromptBatch) -> Sizes:
        """Count them; at its widest a position has its attention weights, and what an MLP makes of it."""
        item = model.network.dtype.itemsize
        return cls(
            n_rows=batch.n_rows,
            n_positions=batch.n_positions,
            n_layers=model.site_map.depth["decoder"],
            sound=tuple(positions[0] for positions in batch.audio_positions if positions),
            keys=bytes_per_position(model),
            prompt=batch.n_positions * (bytes_per_position(model) + 4 * model.d_model * item),
            widest=weights_bytes(model, batch.n_positions) + widest_bytes(model),
            logits=batch.vocabulary * (item + 4),
        )


@dataclass(frozen=True, eq=False)
class Variant:
    """A list of interventions as it can share what comes before its first change.

    Attributes:
        index: Its place among all variants.
        changes: What it changes in the decoder, in the order given.
        start: The first position that it changes in any prompt.
        layer: The first layer that it changes something in; the number of layers for the final norm.
        early: What it changes before the decoder's layers, in the order given.
        embeds: Its last positions in front of the first layer, where that has been worked out and changes them.
        why: Why it cannot share, and has to run on its own; `None` if it can.
    """

    index: int
    changes: tuple[Change, ...] = ()
    start: int = 0
    layer: int = 0
    early: tuple[Change, ...] = ()
    embeds: Float[Tensor, "batch position d_model"] | None = None
    why: str | None = None

    def entering(self, clean: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
        """Its positions in front of its first layer, given those of the clean run."""
        if self.embeds is None:
            return clean
        return torch.cat([clean[:, : clean.shape[1] - self.embeds.shape[1]], self.embeds.to(clean.device)], dim=1)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Variants that go through the layers together, those first that begin first, each as its last positions."""

    variants: tuple[Variant, ...]
    n_positions: int

    def joined(self, layer: int) -> int:
        """Count the variants that have begun in a layer or before."""
        return bisect_right(self.variants, layer, key=lambda variant: variant.layer)

    def joining(self, layer: int) -> tuple[Variant, ...]:
        """The variants that begin in a layer."""
        return self.variants[self.joined(layer - 1) : self.joined(layer)]


def variant_of(index: int, bound: Sequence[Change], sizes: Sizes, kept: int | None = None) -> Variant:
    """A list of interventions as a variant; where the prompts ran before, that run kept the last `kept` positions."""
    early = tuple(change for change in bound if change.edit.point.part == "encoder" or change.site.name == "embed")
    changes = tuple(change for change in bound if change not in early and not change.idle)
    start, layer = extent(changes, sizes)
    if early:
        starts = (sizes.sound if change.edit.point.part == "encoder" else (change.first_position,) for change in early)
        start, layer = min([start, *chain.from_iterable(starts)]), 0
    why = next(filter(None, (_why_alone(change, sizes) for change in bound)), None)
    if why is None and start == layer == 0 and not early:
        why = "it changes the first position in the first layer, so nothing is left of the clean run"
    elif why is None and kept is not None and start < sizes.n_positions - kept:
        why = "it changes more than the last position, and a clean run keeps that one only"
    return Variant(index, changes, start, layer, early) if why is None else Variant(index, why=why)


def _why_alone(change: Change, sizes: Sizes) -> str | None:
    """Say why a variant with this change has to run on its own; `None` if it need not."""
    point = change.edit.point
    if point.part == "encoder":
        return None if change.scores is None else f"{point.name} comes before the decoder"
    if point.point not in (*LAYER_POINTS, "embed", "final_norm"):
        return f"{point.name} lies outside the layers"
    if point.point == "result":
        return "result is as wide as the residual stream for every head, and is computed for one run at a time"
    if point.point == "final_norm" and change.first_position < sizes.n_positions - 1:
        return "final_norm is changed before the last position"
    return None


def extent(changes: Sequence[Change], sizes: Sizes) -> tuple[int, int]:
    """The first position that changes in the decoder touch, and the first layer.

    Where there are none, these are the last position and the final norm.
    """
    start = min((change.first_position for change in changes), default=sizes.n_positions - 1)
    layers = (sizes.n_layers if change.site.layer is None else change.site.layer for change in changes)
    return start, min(layers, default=sizes.n_layers)


def chunks_of(
    variants: Sequence[Variant], sizes: Sizes, budget: int | float, *, cached: bool = False
) -> Iterator[Chunk]:
    """Variants that run together: alike in how many positions they need, as many as fit, early ones first."""
    alike: dict[int, list[Variant]] = defaultdict(list)
    for variant in variants:
        alike[(sizes.n_positions - variant.start - 1).bit_length()].append(variant)
    for together in alike.values():
        each = sizes.n_rows * (_widest(together, sizes) * (sizes.widest + cached * sizes.keys) + sizes.logits)
        for some in fitting(sorted(together, key=lambda variant: variant.layer), each, budget):
            yield Chunk(tuple(some), _widest(some, sizes))


def _widest(variants: Sequence[Variant], sizes: Sizes) -> int:
    """Count the positions at the end of the prompts that hold all changes of some variants."""
    return sizes.n_positions - min(variant.start for variant in variants)


def fitting(items: Iterable[T], each: int | float, budget: int | float) -> Iterator[list[T]]:
    """As many items at a time as fit into a budget, where each takes so much of it; at least one, and none ahead."""
    drawn, n = iter(items), max(1, int(budget / each))
    while some := list(islice(drawn, n)):
        yield some
