"""Variants of a run as changes of single hook points, or the reason why one of them has to run on its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.kinds import all_int
from mechaudio.models.selection import Positions
from mechaudio.tracing.hook_points import LAYER_POINTS, ROW_POINTS
from mechaudio.tracing.record import Edit, Intervention, edits_of, sites_to_change
from mechaudio.tracing.rows import row_positions
from mechaudio.tracing.score_edit import BoundScoreEdit, ScoreEdit
from mechaudio.tracing.sites import Site

if TYPE_CHECKING:
    from mechaudio.models.batch import PromptBatch
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True)
class Change:
    """One edit of a variant, at one site.

    Attributes:
        site: Where.
        edit: What.
        rows: Per prompt, the positions that it changes.
        bound: For an edit of scores that is known by its formula, that edit on the prompts.
    """

    site: Site
    edit: Edit | ScoreEdit
    rows: Positions | list[list[int]]
    bound: BoundScoreEdit | None = None

    def alike(self, place: int) -> tuple[Hashable, ...]:
        """What it has in common with changes of other variants that can be made together with it."""
        if self.bound is None:
            return (place,)
        return type(self.bound.edit.formula), *where_of(self.bound.edit)

    def on(self, part: Tensor) -> Tensor:
        """What a function of the user makes of the values at its rows.

        Raises:
            ValueError: Something of another shape.
        """
        changed = self.edit.change(part.clone())
        if not isinstance(changed, Tensor) or changed.shape != part.shape:
            made = list(changed.shape) if isinstance(changed, Tensor) else changed
            raise ValueError(
                f"an edit of {self.site.address} made {made} out of {list(part.shape)}: a hook point keeps its shape"
            )
        return changed.to(part)


@dataclass(frozen=True, eq=False)
class Variant:
    """A list of interventions, taken apart.

    Attributes:
        index: Its place among all variants.
        changes: What it changes in the decoder, in the order given.
        start: The first position that it changes in any prompt.
        layer: The first layer that it changes something in; the number of layers for the final norm.
        front: What it changes before the decoder's layers, in the order given.
        embeds: The last rows in front of the first layer, where that has been worked out and changes them.
    """

    index: int
    changes: tuple[Change, ...]
    start: int
    layer: int
    front: tuple[Edit, ...] = ()
    embeds: Float[Tensor, "batch row d_model"] | None = None

    def entering(self, clean: Float[Tensor, "batch row d_model"]) -> Float[Tensor, "batch row d_model"]:
        """Its rows in front of its first layer, given those of the clean run."""
        if self.embeds is None:
            return clean
        own = self.embeds.to(clean.device)
        return torch.cat([clean[:, : clean.shape[1] - own.shape[1]], own], dim=1)


def take_apart(
    model: AudioLM, batch: PromptBatch, index: int, interventions: Sequence[Intervention], known: dict[Hashable, Any]
) -> Variant | str:
    """A variant as changes of single sites, or why it has to run on its own.

    Args:
        model: The opened model.
        batch: The prompts.
        index: The variant's place.
        interventions: Its interventions.
        known: What was worked out for other variants of these prompts.
    """
    changes, front, starts = [], [], []
    everywhere = [list(range(batch.n_positions))] * batch.n_rows
    for edit, *_ in edits_of(model, batch, interventions):
        point = edit.point
        if point.part == "encoder" and isinstance(edit, ScoreEdit):
            return f"{point.name} comes before the decoder"
        if point.part == "encoder":
            sites_to_change(model, point)
            front.append(edit)
            starts += [row[0] for row in batch.audio_positions if row]
            continue
        if point.point not in (*LAYER_POINTS, "embed", "final_norm"):
            return f"{point.name} lies outside the layers"
        if point.point == "result":
            return "result is as wide as the residual stream for every head, and is computed for one run at a time"
        where = point.queries if point.point in ROW_POINTS else point.positions
        idle = isinstance(edit, ScoreEdit) and edit.formula.is_noop
        bound = None
        if isinstance(edit, ScoreEdit):
            key = where_of(edit)
            if key not in known:
                known[key] = BoundScoreEdit.of(edit, batch, model.n_heads)
            same = known[key]
            bound = BoundScoreEdit(edit, same.rows, same.chosen, same.heads)
            rows = everywhere if bound.rows is None else bound.rows
        elif where is None:
            rows = everywhere
        else:
            key = ("rows", _frozen(where), edit.by_position)
            if key not in known:
                known[key] = row_positions(batch, where, fill=edit.by_position).tolist()
            rows = known[key]
        if point.point == "embed":
            front.append(edit)
            starts += [min(row) for row in rows]
            continue
        if point.point == "final_norm" and any(list(row) != [batch.n_positions - 1] for row in rows):
            return "final_norm is changed before the last position"
        sites = sites_to_change(model, point)
        changes += [] if idle else [Change(site, edit, rows, bound) for site in sites]
    start, layer = extent(changes, batch, model.site_map.depth["decoder"])
    if front:
        return Variant(index, tuple(changes), min([start, *starts]), 0, tuple(front))
    if start == layer == 0:
        return "it changes the first position in the first layer, so nothing is left of the clean run"
    return Variant(index, tuple(changes), start, layer)


def extent(changes: Sequence[Change], batch: PromptBatch, depth: int) -> tuple[int, int]:
    """The first position that changes touch, and the first layer.

    Args:
        changes: The changes; where there are none, the last position and the final norm.
        batch: The prompts.
        depth: Number of the decoder's layers.
    """
    start = min((min(row) for change in changes for row in change.rows), default=batch.n_positions - 1)
    layer = min((depth if change.site.layer is None else change.site.layer for change in changes), default=depth)
    return start, layer


def where_of(edit: ScoreEdit) -> tuple[Hashable, ...]:
    """The keys, heads and query rows of an edit of scores, as a key of a dictionary."""
    return _frozen(edit.keys), _frozen(edit.heads), _frozen(edit.point.queries)


def _frozen(where: Any) -> Hashable:
    if where is None or isinstance(where, (str, int)):
        return where
    return tuple(where) if all_int(where) else tuple(map(_frozen, where))
