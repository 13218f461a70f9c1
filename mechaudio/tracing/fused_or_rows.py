"""The attention function that serves the insides of attention to a trace, and is fused attention where nobody asks.

It is registered with transformers under two names, in the table of attention functions and in the table of mask
functions (with the first alone, transformers builds no masks at all, silently). A network uses it only while one of our
traces runs; `serving` switches the network's configs over and back.

What a layer computes depends on what is asked of it in this very run:

1. nothing: PyTorch's fused attention, bit for bit what the network does alone; with edits of scores that hold for
every query row and that fused attention can express, the same call with other keys (`score_edit`);
2. `mass`: the same call, and the sums of weights of groups of keys beside it (`mass`);
3. chosen query rows: the same call, and `rows x keys` scores beside it;
4. `scores` or `pattern` whole: the `query x key` matrix, in this layer only.

Reading leaves the output as it was, to the last bit, on every machine: it comes from the call that the network makes
alone, of the same shapes, and is kept for every row that nobody changed; only changed rows are computed from the edited
weights. Masked keys keep weight zero whatever is done to their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from mechaudio.tracing.attention_call import Call, View, by_key_heads, unchanged
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.mass import KeyGroups, fused_width, mixed_and_mass
from mechaudio.tracing.requests import RowRequest
from mechaudio.tracing.score_edit import Fused
from mechaudio.tracing.sites import HookPointError
from mechaudio.tracing.turns import changed_for_runs

#: For stacks with a batch axis, and for packed ones: transformers hands over a packed stack in one call only if the
#: name says `flash`.
BATCHED, PACKED = "mechaudio", "mechaudio_packed_flash"

#: Attention module -> where its insides are served, while a trace runs.
_SERVED: dict[nn.Module, Spot] = {}


@dataclass
class Spot:
    """One attention module during one run."""

    exchange: Exchange
    location: str

    def wants(self, point: str) -> bool:
        """Return whether this run reads or edits the hook point here."""
        return self.exchange.wanted(f"{self.location}.{point}")

    def written(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> tuple[Call, Tensor, Tensor, Tensor]:
        """The call without the empty places of a static cache, which come behind all that was written so far."""
        exchange = self.exchange
        if exchange.batch is None or not self.location.startswith(exchange.decoder.removesuffix("input")):
            return call, query, key, value
        n_keys = max(exchange.batch.n_positions + exchange.step, query.shape[2])
        if key.shape[2] <= n_keys:
            return call, query, key, value
        mask = None if call.mask is None else call.mask[..., :n_keys]
        return replace(call, mask=mask), query, key[:, :, :n_keys], value[:, :, :n_keys]

    def view(self, request: RowRequest | None, call: Call, query: Tensor, key: Tensor) -> View | None:
        """The query rows of a request, of all for None, and what they may see; `None` where the call has none of them.

        Layers in a row mostly have one mask, which is looked at once.
        """
        exchange, sizes = self.exchange, (query.shape[0], query.shape[2])
        rows_of = None if request is None else (request.last, request.n_positions, request.positions.numpy().tobytes())
        before, of = exchange.views.get(rows_of), (exchange.step, query.device, *sizes, *call.sees(key.shape[2]))
        if before is not None and unchanged(before[0], of):
            return before[1]
        rows = torch.arange(sizes[1], device=query.device).expand(sizes)
        if request is not None:
            rows = request.among(*sizes, query.device, exchange.step)
        if rows is None:
            return None
        view = call.view(rows, key.shape[2], sizes[1])
        exchange.views[rows_of] = of, view  # of the newest call alone: a generation has many
        return view

    def give(self, point: str, value: Tensor) -> Tensor:
        """Serve the value; what comes back goes on through the network."""
        return self.exchange.handle(f"{self.location}.{point}", value)


@contextmanager
def serving(
    exchange: Exchange, modules: Sequence[tuple[nn.Module, str]], configs: Sequence[tuple[object, str]]
) -> Iterator[None]:
    """Let these attention modules serve their insides, and leave everything as it was afterwards.

    Args:
        exchange: Who is served.
        modules: Attention modules and their locations.
        configs: Config objects that the modules read their attention implementation from, and the name to put there.
    """
    with ExitStack() as stack:
        for config, name in configs:
            stack.enter_context(changed_for_runs(id(config), partial(_switch, config, name)))
        try:
            for module, location in modules:
                _SERVED[module] = Spot(exchange, location)
            yield
        finally:
            for module, _ in modules:
                _SERVED.pop(module, None)


def _switch(config: Any, name: str) -> Callable[[], None]:
    """Have a config name another attention implementation. Networks that run in several threads may share one."""
    before = config._attn_implementation_internal
    config._attn_implementation_internal = name
    return partial(setattr, config, "_attn_implementation_internal", before)


#: Keywords of attention that change its weights, and what they bring; scores and patterns would not show them.
_OTHER_WEIGHTS = {"s_aux": "sinks", "softcap": "a cap of its scores", "position_bias": "a bias of positions"}


def attention(
    module: nn.Module,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: object,
) -> tuple[Float[Tensor, "batch query head d_value"], None]:
    """Attention as transformers calls it.

    Raises:
        HookPointError: It has something that changes its weights and cannot be served.
    """
    for keyword, what in _OTHER_WEIGHTS.items():
        if kwargs.get(keyword) is not None:
            raise HookPointError(
                f"the attention of {type(module).__name__} has {what} (`{keyword}`), which mechaudio does not serve: "
                "scores and patterns would not be those that the network uses. No network with such attention can be "
                "read or edited"
            )
    windows, chosen = kwargs.pop("cu_seq_lens_q", None), kwargs.pop("indices", None)
    if isinstance(chosen, Tensor) and attention_mask is not None:  # the keys that each query row may see, by number
        among = torch.zeros_like(attention_mask[:, :1], dtype=torch.bool).scatter(-1, chosen[:, None].long(), True)
        attention_mask = attention_mask & among
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    call = Call(module, attention_mask, windows, dropout, scaling, bool(causal), kwargs)
    spot = _SERVED.get(module)
    if spot is None:
        return call.fused(query, key, value), None
    return serve_all(spot, *spot.written(call, query, key, value)), None


def serve_all(
    spot: Spot,
    call: Call,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
) -> Float[Tensor, "batch query head d_value"]:
    """Attend, and serve everything on the way: queries, keys and values first, the heads' outputs last."""
    query, key, value = spot.give("q", query), spot.give("k", key), spot.give("v", value)
    request = spot.exchange.asked_of(spot.location)
    for see in request.watchers:
        see(call, query, key, value)
    if request.instead:
        return spot.give("z", request.instead[-1](call, query, key, value))
    return serve_weights(spot, call, query, key, value)


