"""Variants of prompts carried out: with a shared prefix or one by one, up to logits or on to written answers.

Where answers are written, the prompts run once, with the positions of variants behind them, as the first pass of the
network's own `generate`. What a variant leaves behind, keys and values and the logits at the last position, is then
handed to `generate` in place of that pass, and it goes on from there. Several variants go on together: their batch
holds the same prompts once for each, behind one another.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import part_of
from mechaudio.progress import bar
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import bind, edits_of
from mechaudio.tracing.decoding import end_tokens
from mechaudio.tracing.edit import Edit, Intervention
from mechaudio.tracing.fused_or_rows import Spot, serve_all
from mechaudio.tracing.generation import generate, write
from mechaudio.tracing.hook_points import ATTENTION_POINTS
from mechaudio.tracing.join import interventions_of_rows
from mechaudio.tracing.memory import chunk_bytes, memory_of
from mechaudio.tracing.record import install
from mechaudio.tracing.requests import Change, Requests
from mechaudio.tracing.run import groups_apart, run
from mechaudio.tracing.sites import ROOT, Site
from mechaudio.variants.attend import Stacked
from mechaudio.variants.plan import Chunk, Sizes, Variant, chunks_of, fitting, variant_of
from mechaudio.variants.shared_pass import CleanRun, Prefix, TowerReplay, first_pass, run_behind, why_not_shared

#: Variants as lists of interventions.
Lists = tuple[tuple[Intervention, ...], ...]
#: How a variant was computed that shared what comes before its first change.
SHARED = "shared prefix"
#: The place of the run without interventions among the variants.
CLEAN = -1
#: Which of all prompts run together, which of all variants on them, and why these run one by one; `None` if they share.
Job = tuple[list[int], list[int], str | None]
#: The rows of a list of interventions, and what it asks of the exchange.
Member = tuple[slice, Requests]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Results of some variants on some prompts.

    Attributes:
        batch: The prompts.
        rows: Which of all prompts these are.
        variants: Which of all variants these are, or `CLEAN`.
        logits: Next-token logits at the last position; `None` where tokens were written.
        tokens: Per variant, the new tokens; `()` where none were written.
        mass: The share of attention on the keys that a variant acts on, before and after; `nan` where it acts on none.
        way: How they were computed.
    """

    batch: PromptBatch
    rows: list[int]
    variants: list[int]
    logits: Float[Tensor, "row variant vocab"] | None = None
    tokens: Sequence[Int[Tensor, "row _"]] = ()
    mass: Float[Tensor, "2 row variant"] | None = None
    way: str = SHARED


def lists_of(variants: Any) -> Lists:
    """Variants as lists of interventions, those of a mapping in its order; none at all are refused."""
    each_of = variants.values() if isinstance(variants, Mapping) else variants
    lists = tuple(tuple(each) if isinstance(each, Sequence) else (each,) for each in each_of)
    if not lists:
        raise ValueError("there is nothing to run: variants= is empty")
    return lists


def carry_out(
    model: AudioLM,
    batch: PromptBatch,
    variants: Lists,
    *,
    memory: int | float | None,
    progress: bool | None,
    max_new_tokens: int | None = None,
    clean: CleanRun | None = None,
) -> Iterator[Outcome]:
    """Run variants on prompts, on a part of the prompts at a time if their memory asks for it.

    They give the logits of the next token, or up to `max_new_tokens` new ones. `clean` is the clean run of the prompts,
    where it is there already.
    """
    # Keys and values of the prompts take half of it, and likewise variants that go through the layers. Where answers
    # are written, they share one half: the other is for what went through, and for what new tokens continue from.
    share = memory_of(model, memory) / (2 if max_new_tokens is None else 4)
    rows, lists = list(range(batch.n_rows)), dict(enumerate(variants))
    usable = None if clean is None or clean.prefix is None else clean
    whole = _Work(model, batch, rows, lists, share, max_new_tokens, usable)
    jobs = _jobs(whole)
    what, total = "sweep" if max_new_tokens is None else "generate", sum(len(indices) for _, indices, _ in jobs)
    with bar(what=what, unit="variants", total=total, progress=progress) as drawn:
        for rows, indices, why in jobs:
            work = whole.part(rows, indices)
            every = indices if max_new_tokens is not None else [CLEAN, *indices]
            for outcome in _shared(work) if why is None else _one_by_one(work, dict.fromkeys(every, why)):
                yield outcome
                drawn.update(sum(index != CLEAN for index in outcome.variants))


