"""Report on the temporal study: sentences made from its numbers, and how its page is laid out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.temporal_arms import Arm
from mechaudio.experiments.temporal_result import PairedComparison, TemporalStudy
from mechaudio.metrics.clips import counted
from mechaudio.report.study_page import LISTENING, Part, Report, first_figure, report_of
from mechaudio.report.temporal_tables import PAPER, temporal_published, temporal_tables
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
from mechaudio.viz.temporal import temporal_accuracies, temporal_attention, temporal_fixes, temporal_layers
from mechaudio.viz.theme import number
from mechaudio.viz.variants import excludes_zero

_LEAD = (
    "An audio language model was asked what sounds first, last or longest: with the recording, with a caption and with "
    "silence. Then its attention to the audio was changed while it answered, in all layers and in one."
)
_PARTS = (
    LISTENING,
    Part(
        "Right answers, and what is left without hearing",
        ("accuracies",),
        {
            "accuracies": "A group of bars per task, a bar per condition. Where the bar of silence is as high as that "
            "of the recording, the answers did not come from listening; the dotted line is what guessing gets right."
        },
    ),
    Part(
        "Where the last position looks",
        ("attention",),
        {
            "attention": "Before it answers, the model spreads 100% of its attention over everything in front of it. "
            "Thick lines are audio and text as wholes, dotted ones the parts of the text and the template (fixed words "
            "and markers)."
        },
    ),
    Part(
        "Attention to audio changed in all layers",
        ("all_layers", "controls"),
        {
            "fixes": "Above, wrong answers that became right; below, right ones that became wrong. Answers at random "
            "fix some too: a fix rate inside the band is no sign of listening, and one that comes with as many broken "
            "answers helps nobody."
        },
    ),
    Part(
        "Attention to audio changed in one layer",
        ("held_out", "one_layer"),
        {
            "layers": "A line per factor: what becomes of the answers if audio scores are scaled in that one layer. "
            "Points above the band are better than no change, but the best of many points looks better than it is: the "
            "ring was chosen on one half of the questions, and its change on the other half is in the line above."
        },
    ),
)


@checks_arguments
def temporal_figures(study: TemporalStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name; `fixes` only where some answers are wrong and some right without a change."""
    clean = study.compared.clean
    right = clean.correct[clean.scored]
    drawn = first_figure(study.listens) | {
        "accuracies": temporal_accuracies(study),
        "attention": temporal_attention(study),
    }
    if right.any() and not right.all():
        drawn["fixes"] = temporal_fixes(study)
    return drawn | {"layers": temporal_layers(study)}


@report_of.register
def _temporal(study: TemporalStudy) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=temporal_findings(study),
        tables=temporal_tables(study),
        figures=temporal_figures(study),
        parts=_PARTS,
        paper=PAPER,
        published=temporal_published(),
    )


@checks_arguments
def temporal_findings(study: TemporalStudy) -> tuple[str, ...]:
    """One sentence or two per step of the study; each says what the numbers say, whichever way they fall."""
    return (
        *heard_where(study.listens, (*study.settings.queries, study.settings.targeted)),
        *_conditions(study),
        *lacking(study.compared.unanswered, int(study.compared.clean.unanswered.sum())),
        _attention(study),
        _changed("changes in all layers", study.uniform),
        *_fixes(study),
        _changed("controls", study.controls),
        _scaling_or_upweighting(study),
        *_layers(study),
    )


def _conditions(study: TemporalStudy) -> list[str]:
    recording = study.conditions["audio"]
    sentences: list[str] = [
        Finding(
            f"With the recording {percent(recording.overall)} of "
            f"{of_clips(recording.overall.n, recording.overall.n_clips, 'answer')} are right.",
            "accuracies",
            sure=True,
            size=1.0,  # all others are compared with it
        )
    ]
    for name, words in (
        ("silence", "With silence in its place"),
        ("caption", "With a caption instead"),
        ("audio+caption", "With both"),
    ):
        answers = study.conditions.get(name)
        if answers is None:
            continue
        contrast = study.against_audio.get(name)
        if contrast is None:
            sentences.append(f"{words} {percent(answers.overall)} are right; no question was answered both ways.")
            continue
        differs = "differs" if contrast.p_holm < SIGNIFICANT else "does not differ significantly"
        sentences.append(
            Finding(
                f"{words} {percent(answers.overall)} are right, which {differs} from the recording "
                f"({p_value(contrast.p_holm)}, {named(contrast.test)}, Holm).",
                "accuracies",
                sure=contrast.p_holm < SIGNIFICANT,
                size=contrast.change.value,
            )
        )
    return sentences


