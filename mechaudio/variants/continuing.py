"""New tokens behind prompts that ran before: a generation whose first pass is done.

The prompts run once, with the positions of variants behind them, as the first pass of the network's own `generate`.
What a variant leaves behind, keys and values and the logits at the last position, is then handed to `generate` in place
of that pass, and it goes on from there. Several variants go on together, each on prompts of its own.

Conventions: a batch of several variants holds the same prompts once for each, behind one another: rows `[i n, (i + 1)
n)` of *n* prompts belong to variant *i*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import bind
from mechaudio.tracing.decoding import end_tokens
from mechaudio.tracing.edit import Intervention
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.fused_or_rows import Spot, serve_all
from mechaudio.tracing.generation import write
from mechaudio.tracing.hook_points import ATTENTION_POINTS
from mechaudio.tracing.record import install
from mechaudio.tracing.requests import Change, Requests
from mechaudio.tracing.sites import ROOT, Site
from mechaudio.variants.attend import Stacked
from mechaudio.variants.plan import Variant

#: The rows of a list of interventions, and what it asks of the exchange.
Member = tuple[slice, Requests]


@dataclass(frozen=True, eq=False)
class PromptEnd:
    """The end of prompts under one variant: what they left behind.

    Attributes:
        variant: The variant.
        logits: Next-token logits at the last position.
        clean: Keys and values of the clean prompts.
        changed: Those of the variant's own positions, which are the last ones of its prompts.
        places: Where these are in `changed`.
    """

    variant: Variant
    logits: Float[Tensor, "batch vocab"]
    clean: Cache
    changed: Cache
    places: slice

    def keys_and_values(self, layer: int, n_positions: int) -> list[Tensor]:
        """Put together keys and values of one layer, of all positions."""
        clean = self.clean.layers[layer]
        if layer < self.variant.layer:
            return [part[:, :, :n_positions] for part in (clean.keys, clean.values)]
        changed, kept = self.changed.layers[layer], n_positions - (self.places.stop - self.places.start)
        pairs = ((clean.keys, changed.keys), (clean.values, changed.values))
        return [torch.cat([before[:, :, :kept], behind[:, :, self.places]], dim=2) for before, behind in pairs]


def ends_of(
    stacked: Stacked, logits: Float[Tensor, "batch variant vocab"], changed: Cache, clean: Cache
) -> Iterator[PromptEnd]:
    """The ends of prompts under every variant of a chunk; `changed` is `clean` where it ran along with them."""
    for place, variant in enumerate(stacked.chunk.variants):
        start = stacked.behind + place * stacked.chunk.n_positions
        places = slice(start, start + stacked.chunk.n_positions)
        yield PromptEnd(variant, logits[:, place], clean, changed, places)


def continued(
    model: AudioLM,
    batch: PromptBatch,
    ends: Sequence[PromptEnd],
    interventions: Sequence[Sequence[Intervention]],
    max_new_tokens: int,
) -> list[Int[Tensor, "batch new_token"]]:
    """Generate from where prompts ended under several variants, with the interventions of each at every new token.

    They go on together; the new tokens of each are those that a generation on its own gives.
    """
    exchange, given = model.exchange, dict[str, Cache]()

    def keep_cache(served: Any) -> Any:
        if exchange.step < 0:
            given.update({name: value for name, value in served[1].items() if isinstance(value, Cache)})
        return served

    def hand_over(served: Any) -> Any:
        if exchange.step >= 0:
            return served
        exchange.step = 0
        (cache,) = given.values()
        for layer in range(model.n_layers):
            parts = zip(*(end.keys_and_values(layer, batch.n_positions) for end in ends), strict=True)
            cache.update(*(torch.cat(part) for part in parts), layer)
        logits = torch.cat([end.logits for end in ends])
        return CausalLMOutputWithPast(logits=logits[:, None], **given)  # transformers names it alike in and out

    with torch.no_grad(), exchange.prepared(batch):
        register_side_by_side(model, batch, interventions)
        exchange.change(f"{ROOT}.input", keep_cache)
        exchange.change(f"{ROOT}.skip", hand_over)
        written = write(model, _repeated(model, batch, len(ends)), max_new_tokens)
    return [_to_the_end(tokens, end_tokens(model.network)) for tokens in written.split(batch.n_rows)]


def _repeated(model: AudioLM, batch: PromptBatch, times: int) -> dict[str, Any]:
    """Inputs of so many copies of the prompts behind one another; of the sound the shape alone, as nobody hears it."""

    def copies(name: str, value: Tensor) -> Tensor:
        value = value.new_zeros(()).expand_as(value) if name == model.adapter.features else value
        return repeat(value, "row ... -> (times row) ...", times=times)

    each = batch.inputs.items()
    return {name: copies(name, value) if isinstance(value, Tensor) else value for name, value in each}


def _to_the_end(tokens: Int[Tensor, "row new_token"], ends: Sequence[int]) -> Int[Tensor, "row kept"]:
    """New tokens of some rows up to where the last of them ends."""
    ended = torch.isin(tokens, torch.tensor(ends, dtype=tokens.dtype, device=tokens.device))
    longest = int((ended.cumsum(1) - ended.int() == 0).sum(1).max())
    return tokens[:, :longest]


def register_side_by_side(model: AudioLM, batch: PromptBatch, lists: Sequence[Sequence[Intervention]]) -> None:
    """Have the exchange apply every list of interventions to its own rows, from the decoder's embeddings on.

    What is changed in the audio tower is left out: it does not run behind prompts that ran before. `batch` holds the
    prompts once.
    """
    if len(lists) == 1:
        install(model, batch, bind(model, batch, lists[0]))
        return
    exchange, n, members = model.exchange, batch.n_rows, list[Member]()
    for index, interventions in enumerate(lists):
        with exchange.only(Requests()) as requests:
            install(model, batch, bind(model, batch, interventions))
        members.append((slice(index * n, (index + 1) * n), requests))
    layers = model.site_map.layers["decoder"]
    for attention in (sites["z"].module for sites in layers):
        if concerned := [(rows, requests) for rows, requests in members if requests.inside(attention)]:
            exchange.replace_attention(attention, partial(_attend, exchange, attention, concerned))
    for site in (site for sites in (*layers, model.sites) for site in sites.values()):
        made_by = [(rows, changes) for rows, asked in members if (changes := asked.changes.get(site.location))]
        if made_by and site.name not in ATTENTION_POINTS:
            exchange.change(site.location, partial(_change, site, made_by))


def _attend(
    exchange: Exchange, location: str, members: Sequence[Member], call: Call, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """Attention of all rows, and again of those of the lists that change something here."""
    out = call.fused(query, key, value)
    for rows, requests in members:
        part = call if call.mask is None or len(call.mask) == 1 else replace(call, mask=call.mask[rows])
        with exchange.only(requests):
            out[rows] = serve_all(Spot(exchange, location), part, query[rows], key[rows], value[rows])
    return out


def _change(site: Site, made_by: Sequence[tuple[slice, list[Change]]], served: Any) -> Any:
    """Change the rows of every list in what a module receives or returns."""
    whole = site.take(served)
    changed = whole if site.in_place else whole.clone()
    for rows, made in made_by:
        part = site.put(served, changed[rows])
        for change in made:
            part = change(part)
        if not site.in_place:
            changed[rows] = site.take(part)
    return site.swap(served, changed)
