"""Results of the temporal study: every arm with its test, chosen on one half and reported on the other.

Conventions: layers count from 0; shares and rates are from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.experiments.choosing import Choice, Halves, Tested
from mechaudio.experiments.evaluation import Comparison, Evaluation, Failure
from mechaudio.experiments.temporal_arms import Arm, TemporalSettings
from mechaudio.labelled import joined_along
from mechaudio.metrics.choices import chance
from mechaudio.metrics.clips import counted
from mechaudio.metrics.estimates import Estimate
from mechaudio.metrics.significance import McNemar, holm, mcnemar, paired_difference
from mechaudio.results import Result
from mechaudio.showing import Shown

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class PairedComparison(Shown):
    """Two ways of answering the same questions compared.

    Attributes:
        n: Questions that were answered both ways.
        change: Share right in the second minus share right in the first.
        test: McNemar's; `fixed` is wrong in the first and right in the second.
        p_holm: Its p value after Holm's correction, over the contrasts of its step.
    """

    n: int
    change: Estimate
    test: McNemar
    p_holm: float


@dataclass(frozen=True, eq=False, kw_only=True)
class TemporalStudy(Result):
    """A study's results.

    Best is the arm with most right answers on the half that chooses; of equally many, one drawn by lot (`Choice.tied`).
    Questions of one clip are on one side, and a cluster in every interval and test.

    Attributes:
        conditions: The answers in each condition.
        roles: Roles of tokens.
        attention: Attention of the last position to each role, in the mean over heads; NaN in layers without attention.
        compared: The answers with the recording, without a change and under every arm.
        arms: What the variants of `compared` are.
        chooses: Which questions choose in step 5; the others report.
        settings: What was varied, with the rows that listen in the place of `listening`.
        listens: Which rows listen, on the half that chooses; None where no question of it could be asked.
    """

    conditions: Mapping[str, Evaluation]
    roles: tuple[str, ...]
    attention: Float[np.ndarray, "measured layer role"]
    compared: Comparison
    arms: tuple[Arm, ...]
    chooses: Bool[np.ndarray, " question"]
    settings: TemporalSettings
    listens: WhereItListens | None = None

    _table_axes = ("condition", "question")

    def to_xarray(self) -> "xarray.Dataset":
        """Return the answers in each condition, with an axis `condition`; those under each arm are in `compared`."""
        conditions = {name: answers.to_xarray() for name, answers in self.conditions.items()}
        return joined_along("condition", conditions).assign_attrs(self._attrs)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Questions that could not be asked."""
        return self.compared.clean.failures

    @property
    def chance(self) -> float:
        """The share of right answers of one who guesses."""
        clean = self.compared.clean
        return float(chance(clean.options, clean.answers)[clean.scored].mean())

    @cached_property
    def against_audio(self) -> Mapping[str, PairedComparison]:
        """Steps 1 and 2: each other condition compared with the recording, on the questions asked in both."""
        heard, named = _by_place(self.conditions["audio"])
        pairs, clips = {}, {}
        for condition, answers in self.conditions.items():
            if condition != "audio":
                other, _ = _by_place(answers)
                both = [place for place in heard if place in other]
                pairs[condition] = [np.array([right[place] for place in both]) for right in (heard, other)]
                clips[condition] = [named[place] for place in both] if named else None
        return _contrasts({condition: pair for condition, pair in pairs.items() if len(pair[0])}, clips)

    @cached_property
    def uniform(self) -> tuple[Tested[Arm], ...]:
        """Step 4: the arms that change all layers."""
        return self._halves.tested([arm for arm in self.arms if arm.layer is None and not arm.control])

    @cached_property
    def controls(self) -> tuple[Tested[Arm], ...]:
        """Step 4: their controls."""
        return self._halves.tested([arm for arm in self.arms if arm.control])

    @cached_property
    def targeted(self) -> tuple[Tested[Arm], ...]:
        """Step 5: the arms that change one layer."""
        return self._halves.tested(self._of_layers)

    @cached_property
    def best_layer(self) -> Choice[Arm]:
        """The best layer and factor of one half, on the other."""
        return self._halves.chosen(self._of_layers)

    @cached_property
    def best_uniform(self) -> Choice[Arm]:
        """The best factor for all layers of one half, on the other; at the query rows of `best_layer`."""
        rows = self.best_layer.arm.queries
        return self._halves.chosen([arm for arm in self._of_all_layers("scaling") if arm.queries == rows])

    @cached_property
    def best_scaling(self) -> Choice[Arm]:
        """The best factor and query rows for all layers of one half, on the other."""
        return self._halves.chosen(self._of_all_layers("scaling"))

    @cached_property
    def best_upweighting(self) -> Choice[Arm]:
        """The best bias and query rows for all layers of one half, on the other."""
        return self._halves.chosen(self._of_all_layers("upweighting"))

    def best_fixing(self, kind: str) -> Choice[Arm]:
        """The strength and query rows, for all layers, that fix most wrong answers of one half, on the other.

        Raises:
            ValueError: No answer of the half that chooses is wrong, or no arm is of this kind.
        """
        wrong = self._halves.chooses & ~self._halves.clean_correct
        chosen = replace(self._halves, chooses=wrong).chosen(self._of_all_layers(kind))
        return replace(self._halves.choice(chosen.arm), tied=chosen.tied)

    @cached_property
    def random_fix_rate(self) -> Estimate | None:
        """The fix rate of random answers on the half that reports; None where a half has no wrong answer to fix."""
        halves = self._halves
        if any(halves.clean_correct[half].all() for half in (halves.chooses, halves.reports)):
            return None
        return self.compared.random_fix_rate_among(halves.reports).uniform

    @property
    def layer_against_uniform(self) -> PairedComparison:
        """`best_layer` after `best_uniform`, on the half that did not choose."""
        return self._held_out_contrasts["layer"]

    @property
    def scaling_against_upweighting(self) -> PairedComparison:
        """`best_scaling` after `best_upweighting`, on the half that did not choose."""
        return self._held_out_contrasts["scaling"]

    @cached_property
    def _held_out_contrasts(self) -> Mapping[str, PairedComparison]:
        pairs = {
            "layer": (self.best_uniform, self.best_layer),
            "scaling": (self.best_upweighting, self.best_scaling),
        }
        return _contrasts(
            {
                name: [self._halves.row(choice.arm)[self._halves.reports] for choice in pair]
                for name, pair in pairs.items()
            },
            dict.fromkeys(pairs, self.compared.clean.clips_among(self._halves.reports)),
        )

    @property
    def random_layer(self) -> float:
        """Change of accuracy on the half that reports, with the factor of `best_layer` in a layer drawn at random.

        The mean over all layers: what choosing the layer has to be better than.
        """
        factor, halves = self.best_layer.arm.strength, self._halves
        rows = halves.rows([arm for arm in self._of_layers if arm.strength == factor])
        return float(rows[:, halves.reports].mean() - halves.clean_correct[halves.reports].mean())

    @property
    def _of_layers(self) -> list[Arm]:
        return [arm for arm in self.arms if arm.layer is not None]

    def _of_all_layers(self, kind: str) -> list[Arm]:
        return [arm for arm in self.arms if arm.kind == kind and arm.layer is None and not arm.control]

    @cached_property
    def _halves(self) -> Halves[Arm]:
        return Halves.of(self.arms, self.compared, self.chooses, by_margin=False, seed=self.settings.seed)

    def __str__(self) -> str:
        """The study in words, step by step."""
        lines = ["accuracy"]
        for condition, answers in self.conditions.items():
            for task, score in {**answers.by_task(), "all": answers.overall}.items():
                interval = f"[{score.low:.1%}, {score.high:.1%}] {counted(score.n, score.n_clips)}"
                lines.append(f"  {condition:14s} {task.replace('_', ' '):17s} {score.value:6.1%} {interval}")
        lines += ["", "attention of the last position, in the mean over heads and questions"]
        lines.append("  layer " + " ".join(f"{role:>9s}" for role in self.roles))
        for layer, shares in enumerate(self.attention.mean(0)):
            lines.append(f"  {layer:5d} " + " ".join(f"{share:9.3f}" for share in shares))
        lines += ["", "all layers: fixed of the wrong, broken of the right, change of accuracy in points, p (Holm)"]
        for tested in (*self.uniform, *self.controls):
            fix, broken = (
                rate.value if rate else float("nan") for rate in (tested.change.fix_rate, tested.change.break_rate)
            )
            lines.append(
                f"  {tested.arm!s:60s} {fix:6.1%} {broken:6.1%} {100 * tested.change.change.value:+7.1f} "
                f"{tested.p_holm:.3g}"
            )
        if not self.compared.clean.correct[self.compared.clean.scored].all():
            lines.append(f"  {'answers at random':60s} {self.compared.random_fix_rate.uniform.value:6.1%}")
        lines += ["", "chosen on one half of the questions, reported on the other"]
        for choice in (self.best_layer, self.best_uniform, self.best_scaling, self.best_upweighting):
            lines.append(f"  {choice.arm!s:60s} {choice.held_out.change.in_points()}")
        lines.append(
            f"  {'the best factor of one layer, in one drawn at random':60s} {100 * self.random_layer:+.1f} points"
        )
        lines.append(f"  one layer against all: {self.layer_against_uniform.test}")
        lines.append(f"  scaling against upweighting: {self.scaling_against_upweighting.test}")
        return "\n".join(lines)


def _by_place(answers: Evaluation) -> tuple[dict[int, bool], dict[int, str]]:
    """Right or wrong, of unscored questions nothing, and the clips if they are known, by a question's place among all.

    Places are those among all that were asked, whatever their ids.
    """
    failed = {failure.index for failure in answers.failures}
    answered = [place for place in range(len(answers.ids) + len(failed)) if place not in failed]
    rows = zip(answered, answers.correct.tolist(), answers.scored.tolist(), strict=True)
    clips = dict(zip(answered, answers.clips, strict=True)) if answers.clips else {}
    return {place: right for place, right, scored in rows if scored}, clips


def _contrasts(
    pairs: Mapping[str, Sequence[Bool[np.ndarray, " question"]]], clips: Mapping[str, Sequence[str] | None]
) -> dict[str, PairedComparison]:
    tests = {name: mcnemar(*pair, clips=clips[name]) for name, pair in pairs.items()}
    corrected = holm([test.p for test in tests.values()]).tolist() if tests else []
    return {
        name: PairedComparison(test.n, paired_difference(*pairs[name], clips=clips[name]), test, p_holm)
        for (name, test), p_holm in zip(tests.items(), corrected, strict=True)
    }
