"""Proof that every hook point is what it is called: overwriting it moves the logits.

A hook that reads the wrong tensor, or a copy of the right one, can pass any test of shape; it cannot pass this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechaudio.models.probe import probe_inputs
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.sites import Site

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

#: Read only, or not a tensor of its own.
_NOT_EDITED = ("mass",)


def prove_hook_points(model: AudioLM) -> dict[str, float]:
    """Overwrite every hook point of one layer of each stack, one by one, and look at the last logits.

    Args:
        model: The opened model.

    Returns:
        Per hook point, the largest change of a logit.

    Raises:
        HookPointError: Overwriting a hook point changed nothing.
    """
    from mechaudio.tracing.audio_lm import HookPointError  # audio_lm proves itself with this module

    inputs = probe_inputs(model.network, model.adapter)
    clean = last_logits(model, inputs)
    if not clean.isfinite().all():
        raise HookPointError(
            f"this {type(model.network).__name__} gives logits that are not finite on a second of noise, so nothing "
            f"can be proven about it. "
            "Are all its weights loaded and initialised? AudioLM(..., prove=False) opens it all the same"
        )
    moved = {}
    for site in _one_layer_each(model):
        after = last_logits(model, inputs, site, _overwrite)
        moved[site.address] = float((after - clean).abs().max())
        if not moved[site.address] > 0:
            raise HookPointError(
                f"overwriting {site.address} of this {type(model.network).__name__} does not move its logits, so it is "
                f"not what the name "
                "says. The adapter does not fit this network or this version of transformers; AudioLM(..., "
                "prove=False) opens it all the same"
            )
    return moved


def last_logits(
    model: AudioLM,
    inputs: dict[str, Any],
    site: Site | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Logits at the last position, with one site changed."""
    if site is not None:
        model.exchange.edits[site.location] = [lambda served: site.swap(served, change(site.take(served)))]
    with torch.no_grad():
        return model.interleave("__call__", **inputs, use_cache=False).logits[:, -1].float()


def _overwrite(value: Tensor) -> Tensor:
    """Other numbers of the same size, as far from the old ones as those are from each other; masked entries stay so."""
    noise = torch.empty(value.shape).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0)).to(value)
    finite = value.masked_fill(value.isinf(), 0.0)
    spread = finite.float().std().to(value.dtype).clamp(min=0.1)
    return torch.where(value.isinf(), value, finite.flip(-1) + spread * noise)


def _one_layer_each(model: AudioLM) -> list[Site]:
    """Every hook point once, in the last layer that has it: layers of a stack may differ."""
    layers = model.site_map.layers
    last = {site.name: site for part in ("encoder", "decoder") for sites in layers[part] for site in sites.values()}
    return [site for site in (*last.values(), *model.sites.values()) if HookPoint(site.name).point not in _NOT_EDITED]
