"""Results of a study of MATA: every setting on all questions, and what one half chose on the other.

Conventions: layers count from 0, ranges include both ends; shares are from 0 to 1; intervals are at 95%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import n_of
from mechaudio.experiments.choosing import Choice, Halves, Tested, tested
from mechaudio.experiments.evaluation import Comparison, Failure
from mechaudio.experiments.groups import GroupChange, changes_by_group
from mechaudio.experiments.mata_arms import MODES, MataArm, MataSettings, Mode
from mechaudio.experiments.mata_scores import MataScores
from mechaudio.experiments.over_strength import OverStrength, StrengthLine
from mechaudio.metrics.multiple_choice import AnswerChange
from mechaudio.metrics.significance import holm
from mechaudio.results import Result

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, kw_only=True)
class MataChoice(Choice[MataArm]):
    """A setting beside no intervention and beside the published one, on the questions that chose nothing.

    Its `p_holm`, and `p_against`, are corrected over all tests of both kinds.

    Attributes:
        name: Which choice it is.
        against_published: Answers with the published setting before, with this one after, on the half that reports;
            None for the published setting itself.
        p_against: McNemar's p value of that.
    """

    name: str
    against_published: AnswerChange | None = None
    p_against: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class MataStudy(Result):
    """A study's results.

    Attributes:
        scores: Attention scores of audio, by layer.
        compared: The answers by the letters' logits, without an intervention and in every setting.
        arms: The settings.
        generated: Written answers to the questions that report, without and in `written_arms`; None if not asked for.
        written_arms: Settings that answers were written in.
        chooses: Which questions choose; the others report.
        groups: Which groups each question is in, by grouping.
        published: The published range in this model, first and last layer.
        ranges: Published range -> the same in this model, of the ablation of layers.
        settings: What was varied, with the rows that listen in the place of `listening`.
        listens: Which rows listen, on the half that chooses; None where no question of it could be asked.
    """

    scores: MataScores
    compared: Comparison
    arms: tuple[MataArm, ...]
    generated: Comparison | None
    written_arms: tuple[MataArm, ...]
    chooses: Bool[np.ndarray, " question"]
    groups: Mapping[str, tuple[tuple[str, ...], ...]]
    published: tuple[int, int]
    ranges: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    settings: MataSettings
    listens: WhereItListens | None = None

    _table_axes = ("variant", "question")

    def to_xarray(self) -> "xarray.Dataset":
        """Return the answers in each setting, and which questions choose."""
        data = self.compared.to_xarray().assign_coords(variant=[str(arm) for arm in self.arms])
        return data.assign(chooses=("question", self.chooses)).assign_attrs(self._attrs)

    @property
    def accuracy(self) -> Float[np.ndarray, " variant"]:
        """The share of right answers in each setting."""
        return self.compared.accuracy

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Questions that could not be asked."""
        return self.compared.clean.failures

    @property
    def alpha(self) -> float:
        """The published strength."""
        return self.settings.alpha

    @cached_property
    def readings(self) -> tuple[Tested[MataArm], ...]:
        """The published setting in the three readings."""
        return self._halves.tested([self._arm(mode) for mode in MODES])

    @cached_property
    def over_alphas(self) -> tuple[Tested[MataArm], ...]:
        """The ablation of strength, in the three readings."""
        return self._halves.tested([self._arm(mode, alpha=alpha) for mode in MODES for alpha in self._alphas])

    @cached_property
    def over_ranges(self) -> tuple[Tested[MataArm], ...]:
        """The ablation of layers, in the three readings; published ranges that are one here come once."""
        spans = dict.fromkeys(placed for _, placed in self.ranges)
        return self._halves.tested([self._arm(mode, span=span) for mode in MODES for span in spans])

    @cached_property
    def choices(self) -> tuple[MataChoice, ...]:
        """The published setting, the best layers for it, and the best of everything, on the half that reports."""
        published = self.readings[0].arm
        same = [arm for arm in self.arms if (arm.mode, arm.alpha) == (published.mode, published.alpha)]
        named = {
            "published": [published],
            "layers chosen": same,
            "layers, strength and reading chosen": self.arms,
        }
        halves = self._halves
        before = halves.row(published)
        choices = []
        for name, arms in named.items():
            choice = halves.chosen(arms)
            beside = None if name == "published" else halves.change(before, halves.row(choice.arm), halves.reports)
            choices.append(MataChoice(**vars(choice), name=name, against_published=beside))
        changes = [choice.held_out for choice in choices] + [
            choice.against_published for choice in choices if choice.against_published
        ]
        p_values = iter(holm([change.test.p for change in changes]).tolist())
        choices = [replace(choice, p_holm=next(p_values)) for choice in choices]
        return tuple(
            replace(choice, p_against=next(p_values)) if choice.against_published else choice for choice in choices
        )

    @cached_property
    def written(self) -> tuple[Tested[MataArm], ...]:
        """Written answers to the questions that report; without them, nothing."""
        if self.generated is None:
            return ()
        changes = [self.generated.change(place) for place in range(len(self.written_arms))]
        return tested(self.written_arms, changes)

    @property
    def over_strength(self) -> OverStrength:
        """Right answers over alpha in the published layers, a line per reading."""
        known = self.compared.clean.scored
        choosing, lines = self.chooses[known], []
        for mode in MODES:
            arms = [self._arm(mode, alpha=alpha) for alpha in self._alphas]
            best_at = arms.index(self.best_of(arms))
            lines.append(StrengthLine(mode, self._alphas, self._halves.rows(arms)[:, known], best_at))
        return OverStrength(
            tuple(lines),
            self.compared.clean.correct[known],
            choosing,
            "alpha",
            self.compared.clean.clips_among(known) or (),
        )

    def by_group(self, arm: MataArm, *, held_out: bool = False) -> tuple[GroupChange, ...]:
        """Compare the answers under a setting, on all questions and on each group of them.

        Args:
            arm: The setting.
            held_out: Whether to leave out the questions that choose, as is right for a setting that they chose.

        Raises:
            ValueError: It is none of the study's.
        """
        known = np.flatnonzero(self.compared.clean.scored & ~(self.chooses & held_out))
        groups = {by: tuple(named[place] for place in known) for by, named in self.groups.items()}
        clean = self.compared.clean
        clips = None if not clean.clips else [clean.clips[place] for place in known]
        return changes_by_group(groups, clean.correct[known], self._halves.row(arm)[known], clips=clips)

    def _arm(self, mode: Mode, *, alpha: float | None = None, span: tuple[int, int] | None = None) -> MataArm:
        """A setting, of the published strength and layers unless others are given."""
        return MataArm(mode, alpha or self.alpha, *(span or self.published), self.settings.queries)

    @property
    def _alphas(self) -> tuple[float, ...]:
        return tuple(sorted({self.alpha, *self.settings.alphas}))

    @cached_property
    def _halves(self) -> Halves[MataArm]:
        return Halves.of(self.arms, self.compared, self.chooses, seed=self.settings.seed)

    def best_of(self, arms: Sequence[MataArm]) -> MataArm:
        """The one with most right answers on the half that chooses, then of the largest mean margin, then by lot."""
        return self._halves.best(arms)

    def __str__(self) -> str:
        """The study in words."""
        clean = self.compared.clean.overall
        lines = [
            f"{n_of(clean.n, 'question')}, {clean.value:.1%} [{clean.low:.1%}, {clean.high:.1%}] right without MATA; "
            f"the published layers are {self.published[0]} to {self.published[1]} here"
        ]
        for reading in self.readings:
            lines.append(f"  {reading.arm!s:52s} {reading.change.change.in_points()}, p = {reading.p_holm:.3g} (Holm)")
        lines.append(f"chosen on {n_of(self.chooses.sum(), 'question')}, on the others")
        for choice in self.choices:
            beside = choice.against_published
            more = "" if beside is None else f"; against the published {beside.change.in_points()}"
            lines.append(f"  {choice.name + ': ' + str(choice.arm):52s} {choice.held_out.change.in_points()}{more}")
        for reading in self.written:
            lines.append(f"  written, {reading.arm!s:43s} {reading.change.change.in_points()}")
        return "\n".join(lines)
