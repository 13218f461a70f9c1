"""Report on the study of who listens: sentences made from its numbers, and how its page is laid out."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool

from mechaudio.analyses.specialist_heads import HeadScores, Ranking
from mechaudio.arguments import checks_arguments, listed, n_of
from mechaudio.experiments.specialists_result import SpecialistsStudy
from mechaudio.experiments.steering_result import AgainstControl
from mechaudio.metrics.association import FEWEST
from mechaudio.metrics.clips import counted
from mechaudio.metrics.roc import RocAuc
from mechaudio.metrics.significance import holm
from mechaudio.report.specialists_tables import PAPER, specialists_published, specialists_tables
from mechaudio.report.study_page import LISTENING, Part, Report, first_figure, report_of
from mechaudio.report.wording import (
    SIGNIFICANT,
    Finding,
    by_lot,
    heard_where,
    lacking,
    named,
    of_clips,
    p_value,
    percent,
    points,
)
from mechaudio.viz.induced_layers import induced_layers
from mechaudio.viz.listening_curve import listening_curve
from mechaudio.viz.over_strength import accuracy_over_strength
from mechaudio.viz.specialists import specialist_map
from mechaudio.viz.theme import number

_LEAD = (
    "An audio language model was asked questions with the recording and with silence. Which of its attention heads "
    "look at the audio more when the answer is right, does a score made from them tell right from wrong on other "
    "questions, and does pushing the model from silence to audio by these heads help?"
)
_PARTS = (
    LISTENING,
    Part("Right answers, with silence and with the recording", ("hearing",)),
    Part(
        "Heads that go with right answers",
        ("heads",),
        {
            "heads": "A cell is one head. Red: it gives the audio more attention when the answer is right; blue: when "
            "it is wrong. Dots mark the heads for which chance is no likely reason, all heads taken together. A "
            "correlation names heads to look at; it does not say that the answer depends on them."
        },
    ),
    Part(
        "The listening score",
        ("listening", "checks", "listening_by_group"),
        {
            "listening": "The score adds up what the strongest heads give the audio, each weighted by its correlation. "
            "Above the dotted line it tells right answers from wrong ones. Inside the band it does so no better than "
            "as many heads drawn at random."
        },
    ),
    Part(
        "Steering from silence to audio",
        ("steering", "steering_controls", "steering_by_group", "steering_heads"),
        {
            "layers": "Layer-guided steering adds, to the last layer, what hearing adds in the layers that have "
            "specialists, each weighted by how many it has: these bars. A bar inside the grey is what heads drawn at "
            "random give as well.",
            "strengths": "A line per way of steering, dotted ones are controls. Where questions choose, the best of "
            "many points looks better than it is; where they report, the ring is an honest number.",
        },
    ),
)


@checks_arguments
def specialists_figures(study: SpecialistsStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name."""
    ks, ranking = tuple(sorted(study.settings.ks)), study.settings.ranking
    return first_figure(study.listens) | {
        "heads": specialist_map(study.scores),
        "listening": listening_curve(study.listening),
        "layers": induced_layers(study.scores, ks=ks, ranking=ranking),
        "strengths": accuracy_over_strength(study.steering.over_strength),
    }


@report_of.register
def _specialists(study: SpecialistsStudy) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=specialists_findings(study),
        tables=specialists_tables(study),
        figures=specialists_figures(study),
        parts=_PARTS,
        paper=PAPER,
        published=specialists_published(),
    )


ATTENDS = 0.01
"""A head that gives audio a smaller share of its attention, in the mean, is not called a listener."""

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
    listens = heard_where(study.listens, [study.settings.queries])
    return (*listens, _hearing(study), *_heads(study), *_listening_and_checks(study), *_steering(study))


