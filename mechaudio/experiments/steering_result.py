"""Results of a steering study: what one half of the questions chose, and what it does on the other.

Conventions: heads are `(layer, head)`; shares are from 0 to 1; intervals are at 95%.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers
from mechaudio.analyses.specialist_heads import HeadScores
from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import n_of
from mechaudio.experiments.choosing import Choice, Halves, corrected
from mechaudio.experiments.over_strength import OverStrength, StrengthLine
from mechaudio.experiments.steering_arms import CONTROLS, SteeringArm, SteeringSettings
from mechaudio.metrics.bootstrap import mean_estimate
from mechaudio.metrics.estimates import Estimate
from mechaudio.metrics.multiple_choice import AnswerChange, accuracy
from mechaudio.metrics.significance import holm, paired_difference, sign_flip_test
from mechaudio.results import Result
from mechaudio.showing import Shown


@dataclass(frozen=True)
class AgainstControl(Shown):
    """A kind of steering beside one of its controls, each as it was chosen, on the half that reports.

    Attributes:
        kind: The kind of steering.
        control: What is at random in the control.
        accuracies: Accuracies of the control, one per draw.
        gain: Accuracy of steering minus that of the control, in the mean over draws. Its interval is that of a paired
            difference where there is one draw, and a bootstrap interval over clips where there are several.
        p: P value of the test of signs over clips; where there is one draw, McNemar's.
        p_holm: After Holm's correction over all these tests.
    """

    kind: str
    control: str
    accuracies: tuple[float, ...]
    gain: Estimate
    p: float
    p_holm: float


@dataclass(frozen=True, eq=False, kw_only=True)
class SteeringStudy(Result):
    """A study's results.

    Attributes:
        heard: Answers and audio attention with the recording, without steering, of all questions.
        silent: With silence.
        scores: Scores of the heads, on the half that chooses.
        arms: The ways of steering.
        correct: Whether each answer is right.
        margin: Logit of the right choice minus that of the best wrong one.
        clean_correct: Whether each answer is right without steering.
        chooses: Which questions choose; the others report.
        ids: Ids of the questions.
        tasks: Tasks of the questions; an empty text where a question names none.
        settings: What was varied, with the rows that listen in the place of `listening`.
        listens: Which rows listen, on the half that chooses; None where no question of it could be asked.
    """

    heard: AttentionAndAnswers
    silent: AttentionAndAnswers
    scores: HeadScores
    arms: tuple[SteeringArm, ...]
    correct: Bool[np.ndarray, "arm question"]
    margin: Float[np.ndarray, "arm question"]
    clean_correct: Bool[np.ndarray, " question"]
    chooses: Bool[np.ndarray, " question"]
    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    settings: SteeringSettings
    listens: WhereItListens | None = None

    _table_axes = ("arm", "question")
    _derived = ("unanswered",)

    @property
    def accuracy(self) -> Float[np.ndarray, " arm"]:
        """The share of right answers with each way of steering."""
        return self.correct.mean(1)

    @cached_property
    def choices(self) -> tuple[Choice[SteeringArm], ...]:
        """The choice of every kind, its controls left out."""
        return corrected([self._chosen(kind, "", 0) for kind in CONTROLS])

    @cached_property
    def controls(self) -> tuple[Choice[SteeringArm], ...]:
        """The choice of every control, and of every draw of it."""
        return corrected(
            [
                self._chosen(kind, control, draw)
                for kind, controls in CONTROLS.items()
                for control in controls
                for draw in self._draws(kind, control)
            ]
        )

    @cached_property
    def against_controls(self) -> tuple[AgainstControl, ...]:
        """Every kind beside each of its controls; layer-guided steering beside the best single layer too."""
        pairs = [(kind, control, kind) for kind, controls in CONTROLS.items() for control in controls]
        contrasts = [
            self._against(kind, control, of) for kind, control, of in [*pairs, ("layer-guided", "", "single layer")]
        ]
        p_values = holm([contrast.p for contrast in contrasts]).tolist()
        return tuple(replace(contrast, p_holm=p) for contrast, p in zip(contrasts, p_values, strict=True))

    @property
    def by_k(self) -> tuple[Choice[SteeringArm], ...]:
        """The choices for each number of heads, of specialists and of every draw of random heads."""
        return corrected(
            [
                self._halves.chosen([arm for arm in self._arms(kind, control, draw) if arm.k == k])
                for kind in ("layer-guided", "head by head")
                for control in ("", "random heads")
                for k in dict.fromkeys(arm.k for arm in self.arms if arm.k is not None)
                for draw in self._draws(kind, control)
            ]
        )

    @property
    def over_strength(self) -> OverStrength:
        """Right answers over strengths: each kind and control with the heads, layer and place that were chosen."""
        lines = []
        for kind, controls in CONTROLS.items():
            for control in ("", *controls):
                chosen = [self._chosen(kind, control, draw).arm for draw in self._draws(kind, control)]
                rows = np.mean([self._halves.rows(self._same_setting(arm)) for arm in chosen], axis=0)
                single = len(chosen) == 1
                strengths = tuple(sorted({arm.strength for arm in self.arms}))
                name = f"{chosen[0].name}, {chosen[0].where}" if single else f"{chosen[0].name} (mean of {len(chosen)})"
                best_at = strengths.index(chosen[0].strength) if single else None
                lines.append(
                    StrengthLine(name, strengths, rows.astype(bool) if single else rows, best_at, bool(control))
                )
        return OverStrength(tuple(lines), self.clean_correct, self.chooses, "strength (lambda)", self.clips)

    @property
    def unanswered(self) -> Bool[np.ndarray, "arm question"]:
        """Questions without an answer under an arm, because logits of their choices are NaN or overflow."""
        return np.isnan(self.margin)

    def change(self, arm: SteeringArm, among: Bool[np.ndarray, " question"]) -> AnswerChange:
        """Compare the answers to some of the questions under a way of steering.

        Raises:
            ValueError: It is none of the study's.
        """
        return self._halves.change_by(arm, among)

    def by_task(self, arm: SteeringArm) -> dict[str, AnswerChange]:
        """Compare the answers of each task that is named under a way of steering, on the half that reports.

        Raises:
            ValueError: It is none of the study's.
        """
        tasks = np.array(self.tasks)
        members = {task: ~self.chooses & (tasks == task) for task in dict.fromkeys(self.tasks) if task}
        return {task: self.change(arm, of_task) for task, of_task in members.items() if of_task.any()}

    @property
    def clips(self) -> tuple[str, ...]:
        """Name of the clip of each question."""
        return self.heard.clips

    @property
    def _reporting_clips(self) -> tuple[str, ...] | None:
        return tuple(compress(self.clips, ~self.chooses)) if self.clips else None

    def _draws(self, kind: str, control: str) -> list[int]:
        return sorted({arm.draw for arm in self.arms if (arm.kind, arm.control) == (kind, control)})

    def _arms(self, kind: str, control: str, draw: int) -> list[SteeringArm]:
        return [arm for arm in self.arms if (arm.kind, arm.control, arm.draw) == (kind, control, draw)]

    def _same_setting(self, arm: SteeringArm) -> list[SteeringArm]:
        """The arms that differ in strength alone, weakest first."""
        same = [other for other in self.arms if other.setting == arm.setting]
        return sorted(same, key=lambda other: other.strength)

    def _chosen(self, kind: str, control: str, draw: int) -> Choice[SteeringArm]:
        return self._halves.chosen(self._arms(kind, control, draw))

    @cached_property
    def _halves(self) -> Halves[SteeringArm]:
        return Halves(
            self.arms,
            self.correct,
            self.clean_correct,
            self.chooses,
            ~self.chooses,
            self.margin,
            self.clips,
            self.settings.seed,
            self.unanswered,
        )

    def _against(self, kind: str, control: str, of: str) -> AgainstControl:
        """A kind beside a control of `of`."""
        choices = [self._chosen(kind, "", 0), *(self._chosen(of, control, draw) for draw in self._draws(of, control))]
        steered, *rows = (self._halves.row(choice.arm)[~self.chooses] for choice in choices)
        p = sign_flip_test(len(rows) * steered.astype(int) - np.sum(rows, axis=0), clips=self._reporting_clips)
        accuracies = tuple(float(row.mean()) for row in rows)
        return AgainstControl(kind, control or "best single layer", accuracies, self._gain(steered, rows), p, p)

    def _gain(self, steered: Bool[np.ndarray, " question"], rows: list[Bool[np.ndarray, " question"]]) -> Estimate:
        clips = self._reporting_clips
        if len(rows) == 1:
            return paired_difference(rows[0], steered, clips=clips)
        gains = steered - np.mean(rows, axis=0)
        return mean_estimate(gains, clips=clips or None, seed=self.settings.seed)

    def __str__(self) -> str:
        """The study in words."""
        clean = accuracy(self.clean_correct[~self.chooses], clips=self._reporting_clips)
        lines = [
            f"{n_of(self.chooses.sum(), 'question chooses', 'questions choose')}; of the other "
            f"{clean.n}, {clean} are right without steering"
        ]
        if missing := int(self.unanswered.sum()):
            lines.append(f"{missing} of the {self.margin.size} answers with steering are NaN, and count as not right")
        for choice in self.choices:
            change, test = choice.held_out.change, choice.held_out.test
            moved = f"{test.fixed} fixed, {test.broken} broken"
            lines.append(f"  {choice.arm!s:68s} {change.in_points()}; {moved}, p = {choice.p_holm:.3g} (Holm)")
        lines.append("each beside its controls: accuracy more than the control's")
        for contrast in self.against_controls:
            draws = f", {len(contrast.accuracies)} draws" if len(contrast.accuracies) > 1 else ""
            name = f"{contrast.kind} against {contrast.control}{draws}"
            lines.append(f"  {name:68s} {contrast.gain.in_points()}; p = {contrast.p_holm:.3g} (Holm)")
        return "\n".join(lines)
