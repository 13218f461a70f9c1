"""Changes of scores and patterns that many variants make in one layer, those that are alike all together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechaudio.tracing.formulas import Block, Formula, apply_to_chosen
from mechaudio.tracing.variants import Change, where_of

if TYPE_CHECKING:
    from mechaudio.tracing.suffixes import Suffixes

#: Changes of scores or patterns that are made together, each with the place of its variant.
Members = Sequence[tuple[int, Change]]
#: Scores or patterns of the rows of all variants.
Rows = Float[Tensor, "batch head variant row key"]


@dataclass(frozen=True, eq=False)
class ByFormula:
    """A formula for scores that several variants follow, each with a strength of its own.

    Attributes:
        places: Places of the variants.
        index: The same as an index.
        formula: What to do, with all strengths.
        chosen: In which rows and heads, which keys.
        share: The same as weights that sum to one over rows and heads, to take the mean of attention with.
    """

    places: list[int]
    index: Any
    formula: Formula
    chosen: Bool[Tensor, "batch head 1 row key"]
    share: Float[Tensor, "batch head 1 row key"]

    @property
    def may_blind(self) -> bool:
        """Whether a row may see no key any more."""
        return isinstance(self.formula, Block)

    def change(self, scores: Rows, suffixes: Suffixes) -> None:
        """Change the scores of these variants in place, and note what that did to attention."""
        formula, chosen, share = self.formula, self.chosen, self.share
        if scores.device != chosen.device:
            chosen, share = chosen.to(scores.device), share.to(scores.device)
            formula = replace(formula, strength=formula.strength.to(scores.device))
        before = scores[:, :, self.index]
        after = apply_to_chosen(formula, before, chosen)
        weights = torch.stack([before, after]).softmax(-1, dtype=torch.float32)
        weights = weights.nan_to_num(0.0) if suffixes.n_rows > 1 or self.may_blind else weights
        suffixes.mass[:, :, self.index] += (weights * share).sum((2, 4, 5)).to(suffixes.mass.device)
        for place in self.places:
            suffixes.measured[place] += 1
        scores[:, :, self.index] = after


@dataclass(frozen=True, eq=False)
class ByFunction:
    """A function of the user for scores or patterns of one variant.

    Attributes:
        made: The change.
        place: Place of the variant.
        rows: Per prompt, its rows.
    """

    made: Change
    place: int
    rows: Tensor

    may_blind = True

    def change(self, values: Rows, _suffixes: Suffixes) -> None:
        """Change the values of this variant in place."""
        here = torch.arange(len(self.rows))[:, None]
        by_row = values[:, :, self.place].transpose(1, 2)
        part = by_row[here, self.rows].transpose(1, 2)
        by_row[here, self.rows] = self.made.on(part).transpose(1, 2)


def group_of(
    suffixes: Suffixes,
    members: Members,
    strengths: Strengths,
    known: dict[Hashable, tuple[Tensor, Tensor]],
) -> ByFormula | ByFunction:
    """What variants change alike in one place, and where."""
    places, change = [place for place, _ in members], members[0][1]
    n_positions, bound = suffixes.batch.n_positions, change.bound
    first = n_positions - suffixes.n_rows
    if bound is None:
        return ByFunction(change, places[0], torch.tensor(change.rows) - first)
    where = suffixes.n_rows, where_of(bound.edit)
    if where not in known:
        active = bound.active([range(first, n_positions)] * suffixes.batch.n_rows, n_positions)
        rows = active[:, None, None, :, None] & bound.heads[:, None, None, None]
        chosen = rows & bound.chosen[:, None, None, None]
        if bound.rows is None:  # attention is measured at the last row then
            rows = rows & (torch.arange(suffixes.n_rows, device=rows.device) == suffixes.n_rows - 1)[:, None]
        known[where] = chosen, (chosen & rows) / rows.sum((1, 2, 3, 4), keepdim=True)
    index = slice(places[0], places[-1] + 1) if len(places) == places[-1] + 1 - places[0] else torch.tensor(places)
    formula = replace(bound.edit.formula, strength=strengths.of(members)[:, None, None])
    return ByFormula(places, index, formula, *known[where])


class Strengths:
    """The strengths of all formulas, brought to a GPU together and without waiting for it."""

    def __init__(self, groups: Mapping[str, Mapping[Hashable, Members]], dtype: torch.dtype, device: torch.device):
        """Args: groups: what is changed alike, by location; dtype: of the network; device: where they are needed."""
        members = [one for alike in groups.values() for group in alike.values() for one in group if one[1].bound]
        exact = torch.promote_types(dtype, torch.float32)  # a factor is not to be rounded before it is used
        numbers = torch.tensor([one.bound.edit.formula.strength for _, one in members], dtype=exact)
        self._numbers = numbers.to(device, non_blocking=True)
        self._first = {id(one): index for index, (_, one) in enumerate(members)}

    def of(self, members: Members) -> Float[Tensor, " variant"]:
        """Those of changes that are made together."""
        first = self._first[id(members[0][1])]
        return self._numbers[first : first + len(members)]
