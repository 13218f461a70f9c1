"""Several lists of interventions in one forward pass, each on prompts of its own.

Conventions: the batch holds the same prompts once per list, behind one another: rows `[i n, (i + 1) n)` of *n* prompts
belong to list *i*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.attention import Spot, serve_all
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Intervention
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.hook_points import ATTENTION_POINTS
from mechaudio.tracing.record import register
from mechaudio.tracing.requests import Change, Requests
from mechaudio.tracing.sites import Site

#: The rows of a list of interventions, and what it asks of the exchange.
Member = tuple[slice, Requests]


def register_side_by_side(model: AudioLM, batch: PromptBatch, lists: Sequence[Sequence[Intervention]]) -> None:
    """Have the exchange apply every list of interventions to its own rows, from the decoder's embeddings on.

    What is changed in the audio tower is left out: it does not run behind prompts that ran before. `batch` holds the
    prompts once.
    """
    if len(lists) == 1:
        register(model, batch, (), lists[0], _nothing_is_kept)
        return
    exchange, n, members = model.exchange, batch.n_rows, list[Member]()
    for place, interventions in enumerate(lists):
        with exchange.only(Requests()) as requests:
            register(model, batch, (), interventions, _nothing_is_kept)
        members.append((slice(place * n, (place + 1) * n), requests))
    layers = model.site_map.layers["decoder"]
    for attention in (sites["z"].module for sites in layers):
        if concerned := [(rows, requests) for rows, requests in members if requests.inside(attention)]:
            exchange.replace_attention(attention, partial(_attend, exchange, attention, concerned))
    sites = {site.location: site for some in (*layers, model.sites) for site in some.values()}
    changes: dict[str, list[tuple[slice, list[Change]]]] = defaultdict(list)
    for rows, requests in members:
        for location, made in requests.changes.items():
            if location in sites and sites[location].name not in ATTENTION_POINTS:
                changes[location].append((rows, made))
    for location, made_by in changes.items():
        exchange.change(location, partial(_change, sites[location], made_by))


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


def _nothing_is_kept() -> NoReturn:
    raise AssertionError("no hook point is recorded here")
