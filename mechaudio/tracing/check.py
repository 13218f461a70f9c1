"""Proof that every hook point is what it is called: overwriting it moves the logits.

A hook that reads the wrong tensor, or a copy of the right one, can pass any test of shape; it cannot pass this one.
With nothing changed, the logits are those that the network gives by itself, and the last stream read out.

`attn_out` and `mlp_out` are what is added to the residual stream. Where a layer does nothing but add, each stream is
the one before it plus what was added, in every layer. Where it does more (a conformer's convolution between attention
and the second feed-forward), the stream right behind an addition still moves by as much as what is added is moved: no
factor and no norm lies between.

A tower whose outputs are rounded to codes is proven in two steps, as a change may be too small for another code: its
hook points move its outputs, and its outputs move the logits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mechaudio.models.adapter import Stack
from mechaudio.models.inputs import place
from mechaudio.models.probe import probe_inputs
from mechaudio.models.stack import Between
from mechaudio.notices import warn
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.replay import Replay
from mechaudio.tracing.sites import HookPointError, Site, closing_site
from mechaudio.tracing.tower_noise import without_noise
from mechaudio.tracing.unembedding import has_several_streams, read_out

#: What attention did, not something it uses: it cannot be overwritten.
_MEASURED = "mass"
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

    Warns:
        UserWarning: The network is set to another attention than SDPA, and gives other logits by itself.

    Raises:
        HookPointError: The logits are not finite to begin with, not those that the network gives by itself, or not the
            last residual stream read out; the same call twice gives two answers; or what attention or an MLP adds is
            not what is added to the residual stream.
    """
    inputs = place(model.network, model.adapter, probe_inputs(model.network, model.adapter))
    sums, rounded = Sums(model), _rounded(model)
    outputs: dict[str, Tensor] = {}
    keeps = {site.location: partial(keep, outputs, site) for site in rounded.values()}
    replay = Replay(model, decoder=True)
    last, final = model.site_map.layers["decoder"][-1]["resid_post"], list[Tensor]()
    seeing = {last.location: lambda served: final.append(last.take(served)[:, -1:].clone())}
    clean = last_logits(model, inputs, keeps=_together(sums.reading(), keeps, seeing), prepare=replay.record)
    if not clean.isfinite().all():
        raise HookPointError(
            f"this {type(model.network).__name__} gives logits that are not finite on a second of noise, so nothing "
            "can be proven about it. Are all its weights loaded and initialised? AudioLM(..., prove=False) opens it "
            "all the same"
        )
    _refuse_other_numbers(model, clean, own_logits(model, inputs), again=partial(last_logits, model, inputs))
    if final:  # a hook point that no run comes by moves nothing, and is refused below
        _refuse_another_last_step(model, clean, final[-1])
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


def _together(*keeps: Mapping[str, Callable[[Any], None]]) -> dict[str, Callable[[Any], Any]]:
    """All that is kept, where several may be at a location."""
    every = {location: [each[location] for each in keeps if location in each] for each in keeps for location in each}
    return {location: lambda served, calls=calls: [call(served) for call in calls] for location, calls in every.items()}


def _refuse_other_numbers(model: AudioLM, clean: Tensor, own: Tensor, again: Callable[[], Tensor]) -> None:
    """Demand the numbers that the network gives by itself, and gives again, up to rounding: kernels sum in any order.

    Attention that is not PyTorch's fused one gives nearly the same. In a network where rounding grows from layer to
    layer it need not, and the user is told.
    """
    rounding = _rounding(model.network.dtype) * clean.abs().max()
    if (clean - own).abs().max() <= rounding:  # not so of a NaN
        return
    if (clean - again()).abs().max() > rounding:
        raise HookPointError(
            f"the same call twice gives two answers: something in this {type(model.network).__name__} draws random "
            "numbers, such as a dropout that is left on. Find it and switch it off; AudioLM(..., prove=False) opens it "
            "all the same"
        )
    if _nearly(clean, own, model.network.dtype):
        return
    apart = f"{(clean - own).abs().max():.3g}, where the largest is {own.abs().max():.3g}"
    attends = _attends_otherwise(model)
    if attends is None:
        raise HookPointError(
            f"this {type(model.network).__name__} gives other logits by itself than with its hook points: they differ "
            f"by {apart}. With them attention is computed as PyTorch's fused attention computes it, and something in "
            "this network is not, or asks which it is. AudioLM(..., prove=False) opens it all the same"
        )
    warn(
        f"this {type(model.network).__name__} is set to attention of the kind {attends!r}, and everything that "
        f"mechaudio runs gives the logits of 'sdpa': they differ by {apart}. To have them by itself, too: "
        "network.set_attn_implementation('sdpa')"
    )