def serve_weights(
    spot: Spot,
    call: Call,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
) -> Float[Tensor, "batch query head d_value"]:
    """Attend, and serve what lies between queries, keys and values and the heads' outputs, which are served last."""
    d_value = value.shape[-1]
    if spot.exchange.asked_of(spot.location).score_edits:
        call, query, key, value = _with_score_edits(spot, call, query, key, value)
    if spot.wants("mass"):
        (groups,) = spot.exchange.asked_of(spot.location).groups
        mixed = Mixed(*mixed_and_mass(call, query, key, value, groups, spot.exchange.step), groups)
    else:
        mixed = Mixed(call.fused(query, key, value))
    whole = None
    if spot.wants("scores") or spot.wants("pattern"):
        view = spot.view(None, call, query, key)
        assert view is not None, "a call has all of its rows"
        mixed, whole = _explicit(spot, "", view, call, query, key, value, mixed)
    served: set[str] = set()
    while (request := _next_request(spot, served)) is not None:  # a block may ask for further rows while it is served
        served.add(request.name)
        if spot.wants(f"{request.name}.scores") or spot.wants(f"{request.name}.pattern"):
            view = spot.view(request, call, query, key)
            if view is not None:
                mixed, _ = _explicit(spot, request.name, view, call, query, key, value, mixed, whole)
    if mixed.mass is not None:
        spot.give("mass", mixed.mass)
    return spot.give("z", mixed.out if mixed.out.shape[-1] == d_value else mixed.out[..., :d_value].contiguous())


def _with_score_edits(
    spot: Spot, call: Call, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Call, Tensor, Tensor, Tensor]:
    """Queries, keys, values and a mask with which attention gives the edited scores in every row."""
    step, batch, n_queries = spot.exchange.step, query.shape[0], query.shape[2]
    fused = Fused(query, key)
    last = call.allowed(torch.full((batch, 1), n_queries - 1, device=query.device), key.shape[2], n_queries)
    for bound, report in spot.exchange.asked_of(spot.location).score_edits:
        if step > 0 and not bound.edit.every_step:
            continue
        before = fused
        fused, way = fused.then(bound, call.scaling, step)
        if step <= 0:
            report(way, before.scores(last, call.scaling), fused.scores(last, call.scaling))
    if fused.blocked is not None:
        call = call.without(fused.blocked, n_queries, key.shape[2])
    width = fused_width(fused.query.shape[-1], query)
    grown = (F.pad(part, (0, width - part.shape[-1])) for part in (fused.query, fused.key, value))
    return call, *grown


@dataclass(frozen=True)
class Mixed:
    """The values as attention mixes them, and the masses of groups of keys where they are measured."""

    out: Float[Tensor, "batch query head d_head"]
    mass: Float[Tensor, "batch head query group"] | None = None
    groups: KeyGroups | None = None


def _next_request(spot: Spot, served: set[str]) -> RowRequest | None:
    requests = spot.exchange.asked_of(spot.location).queries
    return next((request for name, request in requests.items() if name not in served), None)


