"""The part before the decoder's layers, computed again only as far as a variant changes it.

The prompts run once as far as the decoder. What every part in front of it gave is kept: the layers of the audio tower,
and the parts around them. A variant then starts at its first change: each part that was through by that moment gives
what it gave, without being computed, and the run ends where the decoder begins. A patch of the tower's last layer costs
no layer of the tower, and one of `projector_out` or `embed` none of it at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import Change
from mechaudio.tracing.record import install
from mechaudio.tracing.sites import ROOT, Site
from mechaudio.variants.plan import Sizes, Variant, extent

Embeds = Float[Tensor, "batch position d_model"]
#: What a module's output may be made of to be given again.
_REPEATABLE = (Tensor, int, float, str, type(None))


@dataclass(eq=False)
class _Calls:
    """The calls of one module in the clean run.

    Attributes:
        starts: When each began, counted in events.
        ends: When each ended.
        outputs: What each gave.
        repeatable: Whether that can be given again: what remembers, such as a cache, cannot.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    repeatable: bool = True

    def begin(self, moment: Iterator[int], served: Any) -> Any:
        """Note that a call begins."""
        self.starts.append(next(moment))
        return served

    def end(self, moment: Iterator[int], served: Any) -> None:
        """Note that a call ended, and keep what it gave."""
        self.ends.append(next(moment))
        self.outputs.append(_copy(served))
        self.repeatable &= all(isinstance(leaf, _REPEATABLE) for leaf in pytree.tree_leaves(served))

    def again(self) -> Callable[[Any], Any]:
        """Give what the module gave, call after call; copies, as the network may write into them."""
        turns = iter(self.outputs)
        return lambda _computed: _copy(next(turns))

    def over_by(self, moments: Sequence[int], in_chunks: bool) -> bool:
        """Return whether all calls had ended by the first of some moments.

        Args:
            moments: When something was there, call after call.
            in_chunks: Whether a network hears chunk after chunk, and no part remembers more than what it gave itself:
                then each of as many calls has to have ended by the moment in its chunk.
        """
        if not moments or not self.starts or len(self.ends) < len(self.starts):
            return False
        if in_chunks and len(self.ends) == len(moments):
            return all(end <= moment for end, moment in zip(self.ends, moments, strict=True))
        return self.ends[-1] <= moments[0]


class TowerReplay:
    """The run of some prompts as far as the decoder, and as some variants change it.

    Attributes:
        clean: The residual stream in front of the decoder's first layer.
    """

    def __init__(self, model: AudioLM, batch: PromptBatch, variants: Sequence[Variant]):
        """Run the prompts, and keep what these variants need."""
        self.model, self.batch = model, batch
        towers = (layers for name, layers in model.site_map.layers.items() if name != "decoder")
        ends = [sites["resid_post"].location for layers in towers for sites in layers]
        layers = [location.removeprefix(f"{ROOT}.").removesuffix(".output") for location in ends]
        whole = (*layers, model.adapter.projector, model.adapter.decoder.layers)
        inside = tuple(f"{path}." for path in whole)
        paths = [path for path, _ in model.network.named_modules() if path and not path.startswith(inside)]
        self._calls = {path: _Calls() for path in paths}
        moment = count()
        with torch.no_grad(), model.exchange.prepared(batch):
            for path, calls in self._calls.items():
                model.exchange.on_input(path, partial(calls.begin, moment))
                model.exchange.watch(f"{ROOT}.{path}.output", partial(calls.end, moment))
            self.clean = self._as_far_as_decoder()
        needed = {path for variant in variants for path in self._given(variant.early)}
        for path, calls in self._calls.items():
            if path not in needed:
                calls.outputs.clear()

    @property
    def n_bytes(self) -> int:
        """Bytes of all that is kept."""
        kept = pytree.tree_leaves([calls.outputs for calls in self._calls.values()])
        return sum(leaf.nbytes for leaf in kept if isinstance(leaf, Tensor))

    def embeds(self, changes: Sequence[Change]) -> Embeds:
        """The residual stream in front of the decoder's first layer, with these changes before it."""
        with torch.no_grad(), self.model.exchange.prepared(self.batch):
            for path in self._given(changes):
                self.model.exchange.instead_of(path, self._calls[path].again())
            install(self.model, self.batch, changes)
            return self._as_far_as_decoder()

    def followed(self, variant: Variant, n_kept: int) -> Variant | str:
        """A variant as it changes the last `n_kept` positions of the decoder, or why it has to run on its own."""
        sizes = Sizes.of(self.model, self.batch)
        embeds = self.embeds(variant.early)
        changed = (embeds != self.clean).any(-1).any(0).nonzero().flatten().tolist()
        start, layer = extent(variant.changes, sizes)
        if changed:
            variant = replace(variant, embeds=embeds[:, changed[0] :].clone())
            start, layer = min(start, changed[0]), 0
        if start == layer == 0:
            return "it changes the first position, and begins before the layers, so nothing is left of the clean run"
        if start < sizes.n_positions - n_kept:
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
        """The modules that are given again, each with all that is inside it: these changes leave them as they are."""
        sites = [change.site for change in changes]
        first = min((moments for site in sites if (moments := self._moments(site))), default=[])
        encoder = self.model.adapter.encoder
        untouched: tuple[str, ...] = ()
        if len(encoder.paths) > 1:  # of two towers side by side, one hears nothing of the other
            towers = [f"{path.rpartition('.')[0]}." for path in encoder.paths]
            untouched = tuple(tower for tower in towers if not any(tower in site.location for site in sites))
        left = {
            path
            for path, calls in self._calls.items()
            if calls.starts and calls.repeatable
            if calls.over_by(first, encoder.in_chunks) or path.startswith(untouched)
        }
        return [path for path in left if left.isdisjoint(_around(path))]

    def _moments(self, site: Site) -> list[int]:
        """When its value was there, call after call; never, in prompts without sound."""
        path, _, what = site.location.removeprefix(f"{ROOT}.").rpartition(".")
        if what == "output" and path in self._calls:
            return self._calls[path].ends
        while path not in self._calls:
            path = path.rpartition(".")[0]
        return self._calls[path].starts


def _around(path: str) -> list[str]:
    """The modules that a module lies in."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _copy(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.clone, value)