def _hearing(study: SpecialistsStudy) -> Finding:
    change = study.hearing[0].change
    differs = "differs" if change.test.p < SIGNIFICANT else "does not differ significantly"
    return Finding(
        f"With the recording {percent(change.after)} of {of_clips(change.n, change.test.n_clips, 'answer')} are right, "
        f"with silence in its place {percent(change.before)}, which {differs} ({p_value(change.test.p)}, "
        f"{named(change.test)}). Guessing would get {study.chance.mean():.1%}.",
        sure=True,
        size=1.0,  # all others are compared with it
    )


def _heads(study: SpecialistsStudy) -> list[str]:
    scores, ranking = study.scores, study.settings.ranking
    n, many = len(scores.measured.ids), int(scores.varies.sum())
    clips = len(set(scores.measured.clips)) or n
    sure = scores.varies & (scores.q < SIGNIFICANT)
    sentences: list[str] = [
        Finding(
            f"Of {n_of(many, 'head')} whose attention to audio varies, {sure.sum()} go with right answers at "
            f"a false discovery rate of {100 * SIGNIFICANT:g}% ({counted(n, clips if clips < n else None)}). "
            f"{_strongest(scores, sure, ranking)}",
            "heads",
            sure=bool(sure.any()),
            size=float(np.abs(scores.r[sure]).max(initial=0.0)) / 2,
        )
    ]
    if clips < FEWEST:
        sentences.append(f"An interval of r takes {FEWEST} clips: there is none from {n_of(clips, 'clip')}.")
    if study.k < many:
        stability = scores.stability(study.k, ranking=ranking)
        sentences.append(
            f"Other questions would choose other heads: a resample keeps {stability.overlap:.0%} of the {study.k} "
            f"[{100 * stability.low:.0f}, {100 * stability.high:.0f}], {stability.chance:.0%} by chance."
        )
        if stability.tied:
            sentences.append(
                f"{stability.tied} heads are level at place {study.k}: which of them are among the {study.k} was drawn "
                "by lot, here and in every resample."
            )
    if scores.constant.any():
        sentences.append(
            f"The share of attention on audio is the same in every question for {n_of(scores.constant.sum(), 'head')}."
        )
    return sentences


def _strongest(scores: HeadScores, sure: Bool[np.ndarray, "layer head"], ranking: Ranking) -> str:
    """The head of largest correlation among those that are significant and attend to audio at all."""
    attending = sure & (scores.mean >= ATTENDS)
    share = f"{100 * ATTENDS:g}% of its attention"
    if not sure.any():
        return "None is named here: the largest correlation of so many is large by chance alone."
    if not attending.any():
        return f"None of these gives audio as much as {share}, so none is called a listener."
    strength = np.where(attending, np.abs(scores.r) if ranking == "magnitude" else scores.r, -np.inf)
    layer, head = np.unravel_index(int(strength.argmax()), strength.shape)
    low, high = scores.low[layer, head], scores.high[layer, head]
    ends = "" if np.isnan(low) else f" [{number(low, 2, '+')}, {number(high, 2, '+')}]"
    level = int((strength >= strength.max() - 1e-9).sum())
    level_with = f", one of {level} that are level" if level > 1 else ""
    return (
        f"The strongest of those that give audio {share} or more is head {head} of layer {layer}{level_with}: r = "
        f"{number(scores.r[layer, head], 2, '+')}{ends}, q = {scores.q[layer, head]:.2g}, mean attention to audio "
        f"{scores.mean[layer, head]:.1%}."
    )


