"""What a study of MATA found, in sentences made from its numbers."""

from __future__ import annotations

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.mata_result import MataChoice, MataStudy
from mechaudio.report.wording import SIGNIFICANT, by_lot, heard_where, lacking, of_clips, p_value, percent, points


@checks_arguments
def mata_findings(study: MataStudy) -> tuple[str, ...]:
    """One sentence or two per step of the study; each says what the numbers say, whichever way they fall."""
    clean = study.compared.clean.overall
    sentences = [
        *heard_where(study.listens, [study.settings.queries]),
        f"Without MATA {percent(clean)} of {of_clips(clean.n, clean.n_clips, 'answers')} are right.",
        *lacking(study.compared.unanswered, int(study.compared.clean.unanswered.sum())),
        _attention(study),
        _readings(study),
    ]
    sentences += [_choice(choice) for choice in study.choices]
    return (*sentences, *_written(study))


def _attention(study: MataStudy) -> str:
    scores = study.scores
    rows = zip(scores.layers, scores.after[0], scores.before, strict=True)
    falls = [layer for layer, after, before in rows if after < before]
    lowered = (
        "raises audio attention in every layer"
        if not falls
        else f"lowers audio attention in {len(falls)} of {len(scores.layers)} layers ({', '.join(map(str, falls))})"
    )
    return (
        f"Of the last position's scores on audio, {100 * scores.negative.min():.0f} to "
        f"{100 * scores.negative.max():.0f} % are below zero, by layer; multiplying them by 1 + alpha = "
        f"{1 + scores.alpha:g} {lowered}, in the mean over heads."
    )


def _readings(study: MataStudy) -> str:
    changes = "; ".join(
        f"{tested.arm.mode} {points(tested.change.change)}, {tested.change.test.fixed} fixed and "
        f"{tested.change.test.broken} broken"
        for tested in study.readings
    )
    sure = [tested.arm.mode for tested in study.readings if tested.p_holm < SIGNIFICANT]
    which = (
        f"{', '.join(sure)}: p < {SIGNIFICANT} after Holm's correction"
        if sure
        else "none differs significantly from no intervention"
    )
    where = study.readings[0].arm.where
    return f"The published setting ({where} here) changes the share of right answers: {changes} ({which})."


def _choice(choice: MataChoice) -> str:
    sure = "" if choice.p_holm < SIGNIFICANT else "not "
    sentence = (
        f"{choice.name[0].upper()}{choice.name[1:]} ({choice.arm}): {points(choice.held_out.change)} on the half that "
        f"reports, {sure}significant ({p_value(choice.p_holm)}, Holm)"
    )
    if choice.against_published is None:
        return f"{sentence}."
    assert choice.p_against is not None
    return (
        f"{sentence}; {100 * choice.chosen_on.change.value:+.1f} points on the half that chose it{by_lot(choice)}. "
        f"Against the published "
        f"setting: {points(choice.against_published.change)} ({p_value(choice.p_against)}, Holm)."
    )


def _written(study: MataStudy) -> list[str]:
    if study.generated is None:
        return []
    clean, first = study.generated.clean, study.written[0]
    return [
        f"In written answers ({100 * clean.overall.value:.1f} % right without MATA, "
        f"{100 * clean.unparsed.value:.1f} % unreadable) the published setting changes the share of right ones by "
        f"{points(first.change.change)} ({p_value(first.p_holm)}, Holm)."
    ]