def _attends_otherwise(model: AudioLM) -> str | None:
    """The implementation of attention that the network was set to, if that is not SDPA and every part has SDPA too."""
    configs = {id(config): config for config, _ in model._configs}
    parts = [part for part in model.network.modules() if isinstance(part, PreTrainedModel)]
    if not all(part._supports_sdpa for part in parts if id(part.config) in configs):
        return None
    return min({config._attn_implementation for config in configs.values()} - {"sdpa"}, default=None)


def _refuse_another_last_step(model: AudioLM, clean: Tensor, final: Tensor) -> None:
    """Demand that the logits are the last stream, read out as lenses and direct attribution read it."""
    if has_several_streams(model):
        return
    with torch.no_grad():
        said = read_out(model, final)[:, -1].to(clean)
    if not _nearly(said, clean, model.network.dtype):
        raise HookPointError(
            f"the logits of this {type(model.network).__name__} are not its last residual stream behind the final norm "
            f"and the unembedding: they differ by {(said - clean).abs().max():.3g}, and the largest is "
            f"{clean.abs().max():.3g}. The adapter has to say what else is done to them (`logits`), or names another "
            "norm or unembedding than the network's; AudioLM(..., prove=False) opens it all the same"
        )


def _nearly(some: Tensor, others: Tensor, dtype: torch.dtype) -> bool:
    """Return whether they differ by no more than other kernels and shapes make logits differ."""
    near = max(1e-3, 16 * torch.finfo(dtype).eps) * others.abs().max()
    return bool((some - others).abs().max() <= near)


def reading_is_exact(model: AudioLM) -> bool:
    """Return whether the logits stay the network's own, to the last bit, while every hook point of every layer is read.

    A network that was set to another attention than PyTorch's fused one differs by rounding.
    """
    inputs = place(model.network, model.adapter, probe_inputs(model.network, model.adapter))
    own = own_logits(model, inputs)
    with torch.no_grad(), model.exchange.prepared(None):
        for site in model.site_map:
            if site.name != _MEASURED:
                model.exchange.watch(site.location, lambda _served: None)
        read = model.interleave("__call__", **inputs, use_cache=False).logits[:, -1].float()
    return torch.equal(read, own)


def own_logits(model: AudioLM, inputs: dict[str, Any]) -> Tensor:
    """Logits at the last position that the network gives by itself, without a hook point."""
    with torch.no_grad(), without_noise(model.network, model.adapter):
        return model.network(**inputs, use_cache=False).logits[:, -1].float()


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
        for location, see in (keeps or {}).items():
            model.exchange.watch(location, see)
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
            kept = kept.float().cpu() if isinstance(kept, Tensor) else kept  # as `keep` has the streams
            more = gap in stack.between and gap not in stack.gates
            yield None if more else sites.get(before, sites["resid_pre"]), kept, sites[added], behind


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


def _rounding(dtype: torch.dtype) -> float:
    """By what share of them equal sums of numbers of a type may differ, as kernels add in any order."""
    return max(64 * torch.finfo(torch.float32).eps, 2 * torch.finfo(dtype).eps)


def _near(terms: Sequence[Tensor], others: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Return whether both have the same sum, up to the rounding of their terms."""
    every = [*terms, *others]
    if len({term.shape for term in every}) > 1:
        return False
    whole = torch.stack(every)
    finite = whole.isfinite().all(0)
    return bool(((sum(terms) - sum(others)).abs() <= _rounding(dtype) * whole.abs().sum(0))[finite].all())
