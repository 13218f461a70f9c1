"""Results of a study of who listens: hearing, heads, their listening score and steering by them.

Conventions: heads are `(layer, head)`, from 0; shares and rates are from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers
from mechaudio.analyses.listening_score import ListeningScore
from mechaudio.analyses.specialist_heads import HeadScores
from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import check_fields, n_of
from mechaudio.experiments.choosing import Choice
from mechaudio.experiments.evaluation import Failure
from mechaudio.experiments.groups import GroupChange, Groups, changes_by_group, holm_within, members
from mechaudio.experiments.steering_arms import SteeringArm, SteeringSettings
from mechaudio.experiments.steering_result import SteeringStudy
from mechaudio.metrics.clips import counted, questions_of
from mechaudio.metrics.roc import RocAuc, roc_auc
from mechaudio.results import Result, keep
from mechaudio.showing import Shown

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class SpecialistsSettings(SteeringSettings):
    """The settings that are varied: those of steering, and what the listening score is held against.

    Attributes:
        ks: Numbers of heads, as far as there are so many; the first one is reported in detail. The paper compares 10,
            20 and 30.
        draws: Sets of random heads that the listening score is held against.
        steering_draws: Sets of random heads that steering is held against.

    Raises:
        ValueError: For no K or one below one, no draws, and as `SteeringSettings`.
    """

    ks: tuple[int, ...] = (20, 10, 30)
    draws: int = 200
    steering_draws: int = 3

    def __post_init__(self):
        check_fields(self)
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks lists numbers of heads, at least one and each once, such as (20, 10); got {self.ks}")
        super().__post_init__()
        steering_settings(self)  # refuses no draws for steering


keep(SpecialistsSettings)


def steering_settings(settings: SpecialistsSettings) -> SteeringSettings:
    """Make the settings of the steering, whose half that chooses is the half that heads are chosen on."""
    shared = {field.name: getattr(settings, field.name) for field in fields(SteeringSettings)}
    return SteeringSettings(**shared | {"ks": tuple(sorted(settings.ks)), "draws": settings.steering_draws})


@dataclass(frozen=True)
class GroupAuc(Shown):
    """How well the listening score tells right from wrong in one group.

    Attributes:
        by: The grouping.
        name: Name of the group.
        n: Questions.
        auc: The area; None where fewer than two answers are right or wrong.
        p_holm: Its p value after Holm's correction over the groups of this grouping.
    """

    by: str
    name: str
    n: int
    auc: RocAuc | None
    p_holm: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SpecialistsStudy(Result):
    """A study's results.

    Attributes:
        settings: What was varied; of its `ks` those that there are heads for.
        groups: Which task, skill and so on each question is of.
        chance: For each question, the share of choices that are right.
        listening: The listening score on the other half, by number of heads.
        steering: Answers with the recording and with silence, scores of the heads, and every way of steering.
        failures: Questions that could not be asked.
        n_cut: Recordings that are longer than the model hears, of which the beginning was asked about.
    """

    settings: SpecialistsSettings
    groups: Groups
    chance: Float[np.ndarray, " question"]
    listening: Mapping[int, ListeningScore]
    steering: SteeringStudy
    failures: tuple[Failure, ...] = ()
    n_cut: int = 0

    def to_xarray(self) -> "xarray.Dataset":
        """Return the answers with the recording and with silence by question; all of the heads by layer and head."""
        data = super().to_xarray().assign_coords(question=list(self.heard.ids))
        by_question = {"correct": self.heard.correct, "silent_correct": self.silent.correct, "chooses": self.chooses}
        data = data.assign({name: ("question", values) for name, values in by_question.items()})
        return data.merge(self.scores.to_xarray()).assign_attrs(self._attrs)

    @property
    def listens(self) -> WhereItListens | None:
        """Which rows listen, on the half that chooses; None where no question of it could be asked."""
        return self.steering.listens

    @property
    def heard(self) -> AttentionAndAnswers:
        """Answers and audio attention with the recording, of all questions."""
        return self.steering.heard

    @property
    def silent(self) -> AttentionAndAnswers:
        """The evaluation with silence."""
        return self.steering.silent

    @property
    def scores(self) -> HeadScores:
        """The scores of the heads, from the half that chooses."""
        return self.steering.scores

    @property
    def k(self) -> int:
        """The number of heads that is reported in detail."""
        return self.settings.ks[0]

    @property
    def score(self) -> ListeningScore:
        """The listening score of as many heads."""
        return self.listening[self.k]

    @cached_property
    def chooses(self) -> Bool[np.ndarray, " question"]:
        """Mark the questions that choose; the others report."""
        chosen_on = set(self.scores.measured.ids)
        return np.array([name in chosen_on for name in self.heard.ids], dtype=bool)

    @cached_property
    def hearing(self) -> tuple[GroupChange, ...]:
        """Step 1: from silence to the recording, of all questions and by group."""
        return changes_by_group(self.groups, self.silent.correct, self.heard.correct, clips=self.heard.clips or None)

    @cached_property
    def tasks(self) -> tuple[str, ...] | None:
        """The task of each question that reports; None where there are no two tasks."""
        if "task" not in self.groups:
            return None
        return tuple(" + ".join(names) for names in compress(self.groups["task"], ~self.chooses))

    @cached_property
    def auc_within_tasks(self) -> RocAuc | None:
        """Step 3: how well the score tells right from wrong among questions of one task."""
        return None if self.tasks is None else self.score.auc_within(self.tasks)

    @cached_property
    def auc_by_group(self) -> tuple[GroupAuc, ...]:
        """Step 3: the same of each group by itself."""
        areas, held_out = [], ~self.chooses
        for by, name, of_group in members(self.groups):
            among = of_group[held_out]
            right = self.score.correct[among]
            enough = min(right.sum(), (~right).sum()) >= 2
            clips = np.array(self.score.clips)[among] if self.score.clips else None
            auc = roc_auc(self.score.score[among], right, clips=clips) if enough else None
            areas.append(GroupAuc(by, name, int(among.sum()), auc))
        known = [area for area in areas if area.auc is not None]
        corrected = iter(holm_within([area.by for area in known], [area.auc.p for area in known]))
        return tuple(area if area.auc is None else replace(area, p_holm=next(corrected)) for area in areas)

    def steered(self, choice: Choice[SteeringArm]) -> tuple[GroupChange, ...]:
        """Step 4: what a way of steering does to all questions that report, and by group."""
        held_out, steering = ~self.chooses, self.steering
        groups = {by: tuple(compress(named, held_out)) for by, named in self.groups.items()}
        row = steering.correct[steering.arms.index(choice.arm)]
        clips = self.score.clips or None
        return changes_by_group(groups, steering.clean_correct[held_out], row[held_out], clips=clips)

    def __repr__(self) -> str:
        sides = f"{self.chooses.sum()} choose, {(~self.chooses).sum()} report"
        return (
            f"<SpecialistsStudy of {n_of(len(self.heard.ids), 'question')} ({sides}), {len(self.failures)} not asked>"
        )

    def __str__(self) -> str:
        """The study in words, step by step."""
        lines = ["right answers with silence and with the recording, p of the change (McNemar; Holm within a grouping)"]
        for row in self.hearing:
            change = row.change
            lines.append(
                f"  {_label(row.by, row.name):48s} {change.before.value:6.1%} -> {change.after.value:6.1%} "
                f"{counted(change.n, change.test.n_clips)}, p = {row.p_holm:.3g}"
            )
        scores = self.scores
        sample = questions_of(len(scores.measured.ids), scores.measured.clips)
        lines += ["", f"heads of largest correlation with right answers, {sample}"]
        for head in scores.top(min(self.k, 10), ranking=self.settings.ranking):
            lines.append(
                f"  {head!s:9s} r {scores.r[head]:+.3f} [{scores.low[head]:+.3f}, {scores.high[head]:+.3f}] "
                f"q {scores.q[head]:.3g}, mean attention {scores.mean[head]:.3f}"
            )
        significant = int((scores.q[scores.varies] < 0.05).sum())
        lines.append(f"  {significant} of {scores.varies.sum()} heads have q < 0.05")
        lines += ["", f"listening score on the other half, {questions_of(len(self.score.ids), self.score.clips)}"]
        for k, score in self.listening.items():
            lines.append(
                f"  {k:4d} heads: {score.auc}; random heads {score.random_auc.mean():.3f}, {score.p_random:.1%} as well"
            )
        lines.append(f"  within tasks: {self.auc_within_tasks or 'no two tasks with right and wrong answers'}")
        lines += ["", str(self.steering)]
        return "\n".join(lines)


def _label(by: str, name: str) -> str:
    return name if by == name else f"{by.replace('_', ' ')}: {name.replace('_', ' ')}"