def _attention(study: TemporalStudy) -> str:
    audio = study.attention.mean(0)[:, study.roles.index("audio")]
    most = int(np.nanargmax(audio))
    return Finding(
        f"The last position gives audio {np.nanmean(audio):.1%} of its attention in the mean over layers, most "
        f"in layer {most} ({audio[most]:.1%}).",
        "attention",
        sure=True,
        size=0.0,  # of attention, not of answers
    )


def _changed(what: str, arms: Sequence[Tested[Arm]]) -> str:
    sure = [tested for tested in arms if tested.p_holm < SIGNIFICANT]
    better = sum(tested.change.change.value > 0 for tested in sure)
    return Finding(
        f"Of {len(arms)} {what}, {better} raise and {len(sure) - better} lower the share of right answers "
        f"significantly (p < {SIGNIFICANT} after Holm's correction).",
        "fixes",
        sure=bool(sure),
        size=max((abs(tested.change.change.value) for tested in sure), default=0.0),
    )


def _fixes(study: TemporalStudy) -> list[str]:
    null = study.random_fix_rate
    if null is None:
        where = "" if study.compared.clean.correct[study.compared.clean.scored].all() else "On one of the halves "
        return [f"{where}{'n' if where else 'N'}o answer was wrong without a change, so none could be fixed."]
    sentences = []
    for kind in ("upweighting", "scaling"):
        best = study.best_fixing(kind)
        fixed, broken = best.held_out.fix_rate, best.held_out.break_rate
        assert fixed is not None
        beyond = "above" if fixed.value > null.high else "below" if fixed.value < null.low else "within"
        breaks = "" if broken is None else f", and breaks {broken.value:.1%} of the right ones"
        sentences.append(
            Finding(
                f"The {kind} that fixes most wrong answers on one half ({best.arm}{by_lot(best)}) fixes "
                f"{fixed.value:.1%} of those of the other{breaks}. That rate is {beyond} what answers at "
                f"random fix ({100 * null.low:.1f} to {null.high:.1%}).",
                "fixes",
                sure=beyond != "within",
                size=best.held_out.change.value,
            )
        )
    return sentences


def _scaling_or_upweighting(study: TemporalStudy) -> str:
    scaling, upweighting = study.best_scaling, study.best_upweighting
    verdict = _verdict("scaling", "upweighting", study.scaling_against_upweighting)
    return Finding(
        f"Chosen on one half of the questions, the best scaling of all layers ({scaling.arm}{by_lot(scaling)}) changes "
        f"the share of right answers of the other half by {points(scaling.held_out.change)}, the best upweighting "
        f"({upweighting.arm}{by_lot(upweighting)}) by {points(upweighting.held_out.change)}. {verdict}",
        "fixes",
        sure=study.scaling_against_upweighting.p_holm < SIGNIFICANT,
        size=study.scaling_against_upweighting.change.value,
    )


def _layers(study: TemporalStudy) -> list[str]:
    layer, uniform = study.best_layer, study.best_uniform
    alone = Finding(
        f"Chosen on one half, the best single layer is that of {layer.arm}. On the other half it changes the share of "
        f"right answers by {points(layer.held_out.change)}, on the half that chose it by "
        f"{number(100 * layer.chosen_on.change.value, 1, '+')} points{by_lot(layer)}; a layer drawn at random, with "
        f"the same factor, by {number(100 * study.random_layer, 1, '+')} points.",
        "layers",
        sure=excludes_zero(layer.held_out.change),
        size=layer.held_out.change.value,
    )
    together = Finding(
        f"The best factor for all layers at once ({uniform.arm}{by_lot(uniform)}) changes it by "
        f"{points(uniform.held_out.change)}. "
        f"{_verdict('one layer', 'all layers', study.layer_against_uniform)}",
        "layers",
        sure=study.layer_against_uniform.p_holm < SIGNIFICANT,
        size=study.layer_against_uniform.change.value,
    )
    return [alone, together]


def _verdict(second: str, first: str, contrast: PairedComparison) -> str:
    n = counted(contrast.n, contrast.test.n_clips)
    rests = f"{n}, {p_value(contrast.p_holm)}, {named(contrast.test)}, Holm"
    if contrast.p_holm >= SIGNIFICANT:
        return f"The two do not differ significantly ({rests})."
    better = second if contrast.test.fixed > contrast.test.broken else first
    return f"The two differ: {better} is better ({rests})."
