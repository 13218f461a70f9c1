"""What a temporal study found, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.temporal_arms import Arm
from mechaudio.experiments.temporal_result import PairedComparison, TemporalStudy
from mechaudio.report.wording import SIGNIFICANT, p_value, percent, points


@checks_arguments
def temporal_findings(study: TemporalStudy) -> tuple[str, ...]:
    """One sentence or two per step of the study; each says what the numbers say, whichever way they fall."""
    return (
        *_conditions(study),
        _attention(study),
        _changed("changes in all layers", study.uniform),
        *_fixes(study),
        _changed("controls", study.controls),
        _scaling_or_upweighting(study),
        *_layers(study),
    )


def _conditions(study: TemporalStudy) -> list[str]:
    heard = study.conditions["audio"]
    told = [f"With the recording {percent(heard.overall)} of {heard.overall.n} answers are right."]
    for name, words in (
        ("silence", "With silence in its place"),
        ("caption", "With a caption instead"),
        ("audio+caption", "With both"),
    ):
        found = study.conditions.get(name)
        if found is None:
            continue
        contrast = study.against_audio.get(name)
        if contrast is None:
            told.append(f"{words} {percent(found.overall)} are right; no question was answered both ways.")
            continue
        differs = "differs" if contrast.p_holm < SIGNIFICANT else "does not differ significantly"
        told.append(
            f"{words} {percent(found.overall)} are right, which {differs} from the recording "
            f"({p_value(contrast.p_holm)}, McNemar, Holm)."
        )
    return told


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
    fixing = [tested for tested in study.uniform if tested.change.fix_rate is not None]
    if not fixing:
        return ["No answer was wrong without a change, so none could be fixed."]
    told, null = [], study.compared.random_fix_rate.uniform
    for kind in ("upweighting", "scaling"):
        best = max(
            (tested for tested in fixing if tested.arm.kind == kind), key=lambda tested: tested.change.fix_rate.value
        )
        fixed, broken = best.change.fix_rate, best.change.break_rate
        beyond = "above" if fixed.value > null.high else "below" if fixed.value < null.low else "within"
        breaks = "" if broken is None else f", which breaks {100 * broken.value:.1f} % of the right ones"
        told.append(
            f"The highest fix rate of {kind} is {100 * fixed.value:.1f} % ({best.arm}){breaks}. That rate is {beyond} "
            f"what answers at random fix ({100 * null.low:.1f} to {100 * null.high:.1f} %)."
        )
    return told


def _scaling_or_upweighting(study: TemporalStudy) -> str:
    scaling, upweighting = study.best_scaling, study.best_upweighting
    verdict = _verdict("scaling", "upweighting", study.scaling_against_upweighting)
    return (
        f"Chosen on one half of the questions, the best scaling of all layers ({scaling.arm}) changes the share of "
        f"right answers of the other half by {points(scaling.held_out.change)}, the best upweighting "
        f"({upweighting.arm}) by {points(upweighting.held_out.change)}. {verdict}"
    )


def _layers(study: TemporalStudy) -> list[str]:
    layer, uniform = study.best_layer, study.best_uniform
    return [
        f"Chosen on one half, the best single layer is that of {layer.arm}. On the other half it changes the share of "
        f"right answers by {points(layer.held_out.change)}, on the half that chose it by "
        f"{100 * layer.chosen_on.change.value:+.1f} points; a layer drawn at random, with the same factor, by "
        f"{100 * study.random_layer:+.1f} points.",
        f"The best factor for all layers at once ({uniform.arm}) changes it by {points(uniform.held_out.change)}. "
        f"{_verdict('one layer', 'all layers', study.layer_against_uniform)}",
    ]


def _verdict(second: str, first: str, contrast: PairedComparison) -> str:
    rests = f"n = {contrast.n}, {p_value(contrast.p_holm)}, McNemar, Holm"
    if contrast.p_holm >= SIGNIFICANT:
        return f"The two do not differ significantly ({rests})."
    better = second if contrast.test.fixed > contrast.test.broken else first
    return f"The two differ: {better} is better ({rests})."
