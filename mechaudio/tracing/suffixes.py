"""The rows in which variants of a run differ from it, one behind another: what is changed in them, and their attention.

Causal attention forbids an edit to change what came before it. So a variant is only the positions from its first edit
on (its suffix, one row for an edit at the last position): these attend to the keys and values of the clean run, which
all variants share and none copies, and to one another.

Conventions: the rows of all variants that have joined lie behind one another, `[batch, variant x row, d_model]`;
`scores` and `pattern` are `[batch, head, variant, row, key]` with the keys of the whole prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mechaudio.tracing.additions import Add, Additions
from mechaudio.tracing.hook_points import ROW_POINTS
from mechaudio.tracing.sites import Site
from mechaudio.tracing.variant_scores import ByFunction, Rows, Strengths, group_of
from mechaudio.tracing.variants import Change, Variant

if TYPE_CHECKING:
    from mechaudio.models.batch import PromptBatch

Apply = Callable[[Any], Any]
#: So many rows of a variant are worth keys and values of its own, which a fused kernel takes.
_MANY = 32


@dataclass(frozen=True, eq=False)
class Past:
    """What the rows of one layer share.

    Attributes:
        keys: Keys of the whole prompts.
        values: Values.
        mask: What is added to the scores of the last rows: `-inf` where a row may not see a key.
        scaling: What products of queries and keys are multiplied with.
    """

    keys: Float[Tensor, "batch kv_head key d_head"]
    values: Float[Tensor, "batch kv_head key d_head"]
    mask: Float[Tensor, " batch #head row key"]
    scaling: float


class Suffixes:
    """Variants that go through the layers together, each as its last rows.

    All that can be worked out before the model runs is worked out at once, so that nothing waits for a GPU in between.

    Attributes:
        batch: The prompts.
        variants: The variants, those first that join first.
        n_rows: Rows of each, at the end of the prompts.
        riding: Whether they lie behind the clean rows of the prompts, or on their own.
        edits: Location -> what to change there.
        joined: How many have joined so far.
        mass: Per variant, the share of attention on the keys whose scores it changes, before and after: the sum over
            its changes.
        measured: Per variant, how many of its changes are in that sum.
    """

    def __init__(
        self,
        batch: PromptBatch,
        variants: Sequence[Variant],
        dtype: torch.dtype,
        *,
        riding: bool,
        known: dict[Hashable, tuple[Tensor, Tensor]] | None = None,
    ):
        """Sort the changes of all variants by the place where they are made.

        Args:
            batch: The prompts.
            variants: The variants, those first that join first.
            dtype: Of the network.
            riding: Whether the rows lie behind the clean rows of the prompts.
            known: Which keys are changed, in which rows: what chunks of the same prompts share.
        """
        self.batch, self.variants, self.riding = batch, variants, riding
        self.n_rows = batch.n_positions - min((variant.start for variant in variants), default=batch.n_positions - 1)
        self.joined, self.measured = 0, [0] * len(variants)
        self.mass = torch.zeros(2, batch.n_rows, len(variants), device=batch.inputs["input_ids"].device)
        by_site: dict[str, tuple[Site, list[tuple[int, Any, Change]]]] = {}
        groups: dict[str, dict[Hashable, list[tuple[int, Change]]]] = defaultdict(lambda: defaultdict(list))
        for place, variant in enumerate(variants):
            turns: dict[str, int] = defaultdict(int)
            for change in variant.changes:
                location = change.site.location
                if change.site.name in ROW_POINTS:
                    turns[location] += 1
                    groups[location][(turns[location], *change.alike(place))].append((place, change))
                else:
                    made = place, self._index(place, change), change
                    by_site.setdefault(location, (change.site, []))[1].append(made)
        known = {} if known is None else known
        strengths = Strengths(groups, dtype, self.mass.device)
        self._groups = {
            location: [group_of(self, alike[key], strengths, known) for key in sorted(alike, key=lambda key: key[0])]
            for location, alike in groups.items()
        }
        self.edits = {
            location: _changer(site, changes, batch.n_rows, self.mass.device)
            for location, (site, changes) in by_site.items()
        }

    def joining(self, layer: int) -> int:
        """How many variants join before a layer; after it, they have joined."""
        joined = sum(variant.layer <= layer for variant in self.variants)
        new, self.joined = joined - self.joined, joined
        return new

    def entering(self, layer: int, clean: Float[Tensor, "batch row d_model"]) -> Float[Tensor, "batch rows d_model"]:
        """The rows of the variants that join before a layer, given the clean run's; after it, they have joined."""
        before, clean = self.joined, clean[:, -self.n_rows :]
        joining = self.variants[before : before + self.joining(layer)]
        if all(variant.embeds is None for variant in joining):
            return clean.repeat(1, len(joining), 1)
        return torch.cat([variant.entering(clean) for variant in joining], dim=1)

    def changes_in(self, layer: int, points: Collection[str]) -> bool:
        """Whether any variant changes one of these hook points of a layer."""
        return any(
            change.site.layer == layer and change.site.name in points
            for variant in self.variants
            for change in variant.changes
        )

    def _index(self, place: int, change: Change) -> Any:
        """Where a variant's positions are among all rows: slices, if they are the same in every prompt."""
        if change.site.name == "final_norm":  # only the last row of each variant gets there
            place += self.riding
            return slice(None), slice(place, place + 1)
        first = self.batch.n_positions - self.n_rows
        before = place * self.n_rows + (self.batch.n_positions if self.riding else 0)
        own = [[before + position - first for position in row] for row in change.rows]
        if all(row == own[0] for row in own) and own[0] == list(range(own[0][0], own[0][-1] + 1)):
            return slice(None), slice(own[0][0], own[0][-1] + 1)
        return torch.arange(len(own))[:, None], torch.tensor(own)

    def attend(
        self,
        location: str,
        past: Past,
        query: Float[Tensor, "batch head row d_head"],
        key: Float[Tensor, "batch kv_head row d_head"],
        value: Float[Tensor, "batch kv_head row d_head"],
    ) -> Float[Tensor, "batch row head d_head"]:
        """Attention of all rows to what they share and to what their own variant has.

        Args:
            location: Of the attention module.
            past: What they share.
            query: Queries of the rows of all variants that have joined, and so on.
            key: Keys.
            value: Values.
        """
        (batch, heads, _, d_head), kv, v, r = query.shape, key.shape[1], self.joined, self.n_rows
        n_past = self.batch.n_positions - r
        if r >= _MANY and not (self._groups.get(f"{location}.scores") or self._groups.get(f"{location}.pattern")):
            return self._fused(past, query, key, value)
        own_keys, own_values = (part.reshape(batch, kv, 1, v, r, d_head) for part in (key, value))
        shared = query.reshape(batch, kv, -1, d_head) @ past.keys[:, :, :n_past].mT
        own = query.reshape(batch, kv, -1, v, r, d_head)
        own = (own * own_keys).sum(-1) if r == 1 else own @ own_keys.mT  # a single row has a single key of its own
        products = torch.cat([shared.view(batch, heads, v, r, n_past), own.view(batch, heads, v, r, r)], dim=-1)
        pattern = self._weights(location, past, products)
        shared = pattern[..., :n_past].reshape(batch, kv, heads // kv * v * r, n_past) @ past.values[:, :, :n_past]
        own = pattern[..., n_past:].reshape(batch, kv, -1, v, r, r)
        own = own * own_values if r == 1 else own @ own_values
        return (shared.view(batch, heads, v * r, d_head) + own.view(batch, heads, v * r, d_head)).transpose(1, 2)

    def _fused(self, past: Past, query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "batch row head d_head"]:
        """The same by a fused kernel, where nobody changes scores: every variant as a prompt with all its keys."""
        (batch, heads, _, d_head), kv, v, r = query.shape, key.shape[1], self.joined, self.n_rows
        n_past = self.batch.n_positions - r

        def whole(shared: Tensor, own: Tensor) -> Tensor:
            before = shared[:, None, :, :n_past].expand(-1, v, -1, -1, -1)
            behind = own.view(batch, kv, v, r, d_head).transpose(1, 2)
            every = torch.cat([before, behind], dim=3).flatten(0, 1)
            return every.repeat_interleave(heads // kv, dim=1)

        mask = past.mask[:, :, -r:]
        mask = mask.masked_fill(mask.isneginf().all(-1, keepdim=True), 0.0)  # padding sees something, whatever it is
        mask = mask[:, None].expand(-1, v, -1, -1, -1).flatten(0, 1)
        queries = query.view(batch, heads, v, r, d_head).transpose(1, 2).flatten(0, 1)
        out = F.scaled_dot_product_attention(
            queries, whole(past.keys, key), whole(past.values, value), attn_mask=mask, scale=past.scaling
        )
        return out.transpose(1, 2).reshape(batch, v * r, heads, d_head)

    def _weights(self, location: str, past: Past, products: Rows) -> Rows:
        """From products of queries and keys to patterns, with all changes on the way."""
        mask = past.mask[:, :, None, -self.n_rows :]
        scores = torch.add(mask, products, alpha=past.scaling)
        groups = self._groups.get(f"{location}.scores", ())
        for group in groups:
            group.change(scores, self)
        if any(isinstance(group, ByFunction) for group in groups):
            scores = scores.masked_fill(mask.isneginf(), -torch.inf)
        pattern = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        if self.n_rows > 1 or any(group.may_blind for group in groups):  # padding, or rows that see no key any more
            pattern = pattern.masked_fill(scores.isneginf().all(-1, keepdim=True), 0.0)
        pattern = pattern.to(products.dtype)
        for group in self._groups.get(f"{location}.pattern", ()):
            group.change(pattern, self)
        return pattern


def _changer(site: Site, changes: Sequence[tuple[int, Any, Change]], n_prompts: int, device: torch.device) -> Apply:
    """What makes all changes at one site, each with the place of its variant and its rows.

    Vectors that are added to one row by variants that change nothing else there are added all together; others act one
    by one, in the order given.
    """
    per_variant = Counter(place for place, _, _ in changes)
    together = {
        place: (index[1].start, change.edit.change)
        for place, index, change in changes
        if _one_row(index) and isinstance(change.edit.change, Add) and per_variant[place] == 1
    }
    if len(together) < 2:
        together = {}
    others = [(index, change) for place, index, change in changes if place not in together]
    additions = Additions(*zip(*together.values(), strict=True), n_prompts, device) if together else None

    def apply(served: Any) -> Any:
        whole = site.take(served).clone()
        if additions is not None:
            additions.add_to(whole)
        for index, change in others:
            whole[index] = change.on(whole[index])
        return site.swap(served, whole)

    return apply


def _one_row(index: Any) -> bool:
    return isinstance(index[1], slice) and index[1].stop - index[1].start == 1
