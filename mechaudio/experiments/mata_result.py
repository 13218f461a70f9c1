"""What a study of MATA found: every setting on all questions, and what one half chose on the other.

Conventions: layers count from 0, ranges include both ends; shares are from 0 to 1; intervals are at 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.experiments.evaluation import Comparison
from mechaudio.experiments.groups import GroupChange, changes_by_group
from mechaudio.experiments.mata_arms import MODES, MataArm
from mechaudio.experiments.mata_scores import MataScores
from mechaudio.experiments.over_strength import OverStrength, StrengthLine
from mechaudio.metrics.multiple_choice import AnswerChange, answer_change, margin, right_choices
from mechaudio.metrics.significance import benjamini_hochberg, holm
from mechaudio.results import Result


@dataclass(frozen=True)
class MataTested:
    """What a setting did to all questions, and how sure that is among the settings that it is listed with.

    Attributes:
        arm: The setting.
        change: Accuracies, fix and break rates, McNemar's test.
        p_holm: The test's p value after Holm's correction.
        p_bh: After Benjamini and Hochberg's.
    """

    arm: MataArm
    change: AnswerChange
    p_holm: float
    p_bh: float


@dataclass(frozen=True)
class MataChoice:
    """A setting beside no intervention and beside the published one, on the questions that chose nothing.

    Attributes:
        name: Which choice it is.
        arm: The setting.
        chosen_on: What it does on the half that chooses.
        held_out: What it does on the other half.
        p_holm: McNemar's p value there after Holm's correction over all these tests.
        against_published: Answers with the published setting before, with this one after, on that half; None for the
            published setting itself.
        p_against: Its p value, corrected over the same tests.
    """

    name: str
    arm: MataArm
    chosen_on: AnswerChange
    held_out: AnswerChange
    p_holm: float
    against_published: AnswerChange | None
    p_against: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class MataStudy(Result):
    """What the study found.

    Attributes:
        scores: Of audio, by layer.
        compared: The answers by the letters' logits, without an intervention and in every setting.
        arms: The settings.
        generated: Written answers to the questions that report, without and in `written_arms`; None if not asked for.
        written_arms: Settings that answers were written in.
        chooses: Which questions choose; the others report.
        groups: Which groups each question is in, by grouping.
        published: The published range in this model, first and last layer.
        ranges: Published range -> the same in this model, of the ablation of layers.
        settings: What was varied.
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
    settings: Mapping[str, Any]

    @property
    def alpha(self) -> float:
        """The published strength."""
        return float(self.settings["alpha"])

    @cached_property
    def readings(self) -> tuple[MataTested, ...]:
        """The published setting in the three readings."""
        return self._tested([MataArm(mode, self.alpha, *self.published) for mode in MODES])

    @cached_property
    def over_alphas(self) -> tuple[MataTested, ...]:
        """The ablation of strength, in the three readings."""
        return self._tested([MataArm(mode, alpha, *self.published) for mode in MODES for alpha in self._alphas])

    @cached_property
    def over_ranges(self) -> tuple[MataTested, ...]:
        """The ablation of layers, in the three readings; published ranges that are one here come once."""
        spans = dict.fromkeys(own for _, own in self.ranges)
        return self._tested([MataArm(mode, self.alpha, *span) for mode in MODES for span in spans])

    @cached_property
    def choices(self) -> tuple[MataChoice, ...]:
        """The published setting, the best layers for it, and the best of everything, on the half that reports."""
        published = self.readings[0].arm
        same = [arm for arm in self.arms if (arm.mode, arm.alpha) == (published.mode, published.alpha)]
        named = {
            "published": published,
            "layers chosen": self.best_of(same),
            "layers, strength and reading chosen": self.best_of(self.arms),
        }
        held, clean = ~self.chooses & self.compared.clean.scored, self.compared.clean.correct
        choosing = self.chooses & self.compared.clean.scored
        halves = {
            name: [answer_change(clean[half], self._row(arm)[half]) for half in (choosing, held)]
            for name, arm in named.items()
        }
        against = {
            name: answer_change(self._row(published)[held], self._row(arm)[held])
            for name, arm in named.items()
            if name != "published"
        }
        tests = [changes[1].test.p for changes in halves.values()] + [change.test.p for change in against.values()]
        corrected = holm(tests).tolist()
        p_against = dict(zip(against, corrected[len(named) :], strict=True))
        return tuple(
            MataChoice(name, arm, *halves[name], p, against.get(name), p_against.get(name))
            for (name, arm), p in zip(named.items(), corrected, strict=False)
        )

    @cached_property
    def written(self) -> tuple[MataTested, ...]:
        """Written answers to the questions that report; without them, nothing."""
        if self.generated is None:
            return ()
        changes = [self.generated.change(place) for place in range(len(self.written_arms))]
        return _corrected(self.written_arms, changes)

    @property
    def over_strength(self) -> OverStrength:
        """Right answers over alpha in the published layers, a line per reading."""
        known = self.compared.clean.scored
        choosing, lines = self.chooses[known], []
        for mode in MODES:
            arms = [MataArm(mode, alpha, *self.published) for alpha in self._alphas]
            place = arms.index(self.best_of(arms))
            lines.append(StrengthLine(mode, self._alphas, np.stack([self._row(arm)[known] for arm in arms]), place))
        return OverStrength(tuple(lines), self.compared.clean.correct[known], choosing, "alpha")

    def by_group(self, arm: MataArm, *, held_out: bool = False) -> tuple[GroupChange, ...]:
        """What a setting does to all questions, and to each group of them.

        Args:
            arm: The setting.
            held_out: Whether to leave out the questions that choose, as is right for a setting that they chose.

        Raises:
            ValueError: It is none of the study's.
        """
        known = np.flatnonzero(self.compared.clean.scored & ~(self.chooses & held_out))
        groups = {by: tuple(named[place] for place in known) for by, named in self.groups.items()}
        return changes_by_group(groups, self.compared.clean.correct[known], self._row(arm)[known])

    @property
    def _alphas(self) -> tuple[float, ...]:
        return tuple(sorted({self.alpha, *self.settings["alphas"]}))

    @cached_property
    def _margin(self) -> Float[np.ndarray, "arm question"]:
        """Logit of the right choice minus that of the best wrong one; NaN where the answer is not known."""
        clean, logits = self.compared.clean, self.compared.logits
        assert logits is not None
        return margin(logits, right_choices(clean.options, clean.answers))

    def _row(self, arm: MataArm) -> Bool[np.ndarray, " question"]:
        return self.compared.correct[self._place(arm)]

    def _place(self, arm: MataArm) -> int:
        if arm not in self.arms:
            raise ValueError(f"the study has no setting {arm}")
        return self.arms.index(arm)

    def best_of(self, arms: Sequence[MataArm]) -> MataArm:
        """The one with most right answers on the half that chooses; of equal ones, of the largest mean margin."""
        half = self.chooses & self.compared.clean.scored
        return max(arms, key=lambda arm: (self._row(arm)[half].sum(), self._margin[self._place(arm)][half].mean()))

    def _tested(self, arms: Sequence[MataArm]) -> tuple[MataTested, ...]:
        return _corrected(arms, [self.compared.change(self._place(arm)) for arm in arms])

    def __str__(self) -> str:
        """The study in words."""
        clean = self.compared.clean.overall
        lines = [
            f"{clean.n} questions, {clean.accuracy:.1%} [{clean.low:.1%}, {clean.high:.1%}] right without MATA; the "
            f"published layers are {self.published[0]} to {self.published[1]} here"
        ]
        for tested in self.readings:
            lines.append(f"  {tested.arm!s:52s} {tested.change.change.in_percent()}, p = {tested.p_holm:.3g} (Holm)")
        lines.append(f"chosen on {self.chooses.sum()} questions, on the others")
        for choice in self.choices:
            beside = choice.against_published
            more = "" if beside is None else f"; against the published {beside.change.in_percent()}"
            lines.append(f"  {choice.name + ': ' + str(choice.arm):52s} {choice.held_out.change.in_percent()}{more}")
        for tested in self.written:
            lines.append(f"  written, {tested.arm!s:43s} {tested.change.change.in_percent()}")
        return "\n".join(lines)


def _corrected(arms: Sequence[MataArm], changes: Sequence[AnswerChange]) -> tuple[MataTested, ...]:
    p_values = [change.test.p for change in changes]
    found = zip(arms, changes, holm(p_values).tolist(), benjamini_hochberg(p_values).tolist(), strict=True)
    return tuple(MataTested(*one) for one in found)