def _explicit(
    spot: Spot,
    where: str,
    view: View,
    call: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mixed: Mixed,
    whole: tuple[Tensor, Tensor] | None = None,
) -> tuple[Mixed, tuple[Tensor, Tensor] | None]:
    """Serve scores and pattern of these query rows, and put the rows that were changed into the output so far.

    `where` is the name of the rows, `""` for all of them. `whole` are scores and pattern of all rows, if those were
    served before: then these rows are the rows of those. The scores and pattern that were served are returned, too.
    """
    prefix, everything = f"{where}." if where else "", not where
    index = repeat(view.rows, "batch row -> batch head row d", head=query.shape[1], d=query.shape[3])
    queries = query if everything else query.gather(2, index)
    so_far = partial(_scores_and_pattern, view, call, queries, key, whole)
    scores, pattern = so_far()
    edited = False
    if spot.wants(f"{prefix}scores"):
        served, edited = serve(spot, f"{prefix}scores", scores)
        if edited:
            scores = served.masked_fill(view.hidden, -torch.inf)
            pattern = _weigh(scores, _blind(view, scores), query.dtype)
    if spot.wants(f"{prefix}pattern"):
        pattern, changed_here = serve(spot, f"{prefix}pattern", pattern)
        edited = edited or changed_here
    if not edited and not (torch.is_grad_enabled() and pattern.requires_grad):
        return mixed, (scores, pattern)
    changed = (pattern != so_far()[1]).any(-1) if edited else torch.zeros_like(pattern[..., 0], dtype=torch.bool)
    return _put(mixed, index, everything, pattern, value, changed, spot.exchange.step), (scores, pattern)


def _scores_and_pattern(
    view: View,
    call: Call,
    queries: Float[Tensor, "batch head row d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    whole: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Scores and pattern of these rows as the output has them so far."""
    if whole is not None:
        here = repeat(view.rows, "batch row -> batch head row k", head=queries.shape[1], k=key.shape[2])
        return whole[0].gather(2, here), whole[1].gather(2, here)
    scores = by_key_heads(queries, rearrange(key, "batch kv k d -> batch kv d k")) * call.scaling
    scores = (scores if view.bias is None else scores + view.bias).masked_fill(view.hidden, -torch.inf)
    # Adding a mask of numbers can take a row below the smallest number of half precision.
    return scores, _weigh(scores, view.blind if view.bias is None else _blind(view, scores), queries.dtype)


def _weigh(
    scores: Float[Tensor, "batch head row key"], blind: Tensor, dtype: torch.dtype
) -> Float[Tensor, "batch head row key"]:
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(dtype)
    return weights.masked_fill(blind, 0.0)


def _blind(view: View, scores: Float[Tensor, "batch head row key"]) -> Bool[Tensor, " batch #head row 1"]:
    """The rows that see nothing, also for the sake of their scores."""
    return view.blind | scores.isneginf().all(-1, keepdim=True)


def _put(
    mixed: Mixed,
    index: Int[Tensor, "batch head row d_head"],
    everything: bool,
    pattern: Float[Tensor, "batch head row key"],
    value: Float[Tensor, "batch kv_head key d_value"],
    changed: Bool[Tensor, "batch head row"],
    step: int,
) -> Mixed:
    """The output with the changed rows computed from their pattern, and the others as they were."""
    at_rows = repeat(index[..., 0], "batch head row -> batch row head d", d=value.shape[-1])
    explicit = rearrange(by_key_heads(pattern, value), "batch head row d -> batch row head d")
    so_far = mixed.out if everything else mixed.out.gather(1, at_rows)
    # Gradients have to pass through the weights that were read; the numbers stay those of the fused call.
    kept = so_far.detach() + (explicit - explicit.detach()) if explicit.requires_grad else so_far
    rows = torch.where(rearrange(changed, "batch head row -> batch row head 1"), explicit, kept)
    mass = mixed.mass
    if mass is not None and mixed.groups is not None:
        groups = rearrange(mixed.groups.now(step, value), "batch key group -> batch 1 key group")
        at_groups = repeat(index[..., 0], "batch head row -> batch head row group", group=mass.shape[-1])
        measured = torch.where(changed[..., None], pattern @ groups, mass.gather(2, at_groups))
        mass = mass.scatter(2, at_groups, measured)
    out = rows.contiguous() if everything else mixed.out.scatter(1, at_rows, rows)
    return replace(mixed, out=out, mass=mass)


def serve(spot: Spot, point: str, value: Tensor) -> tuple[Tensor, bool]:
    """Serve a tensor; also whether it came back changed, in place or by another."""
    if value.is_inference():
        before = value.clone()
        served = spot.give(point, value)
        return served, served is not value or not torch.equal(served, before)
    version = value._version
    served = spot.give(point, value)
    return served, served is not value or served._version != version


AttentionInterface.register(BATCHED, attention)
AttentionMaskInterface.register(BATCHED, sdpa_mask)
AttentionInterface.register(PACKED, attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
