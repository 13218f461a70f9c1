"""What a temporal study found, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.temporal_arms import Arm
from mechaudio.experiments.temporal_result import PairedComparison, TemporalStudy
from mechaudio.metrics.clips import counted
from mechaudio.report.wording import (
    SIGNIFICANT,
    by_lot,
    heard_where,
    lacking,
    named,
    of_clips,
    p_value,
    percent,
    points,
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
    sentences = [
        f"With the recording {percent(recording.overall)} of "
        f"{of_clips(recording.overall.n, recording.overall.n_clips, 'answers')} are right."
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
            f"{words} {percent(answers.overall)} are right, which {differs} from the recording "
            f"({p_value(contrast.p_holm)}, {named(contrast.test)}, Holm)."
        )
    return sentences


def _attention(study: TemporalStudy) -> str:
    audio = study.attention.mean(0)[:, study.roles.index("audio")]
    most = int(np.nanargmax(audio))
    return (
        f"The last position gives audio {100 * np.nanmean(audio):.1f} % of its attention in the mean over layers, most "
        f"in layer {most} ({100 * audio[most]:.1f} %)."
    )


def _changed(what: str, arms: Sequence[Tested[Arm]]) -> str:
    sure = [tested for tested in arms if tested.p_holm < SIGNIFICANT]
    better = sum(tested.change.change.value > 0 for tested in sure)
    return (
        f"Of {len(arms)} {what}, {better} raise and {len(sure) - better} lower the share of right answers "
        f"significantly (p < {SIGNIFICANT} after Holm's correction)."
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
        breaks = "" if broken is None else f", and breaks {100 * broken.value:.1f} % of the right ones"
        sentences.append(
            f"The {kind} that fixes most wrong answers on one half ({best.arm}{by_lot(best)}) fixes "
            f"{100 * fixed.value:.1f} % of those of the other{breaks}. That rate is {beyond} what answers at random "
            f"fix "
            f"({100 * null.low:.1f} to {100 * null.high:.1f} %)."
        )
    return sentences


def _scaling_or_upweighting(study: TemporalStudy) -> str:
    scaling, upweighting = study.best_scaling, study.best_upweighting
    verdict = _verdict("scaling", "upweighting", study.scaling_against_upweighting)
    return (
        f"Chosen on one half of the questions, the best scaling of all layers ({scaling.arm}{by_lot(scaling)}) "
        f"changes the share of "
        f"right answers of the other half by {points(scaling.held_out.change)}, the best upweighting "
        f"({upweighting.arm}{by_lot(upweighting)}) by {points(upweighting.held_out.change)}. {verdict}"
    )


def _layers(study: TemporalStudy) -> list[str]:
    layer, uniform = study.best_layer, study.best_uniform
    return [
        f"Chosen on one half, the best single layer is that of {layer.arm}. On the other half it changes the share of "
        f"right answers by {points(layer.held_out.change)}, on the half that chose it by "
        f"{100 * layer.chosen_on.change.value:+.1f} points{by_lot(layer)}; a layer drawn at random, with the same "
        f"factor, by "
        f"{100 * study.random_layer:+.1f} points.",
        f"The best factor for all layers at once ({uniform.arm}{by_lot(uniform)}) changes it by "
        f"{points(uniform.held_out.change)}. "
        f"{_verdict('one layer', 'all layers', study.layer_against_uniform)}",
    ]


def _verdict(second: str, first: str, contrast: PairedComparison) -> str:
    n = counted(contrast.n, contrast.test.n_clips)
    rests = f"{n}, {p_value(contrast.p_holm)}, {named(contrast.test)}, Holm"
    if contrast.p_holm >= SIGNIFICANT:
        return f"The two do not differ significantly ({rests})."
    better = second if contrast.test.fixed > contrast.test.broken else first
    return f"The two differ: {better} is better ({rests})."
