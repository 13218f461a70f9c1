"""Proof that `attn_out` and `mlp_out` are what is added to the residual stream, in every class.

Where a layer does nothing but add, each stream is the one before it plus what was added, in every layer. Where it does
more (a conformer's convolution between attention and the second feed-forward), the stream right behind an addition
still moves by as much as what is added is moved: no factor and no norm lies between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mechaudio.models.adapter import Stack
from mechaudio.models.stack import Between
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.sites import HookPointError, Site, closing_site

_REMEDY = (
    "the adapter has to say what stands between them (`attention_norm`, `mlp_norm`, `attention_times`, `mlp_times`, "
    "`between`, `end`), or does not fit this network or this version of transformers; AudioLM(..., prove=False) opens "
    "it all the same"
)
#: The stream before an addition, what is added, and where a layer may do more to the stream than add.
_ADDITIONS: tuple[tuple[str, str, Between], ...] = (
    ("resid_pre", "attn_out", "attention"),
    ("resid_mid", "mlp_out", "mlp"),
)


class Sums:
    """The additions of one network, as they are while nothing is changed."""

    def __init__(self, model: AudioLM):
        """Args: model: the opened model."""
        self.model = model
        self._clean: dict[str, Tensor] = {}
        self._moved: dict[str, Tensor] = {}
        self._additions = [
            addition
            for part in model.site_map.depth
            for layer in range(model.site_map.depth[part])
            for addition in _additions(model, part, layer)
        ]

    def reading(self) -> dict[str, Callable[[Any], None]]:
        """Keeps for a run in which nothing is changed."""
        sites = [site for before, _, *others in self._additions for site in (before, *others) if site is not None]
        return {site.location: partial(keep, self._clean, site) for site in sites}

    def moving(self, site: Site) -> dict[str, Callable[[Any], None]]:
        """Keeps for a run in which this hook point is changed; none if it is not what something adds."""
        return {
            shown.location: partial(keep, self._moved, shown)
            for *_, added, behind in self._additions
            if added.location == site.location
            for shown in (added, behind)
        }

    def refuse_others(self) -> None:
        """Demand that streams are sums, wherever layers do nothing but add.

        Raises:
            HookPointError: One of them is something else.
        """
        for before, kept, added, behind in self._additions:
            if before is None or not self._reached(self._clean, added, behind):
                continue
            parts = [self._clean[site.location] for site in (before, added, behind)]
            if not _near((kept * parts[0], parts[1]), (parts[2],), self.model.network.dtype):
                raise HookPointError(
                    f"{behind.address} of this {type(self.model.network).__name__} is not {before.address} plus "
                    f"{added.address}: {_REMEDY}"
                )

    def refuse_unmoved(self, site: Site) -> None:
        """Demand that the stream behind an addition was moved by as much as what is added, in the last run.

        Raises:
            HookPointError: It was moved by something else.
        """
        for *_, added, behind in self._additions:
            if added.location != site.location or not self._reached(self._moved, added, behind):
                continue
            before, after = ([kept[shown.location] for shown in (added, behind)] for kept in (self._clean, self._moved))
            if not _near((after[0], before[1]), (before[0], after[1]), self.model.network.dtype):
                raise HookPointError(
                    f"adding to {added.address} of this {type(self.model.network).__name__} moves the residual stream "
                    f"by something else, so it is not what is added: {_REMEDY}"
                )

    @staticmethod
    def _reached(kept: dict[str, Tensor], *sites: Site) -> bool:
        """Return whether a run came by; where it does not, overwriting moves nothing, and that is refused."""
        return all(site.location in kept for site in sites)


def keep(kept: dict[str, Tensor], site: Site, served: Any) -> None:
    """Put what is served at a hook point into a table by its location."""
    kept[site.location] = site.take(served).float().cpu().clone()


def _additions(model: AudioLM, part: str, layer: int) -> Iterator[tuple[Site | None, float | Tensor, Site, Site]]:
    """The stream in front, `None` where more lies between; its multiplier; what is added; and the stream behind."""
    sites = model.site_map.layers[part][layer]
    stack = model.site_map.stacks[part][layer]
    for before, added, gap in _ADDITIONS:
        if added in sites:
            first = added == "attn_out" and "resid_mid" in sites
            behind = sites["resid_mid"] if first else _end(model, stack, part, layer)
            kept = stack.keeps(gap, model.network, layer)
            more = gap in stack.between and gap not in stack.gates
            yield None if more else sites.get(before, sites["resid_pre"]), _as_kept(kept), sites[added], behind


def _as_kept(number: float | Tensor) -> float | Tensor:
    """Turn a number into what `keep` makes of the streams that it is multiplied with."""
    return number.float().cpu() if isinstance(number, Tensor) else number


def _end(model: AudioLM, stack: Stack, part: str, layer: int) -> Site:
    """The stream right behind what the MLP added."""
    after = model.site_map.layers[part][layer]["resid_post"]
    if stack.end is None:
        return after
    inside = model.network.get_submodule(stack.path(layer))
    if stack.end.scaled_by is None or stack.end.closing in dict(inside.named_modules()):
        return closing_site(stack, stack.end, after.name, layer)
    scale = getattr(inside, stack.end.scaled_by)
    return replace(after, take=lambda served: after.take(served) / scale)


def _near(terms: Sequence[Tensor], others: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Return whether both have the same sum, up to the rounding of their terms."""
    every = [*terms, *others]
    if len({term.shape for term in every}) > 1:
        return False
    whole = torch.stack(every)
    rounding = max(64 * torch.finfo(torch.float32).eps, 2 * torch.finfo(dtype).eps)
    finite = whole.isfinite().all(0)
    return bool(((sum(terms) - sum(others)).abs() <= rounding * whole.abs().sum(0))[finite].all())