@dataclass(frozen=True, eq=False)
class _Work:
    """Variants, by their places among all, on prompts that run together, of which `rows` are the places among all.

    Attributes:
        share: Bytes for the keys and values of the prompts, and for variants that go through the layers.
        max_new_tokens: How many tokens are written; `None` for logits.
        clean: The clean run of the prompts, where it is there already.
        known: What was worked out for interventions on these prompts, for others to share.
        alone: Why some of the variants run one by one, as far as it is known.
    """

    model: AudioLM
    batch: PromptBatch
    rows: list[int]
    variants: Mapping[int, Sequence[Intervention]]
    share: float
    max_new_tokens: int | None
    clean: CleanRun | None
    known: dict[Hashable, Any] = field(default_factory=dict)
    alone: dict[int, str] = field(default_factory=dict)

    def part(self, rows: list[int], variants: list[int]) -> _Work:
        """Some of all variants on some of all prompts."""
        batch, lists = self.batch, {index: self.variants[index] for index in variants}
        if rows != self.rows:
            batch = part_of(self.model.adapter, batch, rows)
            lists = {index: interventions_of_rows(interventions, rows) for index, interventions in lists.items()}
        return replace(self, batch=batch, rows=rows, variants=lists, known={}, alone={})

    @cached_property
    def sizes(self) -> Sizes:
        return Sizes.of(self.model, self.batch)

    @cached_property
    def planned(self) -> list[Variant]:
        """The variants, as far as they are known before anything runs."""
        kept = None if self.clean is None else self.prefix.n_positions
        bound = {index: bind(self.model, self.batch, each, self.known) for index, each in self.variants.items()}
        return [variant_of(index, changes, self.sizes, kept) for index, changes in bound.items()]

    @cached_property
    def chunks(self) -> list[Stacked]:
        """Variants of the decoder alone; the first chunk runs along with the prompts, if they have yet to run."""
        first, *others = list(self.chunks_of([each for each in self.planned if not each.early])) or [Chunk((), 1)]
        return [self.stacked(first, self.batch.n_positions if self.clean is None else 0), *map(self.stacked, others)]

    @cached_property
    def prefix(self) -> Prefix:
        if self.clean is not None and self.clean.prefix is not None:
            return self.clean.prefix
        later = [self.sizes.n_positions - variant.start for variant in self.planned if variant.early]
        n_kept = max([*later, *(stacked.chunk.n_positions for stacked in self.chunks)])
        return Prefix(self.batch, n_kept, keeps=bool(later) or len(self.chunks) > 1)

    def chunks_of(self, variants: Sequence[Variant], part: float = 1.0) -> Iterator[Chunk]:
        """Put variants that share into chunks that fit into a part of `share` and run faster so; note the others."""
        self.alone.update({each.index: each.why for each in variants if each.why is not None})
        writes, share = self.max_new_tokens is not None, part * self.share
        budget = share if writes else chunk_bytes(self.model, 2 * share)
        return chunks_of([each for each in variants if each.why is None], self.sizes, budget, cached=writes)

    def stacked(self, chunk: Chunk, behind: int = 0) -> Stacked:
        return Stacked(self.batch, chunk, self.model.network.dtype, behind, self.known)

    def outcome(self, variants: list[int], **made: Any) -> Outcome:
        return Outcome(self.batch, self.rows, variants, **made)


def _jobs(work: _Work) -> list[Job]:
    """Share variants and prompts out to jobs whose keys and values fit."""
    model, batch, variants = work.model, work.batch, work.variants
    why = why_not_shared(model)
    if work.clean is not None and why is None:
        return [(work.rows, list(variants), None)]
    groups = groups_apart(model, batch)
    if why is not None:
        return [(group, list(variants), why) for group in groups]
    jobs = list[Job]()
    for group in groups:
        parts = list(fitting(group, work.sizes.prompt, work.share))
        mixing = {index for index in variants if len(parts) > 1 and _may_mix_prompts(model, batch, variants[index])}
        if mixing:
            why = "a function is given all prompts at once, which do not fit into memory= together"
            jobs.append((group, sorted(mixing), why))
        if others := [index for index in variants if index not in mixing]:
            jobs += [(rows, others, None) for rows in parts]
    return jobs


def _may_mix_prompts(model: AudioLM, batch: PromptBatch, interventions: Sequence[Intervention]) -> bool:
    """Return whether what becomes of a prompt may depend on the others."""
    return any(isinstance(edit, Edit) and not edit.by_position for edit, *_ in edits_of(model, batch, interventions))


def _one_by_one(work: _Work, whys: Mapping[int, str]) -> Iterator[Outcome]:
    """Run variants on the prompts on their own, each for its reason why."""
    for index, why in whys.items():
        interventions, way, n = work.variants.get(index, ()), f"one by one: {why}", work.max_new_tokens
        if n is None:
            out = run(work.model, work.batch, interventions=interventions, logits="last")
            shares = [effects.shares() for effects in out.effects]
            mass = torch.cat(shares, dim=1).mean(1, keepdim=True).mT if shares else None
            yield work.outcome([index], logits=out.logits[:, -1:], mass=mass, way=way)
        else:
            written = generate(work.model, work.batch, max_new_tokens=n, interventions=interventions)
            yield work.outcome([index], tokens=[written.tokens], way=way)