def _listening_and_checks(study: SpecialistsStudy) -> list[str]:
    """Describe the listening score: one family of tests, whose p values are corrected together (Holm)."""
    score, within, check = study.score, study.auc_within_tasks, study.score.listening()
    p_values = {"auc": score.auc.p, "random": score.p_random}
    areas = {"within": within, **vars(check)}
    p_values |= {name: area.p for name, area in areas.items() if area is not None}
    p = dict(zip(p_values, holm(list(p_values.values())).tolist(), strict=True))
    auc = score.auc
    tells = "tells" if p["auc"] < SIGNIFICANT and auc.value > 0.5 else "does not tell"
    better = "better than" if p["random"] < SIGNIFICANT else "no better than"
    n = of_clips(len(score.ids), auc.n_clips)
    sentences: list[str] = [
        Finding(
            f"On the {n} that the heads were not chosen on, the listening score of {n_of(study.k, 'head')} {tells} "
            f"right answers from wrong ones: AUC {_area(auc, p['auc'])}. It is {better} heads drawn at random, which "
            f"reach {score.random_auc.mean():.3f} in the mean; {score.p_random:.0%} of the sets do as well "
            f"({p_value(p['random'])}, Holm).",
            "listening",
            sure=p["auc"] < SIGNIFICANT,
            size=auc.value - 0.5,
        )
    ]
    if within is not None:
        stays = "stays above" if p["within"] < SIGNIFICANT and within.value > 0.5 else "is not significantly above"
        sentences.append(
            f"Among questions of one task, where easy and hard tasks cannot be the reason, it {stays} 0.5: AUC "
            f"{_area(within, p['within'])}."
        )
    first = check.everywhere
    lower = first is not None and p["everywhere"] < SIGNIFICANT and first.value < 0.5
    sentences.append(
        f"Where the recording changes the answer, the score {_higher(first, p.get('everywhere'))}"
        + (": a score of listening should be higher there." if lower else ".")
    )
    for where in ("right", "wrong"):
        name = f"within_{where}"
        compared = _higher(getattr(check, name), p.get(name))
        sentences.append(f"Among the {where} answers alone, where the recording changes the answer, it {compared}.")
    return sentences


def _steering(study: SpecialistsStudy) -> list[str]:
    steering = study.steering
    sentences = [*lacking(steering.unanswered)]
    for choice in steering.choices:
        change, test = choice.held_out.change, choice.held_out.test
        sure = choice.p_holm < SIGNIFICANT
        does = "raises" if change.value > 0 else "lowers"
        sentences.append(
            Finding(
                f"{_STEERING[choice.arm.kind]} ({choice.arm.where}, strength {choice.arm.strength:g}) "
                f"{does if sure else 'does not significantly change'} the share of right answers on the half that "
                f"reports: {points(change)}, {test.fixed} fixed and {test.broken} broken of {test.n} "
                f"({p_value(choice.p_holm)}, Holm). On the half that chose it, it changed it by "
                f"{number(100 * choice.chosen_on.change.value, 1, '+')} points{by_lot(choice)}.",
                "strengths",
                sure=sure,
                size=change.value,
            )
        )
    for kind in ("layer-guided", "head by head"):
        beside = [contrast for contrast in steering.against_controls if contrast.kind == kind]
        beaten = [_CONTROLS[contrast.control] for contrast in beside if _beaten(contrast)]
        others = [_CONTROLS[contrast.control] for contrast in beside if not _beaten(contrast)]
        gains = [contrast.gain.value for contrast in beside if _beaten(contrast)]
        sentences.append(
            Finding(
                f"{_STEERING[kind]} is "
                + (f"significantly better than {listed(beaten)}" if beaten else "")
                + (", and " if beaten and others else "")
                + (f"not significantly better than {listed(others, 'or')}" if others else "")
                + " (Holm).",
                "strengths",
                sure=bool(beaten),
                size=max(gains, default=0.0),
            )
        )
    return sentences


def _beaten(contrast: AgainstControl) -> bool:
    return contrast.gain.value > 0 and contrast.p_holm < SIGNIFICANT


def _higher(area: RocAuc | None, p: float | None) -> str:
    if area is None or p is None:
        return "could not be compared: there are too few such questions"
    if p >= SIGNIFICANT:
        return f"is not significantly different (AUC {_area(area, p)})"
    return f"is {'higher' if area.value > 0.5 else 'lower'} (AUC {_area(area, p)})"


def _area(area: RocAuc, p: float) -> str:
    return f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}], {p_value(p)}, Holm"
