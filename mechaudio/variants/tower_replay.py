"""The part before the decoder's layers, computed again only as far as a variant changes it.

The prompts run once as far as the decoder. What every part in front of it gave is kept: the layers of the audio tower,
and the parts around them. A variant then starts at its first change: each part that was through by that moment gives
what it gave, without being computed, and the run ends where the decoder begins. A patch of the tower's last layer costs
no layer of the tower, and one of `projector_out` or `embed` none of it at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import Change
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import install, register
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

    def followed(self, variant: Variant, n_kept: int) -> Variant:
        """A variant as it changes the decoder, whose last `n_kept` positions can be changed."""
        embeds = self.embeds(variant.early)
        changed = (embeds != self.clean).any(-1).any(0).nonzero().flatten().tolist()
        start, layer = extent(variant.changes, self._sizes)
        if changed:
            variant = replace(variant, embeds=embeds[:, changed[0] :].clone())
            start, layer = min(start, changed[0]), 0
        why = None
        if start == layer == 0:
            why = "it changes the first position, and begins before the layers, so nothing is left of the clean run"
        elif start < self._sizes.n_positions - n_kept:
            why = "it changes positions in front of those that it edits"
        return replace(variant, start=start, layer=layer, why=why)

    def _as_far_as_decoder(self) -> Embeds:
        cache = Cache(self.model.site_map.depth)
        first = HookPoint("resid_pre", layers=[0])
        register(self.model, self.batch, [first], (), lambda: cache, stop_after_last=True)
        self.model.interleave("__call__", **self.batch.inputs, use_cache=False)
        return cache["resid_pre", 0]

    def _given(self, changes: Sequence[Change]) -> list[str]:
        return self.untouched([change.site for change in changes])