def _shared(work: _Work) -> Iterator[Outcome]:
    """Run the variants that share what comes before their first change, and then one by one those that cannot."""
    model, batch, n_new, cache = work.model, work.batch, work.max_new_tokens, DynamicCache()
    if work.clean is None:
        logits = first_pass(model, batch, lambda: (work.chunks[0], work.prefix), None if n_new is None else cache)
    else:
        logits = work.clean.logits[:, None]

    def passes() -> Iterator[tuple[Stacked, Tensor, Cache]]:
        for stacked in chain(work.chunks, _behind_the_tower(work)):
            if stacked.behind and stacked.chunk.variants:
                yield stacked, logits[:, 1:], cache
            elif stacked.chunk.variants:
                behind = DynamicCache()
                yield stacked, run_behind(model, work.prefix, stacked, None if n_new is None else behind), behind

    if n_new is None:
        yield work.outcome([CLEAN], logits=logits[:, :1])
        for stacked, made, _ in passes():
            places = [variant.index for variant in stacked.chunk.variants]
            yield work.outcome(places, logits=made, mass=stacked.shares.mean())
    else:
        ends = (end for each in passes() for end in _ends_of(*each))
        for some in fitting(ends, batch.n_rows * (batch.n_positions + n_new) * work.sizes.keys, work.share):
            yield work.outcome([end.variant.index for end in some], tokens=_continued(work, cache, some))
    yield from _one_by_one(work, work.alone)


def _behind_the_tower(work: _Work) -> Iterator[Stacked]:
    """Variants that change something before the decoder, which is computed here."""
    early, n_kept = [variant for variant in work.planned if variant.early], work.prefix.n_positions
    if not early:
        return
    replay = TowerReplay(work.model, work.batch, early)
    each = work.batch.n_rows * n_kept * work.model.d_model * work.model.network.dtype.itemsize
    for some in fitting(early, each, work.share / 2 - replay.n_bytes):
        yield from map(work.stacked, work.chunks_of([replay.followed(variant, n_kept) for variant in some], 0.5))


@dataclass(frozen=True, eq=False)
class _End:
    """The end of the prompts under one variant.

    The keys and values of its own positions, which are the last ones of its prompts, are at `places` of `changed`.
    """

    variant: Variant
    logits: Float[Tensor, "batch vocab"]
    changed: Cache
    places: slice

    def keys_and_values(self, clean: Cache, layer: int, n_positions: int) -> list[Tensor]:
        """Put together keys and values of one layer, of all positions, with those of the clean prompts."""
        parts = (clean.layers[layer].keys, clean.layers[layer].values)
        if layer < self.variant.layer:
            return [part[:, :, :n_positions] for part in parts]
        kept, changed = n_positions - (self.places.stop - self.places.start), self.changed.layers[layer]
        pairs = zip(parts, (changed.keys, changed.values), strict=True)
        return [torch.cat([before[:, :, :kept], behind[:, :, self.places]], dim=2) for before, behind in pairs]


def _ends_of(stacked: Stacked, logits: Float[Tensor, "batch variant vocab"], changed: Cache) -> Iterator[_End]:
    n = stacked.chunk.n_positions
    for place, variant in enumerate(stacked.chunk.variants):
        start = stacked.behind + place * n
        yield _End(variant, logits[:, place], changed, slice(start, start + n))


def _continued(work: _Work, clean: Cache, ends: Sequence[_End]) -> list[Int[Tensor, "batch new_token"]]:
    """Generate from where prompts ended under several variants, with the interventions of each at every new token.

    They go on together, behind the keys and values of the `clean` prompts; the new tokens of each are those that a
    generation on its own gives.
    """
    model, batch, n_new, exchange, given = work.model, work.batch, work.max_new_tokens, work.model.exchange, {}
    assert n_new is not None, "new tokens are counted"

    def keep_cache(served: Any) -> None:
        if exchange.step < 0:
            given.update({name: value for name, value in served[1].items() if isinstance(value, Cache)})

    def hand_over(served: Any) -> Any:
        if exchange.step >= 0:
            return served
        exchange.step = 0
        (cache,) = given.values()
        for layer in range(model.n_layers):
            parts = zip(*(end.keys_and_values(clean, layer, batch.n_positions) for end in ends), strict=True)
            cache.update(*(torch.cat(part) for part in parts), layer)
        logits = torch.cat([end.logits for end in ends])
        return CausalLMOutputWithPast(logits=logits[:, None], **given)  # transformers names it alike in and out

    with torch.no_grad(), exchange.prepared(batch):
        register_side_by_side(model, batch, [work.variants[end.variant.index] for end in ends])
        exchange.watch(f"{ROOT}.input", keep_cache)
        exchange.change(f"{ROOT}.skip", hand_over)
        written = write(model, _repeated(model, batch, len(ends)), n_new)
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
            exchange.replace_attention(attention, partial(_attend, Spot(exchange, attention), concerned))
    for site in (site for sites in (*layers, model.sites) for site in sites.values()):
        made_by = [(rows, changes) for rows, asked in members if (changes := asked.changes.get(site.location))]
        if made_by and site.name not in ATTENTION_POINTS:
            exchange.change(site.location, partial(_change, site, made_by))


def _attend(spot: Spot, members: Sequence[Member], call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of all rows, and again of those of the lists that change something here."""
    out = call.fused(query, key, value)
    for rows, requests in members:
        part = call if call.mask is None or len(call.mask) == 1 else replace(call, mask=call.mask[rows])
        with spot.exchange.only(requests):
            out[rows] = serve_all(spot, part, query[rows], key[rows], value[rows])
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
