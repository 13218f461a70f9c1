"""What a study of who listens found, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.specialists_result import SpecialistsStudy
from mechaudio.experiments.steering_result import AgainstControl
from mechaudio.metrics.roc import RocAuc
from mechaudio.report.wording import SIGNIFICANT, p_value, percent, points

_FEW = 30
"""Fewer questions make percentile intervals of a correlation markedly too narrow."""

_STEERING = {
    "layer-guided": "Layer-guided steering",
    "single layer": "Steering from a single layer",
    "head by head": "Steering head by head",
}
_CONTROLS = {
    "random heads": "as many random heads",
    "random direction": "random directions",
    "another question": "the directions of other questions",
    "best single layer": "the best single layer",
}


@checks_arguments
def specialists_findings(study: SpecialistsStudy) -> tuple[str, ...]:
    """One sentence or two per step of the study; each says what the numbers say, whichever way they fall."""
    return (_hearing(study), *_heads(study), *_listening(study), *_checks(study), *_steering(study))


def _hearing(study: SpecialistsStudy) -> str:
    change = study.hearing[0].change
    differs = "differs" if change.test.p < SIGNIFICANT else "does not differ significantly"
    return (
        f"With the recording {percent(change.after)} of {change.n} answers are right, with silence in its place "
        f"{percent(change.before)}, which {differs} ({p_value(change.test.p)}, McNemar). Guessing would get "
        f"{100 * study.chance.mean():.1f} %."
    )


def _heads(study: SpecialistsStudy) -> list[str]:
    scores, ranking = study.scores, study.settings.ranking
    n, many = len(scores.measured.ids), int(scores.varies.sum())
    sure = int((scores.q[scores.varies] < SIGNIFICANT).sum())
    first = scores.top(1, ranking=ranking)[0]
    told = [
        f"Of {many} heads whose attention to audio varies, {sure} go with right answers at a false discovery rate of "
        f"{100 * SIGNIFICANT:g} % (n = {n}). The strongest is head {first[1]} of layer {first[0]}: r = "
        f"{scores.r[first]:+.2f} [{scores.low[first]:+.2f}, {scores.high[first]:+.2f}], mean attention to audio "
        f"{100 * scores.mean[first]:.1f} %."
    ]
    if n < _FEW:
        told.append(f"From as few as {n} questions the interval of r is too narrow.")
    if study.k < many:
        found = scores.stability(study.k, ranking=ranking)
        told.append(
            f"Other questions would choose other heads: a resample keeps {100 * found.overlap:.0f} % of the {study.k} "
            f"[{100 * found.low:.0f}, {100 * found.high:.0f}], {100 * found.chance:.0f} % by chance."
        )
    if scores.constant.any():
        told.append(f"{scores.constant.sum()} heads give the audio the same share in every question.")
    return told


def _listening(study: SpecialistsStudy) -> list[str]:
    score = study.score
    auc, special = score.auc, score.p_random < SIGNIFICANT
    tells = "tells" if auc.p < SIGNIFICANT and auc.value > 0.5 else "does not tell"
    better = "better than" if special else "no better than"
    told = [
        f"On the {len(score.ids)} questions that the heads were not chosen on, the listening score of {study.k} heads "
        f"{tells} right answers from wrong ones: AUC {_area(auc)}. It is {better} heads drawn at random, which reach "
        f"{score.random_auc.mean():.3f} in the mean; {100 * score.p_random:.0f} % of the sets do as well."
    ]
    within = study.auc_within_tasks
    if within is not None:
        stays = "stays above" if within.p < SIGNIFICANT and within.value > 0.5 else "is not significantly above"
        told.append(
            f"Among questions of one task, where easy and hard tasks cannot be the reason, it {stays} 0.5: AUC "
            f"{_area(within)}."
        )
    return told


def _checks(study: SpecialistsStudy) -> list[str]:
    found = study.score.listening()
    told = [
        f"Where the recording changes the answer, the score is {_higher(found.everywhere)}"
        + (": a score of listening should be higher there." if _lower(found.everywhere) else ".")
    ]
    for where, area in (("right", found.within_right), ("wrong", found.within_wrong)):
        told.append(f"Among the {where} answers alone, it is {_higher(area)} where the recording changes the answer.")
    return told


def _steering(study: SpecialistsStudy) -> list[str]:
    steering, told = study.steering, []
    for choice in steering.choices:
        change, test = choice.held_out.change, choice.held_out.test
        sure = choice.p_holm < SIGNIFICANT
        does = "raises" if change.value > 0 else "lowers"
        told.append(
            f"{_STEERING[choice.arm.kind]} ({choice.arm.where}, strength {choice.arm.strength:g}) "
            f"{does if sure else 'does not significantly change'} the share of right answers on the half that reports: "
            f"{points(change)}, {test.fixed} fixed and {test.broken} broken of {test.n} ({p_value(choice.p_holm)}, "
            "Holm). On the half that chose it, "
            f"it changed it by {100 * choice.chosen_on.change.value:+.1f} points."
        )
    for kind in ("layer-guided", "head by head"):
        beside = [one for one in steering.against_controls if one.kind == kind]
        beaten = [one.control for one in beside if _beaten(one)]
        others = [one.control for one in beside if not _beaten(one)]
        told.append(
            f"{_STEERING[kind]} is significantly better than {_listed(beaten, 'and') or 'none of its controls'} (Holm)"
            + (f", and not than {_listed(others, 'or')}." if beaten and others else ".")
        )
    return told


def _beaten(one: AgainstControl) -> bool:
    return one.gain.value > 0 and one.p_holm < SIGNIFICANT


def _listed(names: Sequence[str], last: str) -> str:
    told = [_CONTROLS[name] for name in names]
    return f" {last} ".join([", ".join(told[:-1]), told[-1]]) if len(told) > 1 else "".join(told)


def _lower(area: RocAuc | None) -> bool:
    return area is not None and area.p < SIGNIFICANT and area.value < 0.5


def _higher(area: RocAuc | None) -> str:
    if area is None:
        return "not known to differ, for want of questions,"
    if area.p >= SIGNIFICANT:
        return f"not significantly different (AUC {_area(area)})"
    return f"{'higher' if area.value > 0.5 else 'lower'} (AUC {_area(area)})"


def _area(area: RocAuc) -> str:
    return f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}], {p_value(area.p)}"
