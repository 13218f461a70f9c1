"""Edits of attention scores that are known by their formula, so that attention may choose how to carry them out.

Three ways lead to the same numbers. Where a formula is a factor, a shift or a block, and it holds for every query row,
fused attention does it without a score matrix: a factor by scaled keys, a shift (and a factor in some heads only) by
extra columns of queries and keys, a block by the mask. A few query rows are computed beside the fused call (`rows`).
Whatever else is asked takes the whole matrix of the layer (`whole`). A mask of numbers is added to what the fused ways
give, and before an edit in the others: the same for masks that only allow or forbid, which all decoders here have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Positions, Where, select
from mechaudio.tracing.formulas import Block, Formula, Scale, Shift, apply_to_chosen
from mechaudio.tracing.hook_points import HookPoint

Way = Literal["scaled keys", "extra columns", "mask", "rows", "whole"]


@dataclass(frozen=True)
class ScoreEdit:
    """A formula for the attention scores of some keys, in some heads and query rows of the decoder.

    Attributes:
        point: `scores`, with its layers and, unless all query rows are meant, its `queries`.
        keys: Which keys.
        heads: Which heads, `None` for all.
        formula: What becomes of their scores.
        every_step: While generating, whether it holds for every new token too, or in the prompt only.
    """

    point: HookPoint
    keys: Where
    heads: tuple[int, ...] | None
    formula: Formula
    every_step: bool = True

    @property
    def fuses(self) -> bool:
        """True if fused attention can carry it out in all rows."""
        return self.point.queries is None and type(self.formula) in (Scale, Shift, Block)


@dataclass(frozen=True, eq=False)
class BoundScoreEdit:
    """A score edit on given prompts.

    Attributes:
        edit: What it is made from.
        rows: Per prompt, the query rows; `None` for all.
        chosen: Which keys.
        heads: Which heads.
    """

    edit: ScoreEdit
    rows: Positions | None
    chosen: Bool[Tensor, "batch key"]
    heads: Bool[Tensor, " head"]

    @classmethod
    def of(cls, edit: ScoreEdit, batch: PromptBatch, n_heads: int) -> BoundScoreEdit:
        """Find the rows, the keys and the heads.

        Raises:
            IndexError: A head that the layer does not have, or a position outside the prompts.
            KeyError: No such span.
            ValueError: A prompt without such rows or keys, or none of whose rows can see one of the keys.
        """
        keys = select(batch, edit.keys)
        queries = edit.point.queries
        rows = None if queries is None else select(batch, queries)
        for row in range(batch.n_rows):
            which = f"prompt {row}" + (f" (question {batch.questions[row].id!r})" if batch.questions else "")
            if not keys[row]:
                raise ValueError(
                    f"{which} has no position {edit.keys!r}, so there is no key whose attention could be changed; run "
                    "such prompts without the intervention"
                )
            if rows is not None and not rows[row]:
                raise ValueError(
                    f"{which} has no position {queries!r}, so there is no query row to change attention in; run such "
                    "prompts without the intervention"
                )
            if rows is not None and max(rows[row]) < min(keys[row]):
                raise ValueError(
                    f"in {which}, {queries!r} comes before {edit.keys!r}: no token sees what follows it, so there is "
                    "nothing to change. Leave these rows out; or, where training put text in front of audio, turn the "
                    "order round: ma.prompt(model, questions, layout=PromptFormat(audio='first'))"
                )
        device = batch.inputs["input_ids"].device
        chosen = torch.zeros(batch.n_rows, batch.n_positions, dtype=torch.bool)
        for row, positions in enumerate(keys):
            chosen[row, list(positions)] = True
        wanted = range(n_heads) if edit.heads is None else edit.heads
        for head in wanted:
            if not -n_heads <= head < n_heads:
                raise IndexError(f"there is no head {head}: a layer has heads 0 to {n_heads - 1}")
        heads = torch.zeros(n_heads, dtype=torch.bool)
        heads[list(wanted)] = True
        return cls(edit, rows, chosen.to(device, non_blocking=True), heads.to(device, non_blocking=True))

    def following(self, edit: ScoreEdit) -> BoundScoreEdit:
        """Put another edit of the same keys, heads and query rows in the same places."""
        return self if edit is self.edit else replace(self, edit=edit)

    def active(self, shared: Sequence[Sequence[int]] | None, n_positions: int) -> Bool[Tensor, "batch row"]:
        """Find this edit's own among the rows that a layer serves.

        Args:
            shared: Per prompt, the rows that are served; `None` for all.
            n_positions: Positions of the prompts.
        """
        served = [range(n_positions)] * len(self.chosen) if shared is None else shared
        if self.rows is None:
            return torch.ones(len(served), len(served[0]), dtype=torch.bool, device=self.chosen.device)
        row_sets = [set(mine) for mine in self.rows]
        marks = [[position in mine for position in there] for mine, there in zip(row_sets, served, strict=True)]
        return torch.tensor(marks).to(self.chosen.device, non_blocking=True)

    def newest(self, n_positions: int) -> Bool[Tensor, "batch 1"]:
        """Return whether the last position of the prompts, and so a new token of a generation, is one of its rows."""
        last = [self.rows is None or n_positions - 1 in mine for mine in self.rows or [()] * len(self.chosen)]
        return torch.tensor(last, device=self.chosen.device)[:, None]

    def apply(
        self, scores: Float[Tensor, "batch head row key"], active: Bool[Tensor, "batch row"], step: int
    ) -> Float[Tensor, "batch head row key"]:
        """The edited scores of the rows that a layer serves."""
        keys = keys_now(self.chosen, step, scores.shape[-1])
        there = active[:, None, :, None] & self.heads.to(active.device)[:, None, None] & keys[:, None, None]
        return apply_to_chosen(self.edit.formula, scores, there.to(scores.device))


def keys_now(keys: Bool[Tensor, "batch key"], step: int, n_keys: int) -> Bool[Tensor, "batch key_now"]:
    """Marks on the keys of a prompt, as the keys are counted at a step of a generation.

    New tokens are not marked. A sliding window holds the last keys only, a static cache has room for more.
    """
    length = max(keys.shape[1] + step, n_keys)
    return F.pad(keys, (0, length - keys.shape[1]))[:, length - n_keys :]


@dataclass(frozen=True, eq=False)
class Fused:
    """Queries and keys that give edited scores in fused attention, and what is to be masked besides.

    Attributes:
        query: Queries, with columns appended.
        key: Keys, scaled and with columns appended.
        blocked: Keys that are not seen.
    """

    query: Float[Tensor, "batch head query d"]
    key: Float[Tensor, "batch kv_head key d"]
    blocked: Bool[Tensor, " batch #head 1 key"] | None = None

    def then(self, bound: BoundScoreEdit, scaling: float, step: int) -> tuple[Fused, Way]:
        """With one more edit carried out, and the way that was taken."""
        formula = bound.edit.formula
        chosen = keys_now(bound.chosen, step, self.key.shape[2]).to(self.key.device)
        heads = bound.heads.to(self.key.device)[:, None, None]
        if isinstance(formula, Block):
            here = chosen[:, None, None] if bound.edit.heads is None else chosen[:, None, None] & heads
            return replace(self, blocked=here if self.blocked is None else self.blocked | here), "mask"
        marked = chosen[:, None, :, None]
        if isinstance(formula, Scale) and bound.edit.heads is None:
            return replace(self, key=torch.where(marked, self.key * formula.strength, self.key)), "scaled keys"
        if isinstance(formula, Scale):
            query, key = self.query * heads * (formula.strength - 1), self.key * marked
        else:
            query = heads.to(self.query).expand(self.query.shape[0], -1, self.query.shape[2], 1)
            key = (marked * _in_columns(formula.strength / scaling, self.key)).expand(-1, self.key.shape[1], -1, -1)
            query = query.expand(-1, -1, -1, key.shape[-1])
        grown = torch.cat([self.query, query], dim=-1), torch.cat([self.key, key], dim=-1)
        return replace(self, query=grown[0], key=grown[1]), "extra columns"

    def scores(self, allowed: Bool[Tensor, " batch #head 1 key"], scaling: float) -> Float[Tensor, "batch head 1 key"]:
        """Scores of the last query row."""
        last = rearrange(
            self.query[:, :, -1:], "batch (kv group) row d -> batch kv (group row) d", kv=self.key.shape[1]
        )
        scores = rearrange(last @ self.key.mT * scaling, "batch kv group key -> batch (kv group) 1 key")
        masked = ~allowed if self.blocked is None else ~allowed | self.blocked
        return scores.masked_fill(masked, -torch.inf)


def _in_columns(number: float, like: Tensor) -> Tensor:
    """A number as the sum of two that a short floating-point type holds exactly, or as itself."""
    first = torch.tensor(number, dtype=like.dtype)
    if like.dtype.itemsize >= 4:
        return first[None].to(like.device)
    return torch.stack([first, torch.tensor(number - first.item(), dtype=like.dtype)]).to(like.device)
