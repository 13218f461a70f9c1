"""The changes of all variants of a chunk, sorted by the place where they are made, and the attention of its variants.

Changes that are alike are made at once. Variants attend to the keys and values of the prompts, which all share and none
copies, and to their own.

Conventions: axes are named `b` (prompts), `head` = `kv g` (key-value heads, queries of each), `v` (variants), `p` and
`q` (positions of a variant, as queries and as keys), `s` (positions that variants share), `d` (width of a head). The
positions of all variants lie behind one another, `v p`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.bind import Change, where_of
from mechaudio.tracing.edit import Add
from mechaudio.tracing.effects import Shares
from mechaudio.tracing.formulas import Block, apply_to_chosen
from mechaudio.tracing.hook_points import ROW_POINTS
from mechaudio.tracing.requests import Change as Apply
from mechaudio.tracing.sites import Site
from mechaudio.variants.plan import Chunk

#: Changes what is there of all variants in place: scores or patterns, `[b, head, v, p, key]`, or values by position.
InPlace = Callable[[Tensor], None]
#: From so many positions on, a variant is given keys and values of its own, which a fused kernel can take.
_MANY = 32
#: Changes that are made together, each with the number of its variant in the chunk.
Members = Sequence[tuple[int, Change]]


@dataclass(frozen=True, eq=False)
class Shared:
    """The keys and values of the whole prompts, which variants share in one layer.

    `mask` is added to the scores of the last positions, `-inf` where a query may not see a key; `scaling` is what
    products of queries and keys are multiplied with.
    """

    keys: Float[Tensor, "b kv key d"]
    values: Float[Tensor, "b kv key d"]
    mask: Float[Tensor, " b #head p key"]
    scaling: float


@dataclass(frozen=True, eq=False)
class Changes:
    """Changes of scores and of patterns in one attention module.

    `careful` ones may leave a query without any key, or show it a masked one.
    """

    scores: Sequence[InPlace] = ()
    pattern: Sequence[InPlace] = ()
    careful: bool = False


def attend(
    changes: Changes,
    shared: Shared,
    n_variants: int,
    query: Float[Tensor, "b head vp d"],
    key: Float[Tensor, "b kv vp d"],
    value: Float[Tensor, "b kv vp d"],
) -> Float[Tensor, "b vp head d"]:
    """Attend from the positions of all variants to what they share and to what each has on its own."""
    n_positions, kv = query.shape[2] // n_variants, key.shape[1]
    if n_positions >= _MANY and not changes.scores and not changes.pattern:
        return _attend_fused(query, key, value, shared, n_variants)
    single, n_shared = n_positions == 1, shared.keys.shape[2] - n_positions
    own_keys, own_values = (rearrange(part, "b kv (v q) d -> b kv 1 v q d", v=n_variants) for part in (key, value))
    keys, values = shared.keys[:, :, :n_shared], shared.values[:, :, :n_shared]
    queries = rearrange(query, "b (kv g) (v p) d -> b kv g v p d", kv=kv, v=n_variants)
    to_shared = einsum(queries, keys, "b kv g v p d, b kv s d -> b kv g v p s")
    # a single position has a single key of its own
    to_own = (queries * own_keys).sum(-1, keepdim=True) if single else queries @ own_keys.mT
    products = rearrange(torch.cat([to_shared, to_own], dim=-1), "b kv g v p key -> b (kv g) v p key")
    pattern = rearrange(_weigh(products, shared, changes), "b (kv g) v p key -> b kv g v p key", kv=kv)
    of_shared, of_own = pattern.split([n_shared, n_positions], dim=-1)
    mixed = einsum(of_shared, values, "b kv g v p s, b kv s d -> b kv g v p d")
    mixed += of_own * own_values if single else of_own @ own_values
    return rearrange(mixed, "b kv g v p d -> b (v p) (kv g) d")


def _weigh(products: Float[Tensor, "b head v p key"], shared: Shared, changes: Changes) -> Tensor:
    """From products of queries and keys to patterns, with all changes on the way."""
    n_positions = products.shape[3]
    mask = shared.mask[:, :, None, -n_positions:]
    scores = torch.add(mask, products, alpha=shared.scaling)
    for change in changes.scores:
        change(scores)
    if changes.careful:
        scores = scores.masked_fill(mask.isneginf(), -torch.inf)
    pattern = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    if n_positions > 1 or changes.careful:  # padding, or queries that see no key any more
        pattern = pattern.masked_fill(scores.isneginf().all(-1, keepdim=True), 0.0)
    pattern = pattern.to(products.dtype)
    for change in changes.pattern:
        change(pattern)
    return pattern


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, shared: Shared, n_variants: int) -> Tensor:
    """Attend by a fused kernel, where nobody changes scores: every variant as a prompt with all its keys."""
    n_positions = query.shape[2] // n_variants
    n_shared, group = shared.keys.shape[2] - n_positions, query.shape[1] // key.shape[1]

    def whole(before: Tensor, suffix: Tensor) -> Float[Tensor, "bv head key d"]:
        before = repeat(before[:, :, :n_shared], "b kv s d -> b v kv s d", v=n_variants)
        every = torch.cat([before, rearrange(suffix, "b kv (v q) d -> b v kv q d", v=n_variants)], dim=3)
        return repeat(every, "b v kv key d -> (b v) (kv g) key d", g=group)

    mask = shared.mask[:, :, -n_positions:]
    mask = mask.masked_fill(mask.isneginf().all(-1, keepdim=True), 0.0)  # padding sees something, whatever it is
    out = F.scaled_dot_product_attention(
        rearrange(query, "b head (v p) d -> (b v) head p d", v=n_variants),
        whole(shared.keys, key),
        whole(shared.values, value),
        attn_mask=repeat(mask, "b head p key -> (b v) head p key", v=n_variants),
        scale=shared.scaling,
    )
    return rearrange(out, "(b v) head p d -> b (v p) head d", v=n_variants)


class Stacked:
    """A chunk with its changes, worked out before the model runs, so that nothing waits for a GPU in between.

    Attributes:
        behind: How many positions come before theirs: those of the prompts, where they run along; otherwise none.
        edits: Location -> what to change there.
        shares: The share of attention on the keys whose scores each variant changes, before and after.
    """

    def __init__(self, batch: PromptBatch, chunk: Chunk, dtype: torch.dtype, behind: int, known: dict[Hashable, Any]):
        """Sort the changes of all variants.

        `dtype` is that of the network; `known` holds what was worked out for these prompts, for chunks to share.
        """
        self.batch, self.chunk, self.behind, self._known = batch, chunk, behind, known
        self._device, self._careful = batch.inputs["input_ids"].device, False
        self._exact = torch.promote_types(dtype, torch.float32)  # a factor is not to be rounded before it is used
        self.shares = Shares(batch.n_rows, len(chunk.variants), self._device)
        alike: dict[tuple[Any, ...], list[tuple[int, Change]]] = defaultdict(list)
        for number, variant in enumerate(chunk.variants):
            turns = Counter[str]()
            for change in variant.changes:
                location = change.site.location
                turns[location] += 1
                alike[(turns[location], location, *_kind(number, change))].append((number, change))
        self._made: dict[str, list[InPlace]] = defaultdict(list)
        self.edits: dict[str, Apply] = {}
        # changes that a variant makes in one place come after one another
        for (_, location, *_), members in sorted(alike.items(), key=lambda group: group[0][0]):
            self._made[location].append(self._together(members))
            if (site := members[0][1].site).name not in ROW_POINTS:
                self.edits[location] = partial(_edit, site, self._made[location])

    def changes_at(self, attention: str) -> Changes:
        """The changes of scores and of patterns in an attention module."""
        scores, pattern = (self._made.get(f"{attention}.{point}", ()) for point in ("scores", "pattern"))
        return Changes(scores, pattern, self._careful)

    def changes_in(self, layer: int, points: Collection[str]) -> bool:
        """Return whether any variant changes one of these hook points of a layer."""
        sites = (change.site for variant in self.chunk.variants for change in variant.changes)
        return any(site.layer == layer and site.name in points for site in sites)

    def _places(self, number: int, change: Change) -> list[list[int]]:
        """Find the positions that a variant changes among those that are served, per prompt."""
        n, first = self.chunk.n_positions, self.behind + number * self.chunk.n_positions
        if change.site.name in ROW_POINTS:  # weights of one variant have its own query rows
            first = 0
        elif change.site.name == "final_norm":  # only the last position of each variant gets there
            first = number + (self.behind > 0) + 1 - n
        moved = first + n - self.batch.n_positions
        rows = change.positions_in(self.batch.n_rows, self.batch.n_positions)
        return [[position + moved for position in row] for row in rows]

    def _together(self, members: Members) -> InPlace:
        """Make one change of those that variants make alike in one place."""
        number, change = members[0]
        if change.scores is not None:
            return self._of_scores(members)
        if len(members) > 1:
            at = [self._places(number, change)[0][0] for number, change in members]
            return _adding(at, [change.adds for _, change in members if change.adds], self._device)
        index = _index(self._places(number, change))

        def change_weights(weights: Tensor) -> None:
            by_query = weights[:, :, number].transpose(1, 2)
            by_query[index] = change.on(by_query[index].transpose(1, 2).clone()).transpose(1, 2)

        def change_values(values: Tensor) -> None:
            values[index] = change.on(values[index].clone())

        self._careful |= change.site.name in ROW_POINTS
        return change_weights if change.site.name in ROW_POINTS else change_values

    def _of_scores(self, members: Members) -> InPlace:
        """Change scores by a formula, with the strength of each variant."""
        places, bound, n = [number for number, _ in members], members[0][1].scores, self.chunk.n_positions
        assert bound is not None, "a formula for scores is bound to prompts"
        known, where, formula = self._known, (n, where_of(bound.edit)), bound.edit.formula
        if where not in known:
            rows = range(self.batch.n_positions - n, self.batch.n_positions)
            active = bound.active([rows] * self.batch.n_rows, self.batch.n_positions)
            measured = active[:, None, None, :, None] & bound.heads[:, None, None, None]
            chosen = measured & bound.chosen[:, None, None, None]
            if bound.rows is None:  # attention is measured at the last query then
                measured = measured & (torch.arange(n, device=measured.device) == n - 1)[:, None]
            known[where] = chosen, (chosen & measured) / measured.sum((1, 2, 3, 4), keepdim=True)
        index = slice(places[0], places[-1] + 1) if len(places) == places[-1] + 1 - places[0] else torch.tensor(places)
        strengths = [change.scores.edit.formula.strength for _, change in members if change.scores]
        strength = torch.tensor(strengths, dtype=self._exact)[:, None, None].to(self._device, non_blocking=True)
        blind = n > 1 or isinstance(formula, Block)
        self._careful |= isinstance(formula, Block)

        def change_scores(scores: Tensor) -> None:
            chosen, share = (part.to(scores.device) for part in known[where])
            before = scores[:, :, index]
            after = apply_to_chosen(replace(formula, strength=strength.to(scores.device)), before, chosen)
            self.shares.add(places, index, torch.stack([before, after]), share, blind=blind)
            scores[:, :, index] = after

        return change_scores


def _kind(number: int, change: Change) -> tuple[Hashable, ...]:
    """Give a key that changes of several variants share if they are made together; for one made alone, its own.

    Scores are changed by one formula with many strengths. Vectors are added at one position of each variant.
    """
    if change.scores is not None:
        return (type(change.scores.edit.formula), *where_of(change.scores.edit))
    if change.adds is not None and len(set(chain.from_iterable(change.positions or ()))) == 1:
        return (Add,)
    return (number,)


def _index(places: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Index places of each prompt: slices, if they follow one another and are the same in every prompt."""
    first, last = places[0][0], places[0][-1]
    if all(row == list(range(first, last + 1)) for row in places):
        return slice(None), slice(first, last + 1)
    return torch.arange(len(places))[:, None], torch.tensor(places)


