"""Effects of interventions on attention.

Multiplying a score is not a matter of attention alone: the softmax forgets a constant that is added to all scores of a
row, multiplying does not, and a negative score that is multiplied by more than one falls. So whoever scales needs to
know the sign and the mean of the scores that were scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechaudio.results import keep, kept_or_written
from mechaudio.showing import Shown
from mechaudio.tracing.score_edit import Way

if TYPE_CHECKING:
    from mechaudio.tracing.edit import Intervention

Measured = Float[Tensor, "batch head"]


@dataclass(frozen=True, eq=False)
class Effect:
    """An intervention's effect on the attention of one layer, in the mean over the query rows that it changed.

    Where it changed all query rows, that of the last row.

    Attributes:
        layer: The layer.
        way: How attention was computed: `scaled keys`, `extra columns` and `mask` are fused attention; `rows` computes
            the changed query rows beside it, `whole` the layer's score matrix.
        mass_before: Share of attention on its keys before.
        mass_after: The same after.
        score_mean: Mean score of its keys before, of those that a row sees.
        score_negative: Share of these scores that are below zero.
    """

    layer: int
    way: Way
    mass_before: Measured
    mass_after: Measured
    score_mean: Measured
    score_negative: Measured

    @classmethod
    def measure(
        cls,
        layer: int,
        way: Way,
        before: Float[Tensor, "batch head row key"],
        after: Float[Tensor, "batch head row key"],
        chosen: Bool[Tensor, "batch key"],
        active: Bool[Tensor, "batch row"],
    ) -> Effect:
        """Compare scores, `-inf` where a key is masked, before and after an edit of the chosen keys in some rows."""
        keys, rows = chosen[:, None, None], active[:, None, :]
        n_rows = rows.sum(-1).clamp(min=1)
        seen = keys & before.isfinite()
        n_seen = (seen & rows[..., None]).sum((2, 3)).clamp(min=1)

        def mass(scores: Tensor) -> Tensor:
            return ((_weights(scores) * keys).sum(-1) * rows).sum(-1) / n_rows

        used = before.float().masked_fill(~(seen & rows[..., None]), 0.0)
        return cls(
            layer, way, mass(before), mass(after), used.sum((2, 3)) / n_seen, (used < 0).float().sum((2, 3)) / n_seen
        )


class Shares:
    """The share of attention on the keys that variants of a run change, in the mean over what each of them changes."""

    def __init__(self, n_rows: int, n_variants: int, device: torch.device):
        """Begin with nothing measured, for so many prompts and variants."""
        self._sums = torch.zeros(2, n_rows, n_variants, device=device)
        self._counts = [0] * n_variants

    def add(
        self,
        places: Sequence[int],
        index: Any,
        scores: Float[Tensor, "2 batch head variant query key"],
        share: Float[Tensor, "batch head 1 query key"],
        *,
        blind: bool,
    ) -> None:
        """Measure one change of some variants.

        Args:
            places: Which variants.
            index: The same as an index.
            scores: Theirs, before and after, `-inf` where a key is masked.
            share: What weights are multiplied with: with the chosen keys, it sums to one over queries and heads.
            blind: Whether a query may see no key.
        """
        shares = (_weights(scores, blind=blind) * share).sum((2, 4, 5))
        self._sums[:, :, index] += shares.to(self._sums.device)
        for place in places:
            self._counts[place] += 1

    def mean(self) -> Float[Tensor, "2 batch variant"]:
        """Before and after; `nan` where nothing was measured."""
        return self._sums.cpu() / torch.tensor(self._counts)


def _weights(scores: Float[Tensor, "*axes key"], *, blind: bool = True) -> Float[Tensor, "*axes key"]:
    """Attention weights; `blind` queries may see no key, and give no attention then."""
    weights = scores.softmax(-1, dtype=torch.float32)
    return weights.nan_to_num(0.0) if blind else weights


@dataclass(frozen=True, eq=False)
class Effects(Shown):
    """The effects of one intervention on attention, layer by layer.

    Attributes:
        intervention: The intervention.
        layers: The layers that it acts in: none, if it leaves every score as it is.
        ways: How attention was computed in each of them.
        mass_before: Share of attention on its keys without it: of each query row that it changes, their mean; of the
            last row, if it changes all.
        mass_after: The same with it.
        score_mean: Mean score of its keys before it.
        score_negative: Share of these scores that are below zero: a factor above one lowers the attention on these.
    """

    intervention: Intervention | str
    layers: tuple[int, ...]
    ways: tuple[Way, ...]
    mass_before: Float[Tensor, "layer batch head"]
    mass_after: Float[Tensor, "layer batch head"]
    score_mean: Float[Tensor, "layer batch head"]
    score_negative: Float[Tensor, "layer batch head"]

    @classmethod
    def of(cls, intervention: Intervention, effects: Sequence[Effect], size: tuple[int, int]) -> Effects:
        """Put layers together; `size` is the number of prompts and of heads."""
        ordered = sorted(effects, key=lambda effect: effect.layer)
        names = ("mass_before", "mass_after", "score_mean", "score_negative")
        stacked = {
            name: torch.stack([getattr(effect, name).cpu() for effect in ordered]) if ordered else torch.zeros(0, *size)
            for name in names
        }
        return cls(
            intervention,
            tuple(effect.layer for effect in ordered),
            tuple(effect.way for effect in ordered),
            **stacked,
        )

    def shares(self) -> Float[Tensor, "2 layer batch"]:
        """The mass before and after, in the mean over the heads that the intervention acts in."""
        heads = list(getattr(self.intervention, "heads", None) or range(self.mass_before.shape[2]))
        return torch.stack([mass[:, :, heads].mean(2) for mass in (self.mass_before, self.mass_after)])

    def _as_kept(self) -> Effects:
        """Write an intervention that holds a function as its text."""
        return replace(self, intervention=kept_or_written(self.intervention))

    def __str__(self) -> str:
        """A table of means over prompts and heads, one line a layer."""
        lines = [f"{self.intervention}", "layer  mass before -> after  mean score  below zero  way"]
        for index, (layer, way) in enumerate(zip(self.layers, self.ways, strict=True)):
            before, after, mean, negative = (
                float(value[index].mean())
                for value in (self.mass_before, self.mass_after, self.score_mean, self.score_negative)
            )
            lines.append(f"{layer:5}  {before:11.3f} -> {after:.3f}  {mean:10.2f}  {negative:10.0%}  {way}")
        return "\n".join(lines)


keep(Effects)
