"""Settings tested among others by the answers under them; and the best of them on one half, tested on the other.

The best of many looks better than it is where it was chosen, so questions that choose report nothing. Best is the
setting with most right answers; of equally many, that of the largest mean margin where margins are given; of equal
ones, one drawn by lot, which is told. Questions of one clip are a cluster in every interval and test.

Conventions: an arm is one setting, a frozen value; arms are rows and questions columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.experiments.evaluation import Comparison
from mechaudio.metrics.multiple_choice import AnswerChange, answer_change, best_row, best_rows
from mechaudio.metrics.significance import benjamini_hochberg, holm
from mechaudio.showing import Shown

ArmT = TypeVar("ArmT")


@dataclass(frozen=True)
class Tested(Shown, Generic[ArmT]):
    """The answers under an arm, tested, and how sure that is among all arms that it is listed with.

    Attributes:
        arm: The setting.
        change: Accuracies, fix and break rates, McNemar's test.
        p_holm: The test's p value after Holm's correction, over these arms.
        p_bh: After Benjamini and Hochberg's, which bounds the share of false discoveries.
    """

    arm: ArmT
    change: AnswerChange
    p_holm: float
    p_bh: float


@dataclass(frozen=True)
class Choice(Shown, Generic[ArmT]):
    """An arm on the questions that chose it, and on the others.

    Attributes:
        arm: The setting.
        chosen_on: What it does on the half that chooses: better than it is, for it was chosen for it.
        held_out: What it does on the other half.
        p_holm: McNemar's p value there after Holm's correction, over what it is chosen beside; None where choices are
            not tested together.
        tied: How many arms did equally well on the half that chooses, this one among them, so that it was drawn by lot;
            0 where it alone did best, or was not chosen.
    """

    arm: ArmT
    chosen_on: AnswerChange
    held_out: AnswerChange
    p_holm: float | None = None
    tied: int = 0


@dataclass(frozen=True, eq=False)
class Halves(Generic[ArmT]):
    """Answers under every arm and without any (`clean`), to questions that choose and to questions that report.

    What is in neither half, as without a known answer, is not counted. Margins decide between equally many right
    answers where they are given, then a lot by the seed. Unanswered are questions whose logits are NaN, None where all
    have an answer; without `clips` each question is about a clip of its own.
    """

    arms: Sequence[ArmT]
    correct: Bool[np.ndarray, "arm question"]
    clean_correct: Bool[np.ndarray, " question"]
    chooses: Bool[np.ndarray, " question"]
    reports: Bool[np.ndarray, " question"]
    margin: Float[np.ndarray, "arm question"] | None = None
    clips: tuple[str, ...] = ()
    seed: int = 0
    unanswered: Bool[np.ndarray, "arm question"] | None = None
    clean_unanswered: Bool[np.ndarray, " question"] | None = None

    @classmethod
    def of(
        cls,
        arms: Sequence[ArmT],
        compared: Comparison,
        chooses: Bool[np.ndarray, " question"],
        *,
        by_margin: bool = True,
        seed: int = 0,
    ) -> Halves[ArmT]:
        """The halves of a comparison; with `by_margin`, margins, if there are any, decide between equally good arms.

        Questions without a known answer are in neither.
        """
        clean = compared.clean
        margin = compared.margin if by_margin and compared.logits is not None else None
        return cls(
            arms,
            compared.correct,
            clean.correct,
            chooses & clean.scored,
            ~chooses & clean.scored,
            margin,
            clean.clips,
            seed,
            compared.unanswered,
            clean.unanswered,
        )

    @cached_property
    def _places(self) -> dict[ArmT, int]:
        return {arm: place for place, arm in enumerate(self.arms)}

    def rows(self, arms: Sequence[ArmT]) -> Bool[np.ndarray, "arm question"]:
        """Return whether each answer is right under some of the arms.

        Raises:
            ValueError: One of them is none of these.
        """
        return self.correct[self._rows(arms)]

    def row(self, arm: ArmT) -> Bool[np.ndarray, " question"]:
        """Return whether each answer is right under one arm.

        Raises:
            ValueError: It is none of these.
        """
        return self.rows([arm])[0]

    def tested(self, arms: Sequence[ArmT]) -> tuple[Tested[ArmT], ...]:
        """Test arms on the questions of both halves, p values corrected over these arms."""
        known = self.chooses | self.reports
        return tested(arms, [self.change_by(arm, known) for arm in arms])

    def change_by(self, arm: ArmT, among: Bool[np.ndarray, " question"]) -> AnswerChange:
        """Compare the answers to some of the questions under one arm, and count those that are missing."""
        (place,) = self._rows([arm])
        change = self.change(self.clean_correct, self.correct[place], among)
        missing = None if self.unanswered is None else self.unanswered[place]
        before, after = (0 if lacks is None else int(lacks[among].sum()) for lacks in (self.clean_unanswered, missing))
        return replace(
            change,
            before=replace(change.before, unanswered=before),
            after=replace(change.after, unanswered=after),
        )

    def change(
        self,
        before: Bool[np.ndarray, " question"],
        after: Bool[np.ndarray, " question"],
        among: Bool[np.ndarray, " question"],
    ) -> AnswerChange:
        """Compare the answers to some of the questions."""
        clips = np.array(self.clips)[among] if self.clips else None
        return answer_change(before[among], after[among], clips=clips)

    def best(self, arms: Sequence[ArmT]) -> ArmT:
        """The best of some arms on the half that chooses, of equal ones by lot."""
        return self.chosen(arms).arm

    def chosen(self, arms: Sequence[ArmT]) -> Choice[ArmT]:
        """The best of some arms on the half that chooses, and what it does on either half."""
        cells = np.ix_(self._rows(arms), self.chooses)
        given = self.correct[cells], None if self.margin is None else self.margin[cells]
        best = len(best_rows(*given))
        return replace(self.choice(arms[best_row(*given, seed=self.seed)]), tied=best if best > 1 else 0)

    def choice(self, arm: ArmT) -> Choice[ArmT]:
        """Compare the answers under an arm on either half."""
        return Choice(arm, *(self.change_by(arm, half) for half in (self.chooses, self.reports)))

    def _rows(self, arms: Sequence[ArmT]) -> list[int]:
        unknown = [arm for arm in arms if arm not in self._places]
        if unknown:
            raise ValueError(f"the study has no arm {unknown[0]}: those that it has are in .arms")
        return [self._places[arm] for arm in arms]


def tested(arms: Sequence[ArmT], changes: Sequence[AnswerChange]) -> tuple[Tested[ArmT], ...]:
    """Test the answers under each arm, p values corrected over all of them."""
    p_values = [change.test.p for change in changes]
    columns = zip(arms, changes, holm(p_values).tolist(), benjamini_hochberg(p_values).tolist(), strict=True)
    return tuple(Tested(*one) for one in columns)


def corrected(choices: Sequence[Choice[ArmT]]) -> tuple[Choice[ArmT], ...]:
    """The choices with their p values on the half that reports, corrected over all of them."""
    p_values = holm([choice.held_out.test.p for choice in choices]).tolist()
    return tuple(replace(choice, p_holm=p) for choice, p in zip(choices, p_values, strict=True))