def _edit(site: Site, made: Sequence[InPlace], served: Any) -> Any:
    """Make all changes at one site, in their order."""
    values = site.take(served).clone()
    for change in made:
        change(values)
    return site.swap(served, values)


def _adding(at: list[int], added: Sequence[Add], device: torch.device) -> InPlace:
    """Add vectors of many variants, each at a place of its own; everything is brought to the device at once."""
    vectors = [change.vectors.reshape(-1, len(change.heads or (0,)), change.vectors.shape[-1]) for change in added]
    n_heads, n_prompts = torch.tensor([part.shape[1] for part in vectors]), max(map(len, vectors))
    keys = [(part.data_ptr(), part.shape, part.stride()) for part in vectors]
    distinct = dict(zip(keys, vectors, strict=True))  # variants that differ in strength alone share their vectors
    sizes = [part.shape[1] for part in distinct.values()]
    rows = dict(zip(distinct, torch.arange(sum(sizes)).split(sizes), strict=True))
    which = torch.cat([rows[key] for key in keys])
    together = device if any(part.device.type != "cpu" for part in vectors) else torch.device("cpu")
    widest, parts = max(part.shape[-1] for part in vectors), distinct.values()
    padded = [F.pad(part.to(together), (0, widest - part.shape[-1])).expand(n_prompts, -1, -1) for part in parts]
    strengths = torch.tensor([change.strength for change in added], dtype=torch.float64)
    places = torch.tensor(at).repeat_interleave(n_heads)
    moved = [_moved(part, device) for part in (torch.cat(padded, dim=1), which, places)]

    def add_to(values: Tensor) -> None:
        exact = torch.promote_types(values.dtype, torch.float32)  # a strength is not to be rounded before it is used
        vectors, which, at = (_moved(part, values.device) for part in moved)
        times = _moved(strengths.to(exact).repeat_interleave(n_heads), values.device)[:, None]
        picked = vectors.to(values.dtype).index_select(1, which).to(exact)
        products = (picked * times).to(values.dtype)[..., : values.shape[-1]]
        heads = [head for change in added if change.heads is not None for head in change.heads_of(values)]
        values[(slice(None), at, *([_moved(torch.tensor(heads), values.device)] if heads else []))] += products

    return add_to


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; one that goes to a GPU does not wait for what the GPU has to do yet."""
    return values.to(device, non_blocking=device.type == "cuda")
