"""Several lists of interventions in one forward pass, each on prompts of its own.

Conventions: the batch holds the same prompts once per list, behind one another: rows `[i n, (i + 1) n)` of *n* prompts
belong to list *i*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from mechaudio.tracing.attention import Spot, serve_all
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.exchange import Exchange, RowRequest
from mechaudio.tracing.hook_points import ATTENTION_POINTS
from mechaudio.tracing.record import Intervention, register
from mechaudio.tracing.sites import Site

if TYPE_CHECKING:
    from mechaudio.models.batch import PromptBatch
    from mechaudio.tracing.audio_lm import AudioLM

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class _Asked:
    """What one list of interventions asks of the exchange."""

    edits: dict[str, list[Change]]
    rows: dict[str, dict[str, RowRequest]]
    score_edits: dict[str, list[Any]]

    @classmethod
    def taken_from(cls, exchange: Exchange) -> _Asked:
        """What is registered there, which then no longer is."""
        asked = cls(exchange.edits, exchange.rows, exchange.score_edits)
        exchange.edits, exchange.rows, exchange.score_edits = {}, {}, {}
        return asked

    @contextmanager
    def alone(self, exchange: Exchange) -> Iterator[None]:
        """While open, the exchange carries out this list and nothing else."""
        before = exchange.edits, exchange.rows, exchange.score_edits, exchange.instead
        exchange.edits, exchange.rows, exchange.score_edits, exchange.instead = (
            self.edits,
            self.rows,
            self.score_edits,
            {},
        )
        try:
            yield
        finally:
            exchange.edits, exchange.rows, exchange.score_edits, exchange.instead = before

    def inside(self, attention: str) -> bool:
        """Whether it asks for something inside an attention module."""
        return (
            attention in self.rows
            or attention in self.score_edits
            or any(location.startswith(f"{attention}.") for location in self.edits)
        )


def register_side_by_side(model: AudioLM, batch: PromptBatch, lists: Sequence[Sequence[Intervention]]) -> None:
    """Have the exchange apply every list of interventions to its own rows, from the decoder's embeddings on.

    What is changed in the audio tower is left out: it does not run behind prompts that ran before.

    Args:
        model: The opened model.
        batch: The prompts, once.
        lists: The lists, in the order of their rows.
    """
    if len(lists) == 1:
        register(model, batch, (), lists[0], _nothing_is_kept)
        return
    exchange, n_rows = model.exchange, batch.n_rows
    asked = []
    for one in lists:
        register(model, batch, (), one, _nothing_is_kept)
        asked.append(_Asked.taken_from(exchange))
    layers = model.site_map.layers["decoder"]
    sites = {site.location: site for found in (*layers, model.sites) for site in found.values()}
    for attention in {found["z"].location.rpartition(".")[0] for found in layers}:
        if members := [(place, one) for place, one in enumerate(asked) if one.inside(attention)]:
            exchange.instead[attention] = partial(_attend, exchange, attention, members, n_rows)
    changes: dict[str, list[tuple[int, list[Change]]]] = defaultdict(list)
    for place, one in enumerate(asked):
        for location, made in one.edits.items():
            if location in sites and sites[location].name not in ATTENTION_POINTS:
                changes[location].append((place, made))
    for location, members in changes.items():
        exchange.edits[location] = [partial(_change, sites[location], members, n_rows)]


def _attend(
    exchange: Exchange,
    location: str,
    members: Sequence[tuple[int, _Asked]],
    n_rows: int,
    call: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
) -> Tensor:
    """Attention of all rows, and again of those of the lists that change something here."""
    out = call.fused(query, key, value)
    for place, asked in members:
        own = slice(place * n_rows, (place + 1) * n_rows)
        part = call if call.mask is None or len(call.mask) == 1 else replace(call, mask=call.mask[own])
        with asked.alone(exchange):
            out[own] = serve_all(Spot(exchange, location), part, query[own], key[own], value[own])
    return out


def _change(site: Site, members: Sequence[tuple[int, list[Change]]], n_rows: int, served: Any) -> Any:
    """What a module receives or returns, with the rows of every list changed by it."""
    whole = site.take(served)
    changed = whole if site.in_place else whole.clone()
    for place, made in members:
        own = slice(place * n_rows, (place + 1) * n_rows)
        part = site.put(served, changed[own])
        for change in made:
            part = change(part)
        if not site.in_place:
            changed[own] = site.take(part)
    return site.swap(served, changed)


def _nothing_is_kept() -> NoReturn:
    raise AssertionError("no hook point is recorded here")
