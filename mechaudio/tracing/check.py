"""Proof that every hook point is what it is called: overwriting it moves the logits.

A hook that reads the wrong tensor, or a copy of the right one, can pass any test of shape; it cannot pass this one. And
what attention and MLP add is added: the streams are sums of them, and move by as much as they are moved.

A tower whose outputs are rounded to codes is proven in two steps, as a change may be too small for another code: its
hook points move its outputs, and its outputs move the logits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mechaudio.models.inputs import place
from mechaudio.models.probe import probe_inputs
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.replay import Replay
from mechaudio.tracing.sites import HookPointError, Site
from mechaudio.tracing.sums import Sums, keep
from mechaudio.tracing.tower_noise import without_noise

#: What attention did, not something it uses: it cannot be overwritten.
_MEASURED = "mass"


class Moved(NamedTuple):
    """The outputs that overwriting a hook point moved.

    Attributes:
        what: The logits at the last position, or what a tower's codes are rounded from.
        change: The largest change of a number in it.
    """

    what: str
    change: float


def prove_hook_points(model: AudioLM) -> None:
    """Overwrite hook points one by one and demand that the last logits move, or what codes are rounded from.

    Raises:
        HookPointError: Overwriting one changed nothing, or what attention or an MLP adds is not what is added.
    """
    for address, moved in measure_hook_points(model).items():
        if not moved.change > 0:
            raise HookPointError(
                f"overwriting {address} of this {type(model.network).__name__} does not move {moved.what}, so it is "
                "not what the name says. The adapter does not fit this network or this version of transformers; "
                "AudioLM(..., prove=False) opens it all the same"
            )


def measure_hook_points(model: AudioLM) -> dict[str, Moved]:
    """Overwrite every hook point of the last layer of each stack, one by one, on a second of noise.

    Returns:
        Per hook point, what it moved.

    Raises:
        HookPointError: The logits are not finite to begin with, the same call twice gives two answers, or what
            attention or an MLP adds is not what is added to the residual stream.
    """
    inputs = place(model.network, model.adapter, probe_inputs(model.network, model.adapter))
    sums, rounded = Sums(model), _rounded(model)
    outputs: dict[str, Tensor] = {}
    keeps = {site.location: partial(keep, outputs, site) for site in rounded.values()}
    replay = Replay(model, decoder=True)
    clean = last_logits(model, inputs, keeps=sums.reading(), prepare=replay.record)
    if not clean.isfinite().all():
        raise HookPointError(
            f"this {type(model.network).__name__} gives logits that are not finite on a second of noise, so nothing "
            "can be proven about it. Are all its weights loaded and initialised? AudioLM(..., prove=False) opens it "
            "all the same"
        )
    _refuse_randomness(model, clean, last_logits(model, inputs, keeps=keeps))
    unchanged = dict(outputs)
    sums.refuse_others()
    moved = {}
    for site in _one_layer_each(model):
        # What comes before a hook point gives again what it gave.
        before = partial(replay.give, replay.untouched([site]))
        after = last_logits(model, inputs, site, _overwrite, keeps=_together(keeps, sums.moving(site)), prepare=before)
        moved[site.address] = Moved("its logits", float((after - clean).abs().max()))
        if (output := rounded.get(site.location)) is not None and output.location != site.location:
            change = (outputs[output.location] - unchanged[output.location]).abs().max()
            moved[site.address] = Moved("what its codes are rounded from", float(change))
        sums.refuse_unmoved(site)
    return moved


def _rounded(model: AudioLM) -> dict[str, Site]:
    stacks, layers = model.site_map.stacks, model.site_map.layers
    return {
        site.location: layers[part][-1]["resid_post"]
        for part in layers
        if stacks[part] and stacks[part][-1].rounded
        for sites in layers[part]
        for site in sites.values()
    }


def _together(*keeps: Mapping[str, Callable[[Any], None]]) -> dict[str, Callable[[Any], None]]:
    """All that is kept, where several may be at a location."""
    every = {location: [each[location] for each in keeps if location in each] for each in keeps for location in each}
    return {location: lambda served, calls=calls: [call(served) for call in calls] for location, calls in every.items()}


def _refuse_randomness(model: AudioLM, first: Tensor, second: Tensor) -> None:
    """Demand that two equal calls give the same numbers, up to rounding: kernels may sum in any order."""
    rounding = max(64 * torch.finfo(torch.float32).eps, 2 * torch.finfo(model.network.dtype).eps)
    if (first - second).abs().max() > rounding * first.abs().max():
        raise HookPointError(
            f"the same call twice gives two answers: something in this {type(model.network).__name__} draws random "
            "numbers, such as a dropout that is left on. Find it and switch it off; AudioLM(..., prove=False) opens it "
            "all the same"
        )


def reading_is_exact(model: AudioLM) -> bool:
    """Return whether the logits stay the network's own, to the last bit, while every hook point of every layer is read.

    A network that was set to another attention than PyTorch's fused one differs by rounding.
    """
    inputs = place(model.network, model.adapter, probe_inputs(model.network, model.adapter))
    with torch.no_grad(), without_noise(model.network, model.adapter):
        clean = model.network(**inputs, use_cache=False).logits[:, -1].float()
    with torch.no_grad(), model.exchange.prepared(None):
        for site in model.site_map:
            if site.name != _MEASURED:
                model.exchange.watch(site.location, lambda _served: None)
        read = model.interleave("__call__", **inputs, use_cache=False).logits[:, -1].float()
    return torch.equal(read, clean)


def last_logits(
    model: AudioLM,
    inputs: dict[str, Any],
    site: Site | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
    keeps: Mapping[str, Callable[[Any], None]] | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Tensor:
    """Logits at the last position, with one site changed, and what is served at some locations shown to `keeps`.

    `prepare` asks more of the run before.
    """
    with torch.no_grad(), model.exchange.prepared(None):
        prepare()
        for location, keep in (keeps or {}).items():
            model.exchange.watch(location, keep)
        if site is not None:
            model.exchange.change(site.location, lambda served: site.swap(served, change(site.take(served))))
        return model.interleave("__call__", **inputs, use_cache=False).logits[:, -1].float()


def _overwrite(value: Tensor) -> Tensor:
    """Other numbers of the same size, as far from the old ones as those are from each other; masked entries stay so."""
    noise = torch.empty(value.shape).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0)).to(value)
    finite = value.masked_fill(value.isinf(), 0.0)
    spread = finite.float().std().to(value.dtype).clamp(min=0.1)
    return torch.where(value.isinf(), value, finite.flip(-1) + spread * noise)


def _one_layer_each(model: AudioLM) -> list[Site]:
    """Every hook point once per list of layers, in the last layer that has it: layers of a stack may differ."""
    layers = model.site_map.layers
    last = {
        (site.name, re.split(r"\.\d+\.", site.location)[0]): site
        for stack in layers.values()
        for sites in stack
        for site in sites.values()
    }
    return [site for site in (*last.values(), *model.sites.values()) if site.name != _MEASURED]
