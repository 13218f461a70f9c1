"""Interventions bound to a network and to prompts: which sites they change, and at which positions.

Whatever carries interventions out starts here: single runs, generation, gradients and many variants at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechaudio.kinds import all_int
from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.edit import Add, Edit, Intervention
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.rows import row_positions
from mechaudio.tracing.score_edit import BoundScoreEdit, ScoreEdit
from mechaudio.tracing.sites import Site

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True, eq=False)
class Change:
    """One edit at one site.

    Attributes:
        site: Where.
        edit: What.
        positions: Per prompt, the positions (of scores and patterns, the query rows) that it changes; `None` for all.
        number: Which of the interventions makes it.
        intervention: That one.
        scores: For an edit of scores that is known by its formula, that edit on the prompts.
    """

    site: Site
    edit: Edit | ScoreEdit
    positions: Sequence[Sequence[int]] | None
    number: int
    intervention: Intervention
    scores: BoundScoreEdit | None = None

    @property
    def idle(self) -> bool:
        """True if it is known to leave everything as it is."""
        return isinstance(self.edit, ScoreEdit) and self.edit.formula.is_noop

    @property
    def adds(self) -> Add | None:
        """The vector that it adds, if that is all it does."""
        change = None if isinstance(self.edit, ScoreEdit) else self.edit.change
        return change if isinstance(change, Add) else None

    @property
    def first_position(self) -> int:
        """The first position that it changes in any prompt."""
        return 0 if self.positions is None else min(map(min, self.positions))

    def positions_in(self, n_rows: int, n_positions: int) -> Sequence[Sequence[int]]:
        """Per prompt, the positions that it changes, in so many prompts of so many positions."""
        return [range(n_positions)] * n_rows if self.positions is None else self.positions

    def on(self, current: Tensor, advice: str = "") -> Tensor:
        """Give what the edit's function makes of the values at its positions.

        Raises:
            ValueError: Something of another shape.
        """
        assert isinstance(self.edit, Edit), "a formula for scores is carried out by attention"
        changed = self.edit.change(current)
        if not isinstance(changed, Tensor) or changed.shape != current.shape:
            made = list(changed.shape) if isinstance(changed, Tensor) else changed
            raise ValueError(
                f"an edit of {self.site.address} made {made} out of {list(current.shape)}: a hook point keeps its "
                f"shape{advice}"
            )
        return changed.to(current)


def bind(
    model: AudioLM,
    batch: PromptBatch,
    interventions: Iterable[Intervention],
    known: dict[Hashable, Any] | None = None,
) -> list[Change]:
    """Find the sites and the positions of every change that interventions make, in their order.

    Args:
        model: The opened model.
        batch: The prompts.
        interventions: The interventions.
        known: What was worked out for other interventions on these prompts; it is added to.

    Raises:
        TypeError: Something else than interventions.
        ValueError: A change of what is measured only, a layer that is named twice, or positions that prompts lack.
    """
    known, changes = {} if known is None else known, []
    for edit, number, intervention in edits_of(model, batch, interventions):
        scores, positions = None, None
        chosen = edit.point.chosen
        if isinstance(edit, ScoreEdit):
            key = where_of(edit)
            if key not in known:
                known[key] = BoundScoreEdit.of(edit, batch, model.n_heads)
            scores = known[key].following(edit)
            positions = scores.rows
        elif chosen is not None:
            key = ("positions", _frozen(chosen), edit.by_position)
            if key not in known:
                known[key] = row_positions(batch, chosen, fill=edit.by_position).tolist()
            positions = known[key]
        sites = sites_to_change(model, edit.point)
        changes += [Change(site, edit, positions, number, intervention, scores) for site in sites]
    return changes


def edits_of(
    model: AudioLM, batch: PromptBatch, interventions: Iterable[Intervention]
) -> list[tuple[Edit | ScoreEdit, int, Intervention]]:
    """Every edit that the interventions make, in their order, and the number of the one that makes it, and that one.

    Raises:
        TypeError: Something else than interventions.
        ValueError: A change of what is measured only.
    """
    if _is_intervention(interventions):
        raise TypeError(f"interventions= takes a list, got {interventions!r}; write [...] around it")
    edits = []
    for number, intervention in enumerate(interventions):
        if not _is_intervention(intervention):
            raise TypeError(f"interventions= takes values such as ma.Edit(hook_point, function), got {intervention!r}")
        edits += [(edit, number, intervention) for edit in intervention.edits(model, batch)]
    for edit, _, _ in edits:
        if edit.point.point == "mass":
            raise ValueError("mass is what attention did, not something it uses: edit scores or pattern instead")
    return edits


def _is_intervention(value: object) -> bool:
    """As `isinstance(value, Intervention)`, which takes ten times as long."""
    return callable(getattr(value, "edits", None))


def sites_to_change(model: AudioLM, point: HookPoint) -> list[Site]:
    """Every site that a hook point names.

    Raises:
        ValueError: A layer that is named twice.
    """
    sites = model.site_map.find(point)
    if len({site.location for site in sites}) < len(sites):
        raise ValueError(f"layers={list(point.layers)} names a layer twice, and would change it twice")
    return sites


def where_of(edit: ScoreEdit) -> tuple[Hashable, ...]:
    """The keys, heads and query rows of an edit of scores, as a key of a dictionary."""
    return _frozen(edit.keys), _frozen(edit.heads), _frozen(edit.point.queries)


def _frozen(where: Any) -> Hashable:
    if where is None or isinstance(where, (str, int)):
        return where
    return tuple(where) if all_int(where) else tuple(map(_frozen, where))
