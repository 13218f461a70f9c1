"""The part before the decoder's layers, computed again only as far as a variant changes it.

The prompts run once as far as the decoder. What every part in front of it gave is kept: the layers of the audio tower,
and the parts around them. A variant then starts at its first change: each part that was through by that moment gives
what it gave, without being computed, and the run ends where the decoder begins. A patch of the tower's last layer costs
no layer of the tower, and one of `projector_out` or `embed` none of it at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import Change
from mechaudio.tracing.record import install
from mechaudio.tracing.replay import Replay
from mechaudio.variants.plan import Sizes, Variant, extent

Embeds = Float[Tensor, "batch position d_model"]


class TowerReplay(Replay):
    """The run of some prompts as far as the decoder, and as some variants change it.

    Attributes:
        clean: The residual stream in front of the decoder's first layer.
    """

    def __init__(self, model: AudioLM, batch: PromptBatch, variants: Sequence[Variant]):
        """Run the prompts, and keep what these variants need."""
        super().__init__(model)
        self.batch, self._sizes = batch, Sizes.of(model, batch)
        with torch.no_grad(), model.exchange.prepared(batch):
            self.record()
            self.clean = self._as_far_as_decoder()
        self.forget_all_but({path for variant in variants for path in self._given(variant.early)})

    def embeds(self, changes: Sequence[Change]) -> Embeds:
        """The residual stream in front of the decoder's first layer, with these changes before it."""
        with torch.no_grad(), self.model.exchange.prepared(self.batch):
            self.give(self._given(changes))
            install(self.model, self.batch, changes)
            return self._as_far_as_decoder()

    def followed(self, variant: Variant, n_kept: int) -> Variant | str:
        """A variant as it changes the last `n_kept` positions of the decoder, or why it has to run on its own."""
        embeds = self.embeds(variant.early)
        changed = (embeds != self.clean).any(-1).any(0).nonzero().flatten().tolist()
        start, layer = extent(variant.changes, self._sizes)
        if changed:
            variant = replace(variant, embeds=embeds[:, changed[0] :].clone())
            start, layer = min(start, changed[0]), 0
        if start == layer == 0:
            return "it changes the first position, and begins before the layers, so nothing is left of the clean run"
        if start < self._sizes.n_positions - n_kept:
            return "it changes positions in front of those that it edits"
        return replace(variant, start=start, layer=layer)

    def _as_far_as_decoder(self) -> Embeds:
        site, kept = self.model.site_map.layers["decoder"][0]["resid_pre"], []

        def keep(served: Any) -> None:
            kept.append(site.take(served))
            self.model.exchange.stop()

        self.model.exchange.watch(site.location, keep)
        self.model.interleave("__call__", **self.batch.inputs, use_cache=False)
        return kept[0]

    def _given(self, changes: Sequence[Change]) -> list[str]:
        return self.untouched([change.site for change in changes])
