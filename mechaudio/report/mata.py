"""Report on the study of MATA: sentences made from its numbers, and how its page is laid out."""

from __future__ import annotations

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.mata_result import MataChoice, MataStudy
from mechaudio.report.mata_tables import PAPER, mata_published, mata_tables
from mechaudio.report.study_page import LISTENING, Part, Report, first_figure, report_of
from mechaudio.report.wording import (
    SIGNIFICANT,
    Finding,
    by_lot,
    heard_where,
    lacking,
    of_clips,
    p_value,
    percent,
    points,
)
from mechaudio.viz.mata import mata_attention, mata_layers
from mechaudio.viz.over_strength import accuracy_over_strength
from mechaudio.viz.theme import number

_LEAD = (
    "MATA gives the last token more attention to the audio in the middle layers, at every new token, by multiplying "
    "attention scores by 1 + alpha. Does it make answers right here, which reading of its formula does, and are its "
    "layers the right ones?"
)
_PARTS = (
    LISTENING,
    Part(
        "What the formula does to attention",
        ("attention",),
        {
            "attention": "Bars: how many of the scores that the last position gives audio tokens are below zero; "
            "multiplied by 1 + alpha, these fall. Lines: how much attention each reading of the formula moves to the "
            "audio, in one layer at a time; below the dashed line it moves attention away."
        },
    ),
    Part("The published setting", ("readings", "groups")),
    Part(
        "Over strength",
        ("strengths",),
        {
            "strengths": "A line per reading, in the published layers. Where questions choose, the best of many points "
            "looks better than it is; where they report, the ring is an honest number."
        },
    ),
    Part(
        "Over layers",
        ("layers",),
        {
            "layers": "A cell is a range of layers, from its first (rows) to its last (columns). A pattern of the half "
            "that chooses which the other half does not have is likely chance. Pale cells are changes that are small "
            "beside their intervals."
        },
    ),
    Part("Chosen by the data", ("choices",)),
    Part("Written answers", ("written",)),
)


@checks_arguments
def mata_figures(study: MataStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name."""
    return first_figure(study.listens) | {
        "attention": mata_attention(study.scores),
        "strengths": accuracy_over_strength(
            study.over_strength, title="Right answers over alpha, in the published layers"
        ),
        "layers": mata_layers(study),
    }


@report_of.register
def _mata(study: MataStudy) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=mata_findings(study),
        tables=mata_tables(study),
        figures=mata_figures(study),
        parts=_PARTS,
        paper=PAPER,
        published=mata_published(),
    )


@checks_arguments
def mata_findings(study: MataStudy) -> tuple[str, ...]:
    """One sentence or two per step of the study; each says what the numbers say, whichever way they fall."""
    clean = study.compared.clean.overall
    sentences = [
        *heard_where(study.listens, [study.settings.queries]),
        Finding(
            f"Without MATA {percent(clean)} of {of_clips(clean.n, clean.n_clips, 'answer')} are right.",
            sure=True,
            size=1.0,  # all others are compared with it
        ),
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
    lowered = "raises audio attention in every layer"
    if falls:
        where = f"{len(falls)} of {n_of(len(scores.layers), 'layer')} ({', '.join(map(str, falls))})"
        lowered = f"lowers audio attention in {where}"
    return Finding(
        f"Of the last position's scores on audio, {100 * scores.negative.min():.0f} to {scores.negative.max():.0%} are "
        f"below zero, by layer; multiplying them by 1 + alpha = {1 + scores.alpha:g} {lowered}, in the mean over "
        "heads.",
        "attention",
        sure=True,
        size=0.0,  # of attention, not of answers
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
    return Finding(
        f"The published setting ({where} here) changes the share of right answers: {changes} ({which}).",
        "strengths",
        sure=bool(sure),
        size=max(abs(tested.change.change.value) for tested in study.readings),
    )


def _choice(choice: MataChoice) -> str:
    significant = choice.p_holm < SIGNIFICANT
    sure = "" if significant else "not "
    sentence = (
        f"{choice.name[0].upper()}{choice.name[1:]} ({choice.arm}): {points(choice.held_out.change)} on the half that "
        f"reports, {sure}significant ({p_value(choice.p_holm)}, Holm)"
    )
    known = {"figure": "layers", "sure": significant, "size": choice.held_out.change.value}
    if choice.against_published is None:
        return Finding(f"{sentence}.", **known)
    assert choice.p_against is not None
    return Finding(
        f"{sentence}; {number(100 * choice.chosen_on.change.value, 1, '+')} points on the half that chose "
        f"it{by_lot(choice)}. Against the published setting: {points(choice.against_published.change)} "
        f"({p_value(choice.p_against)}, Holm).",
        **known,
    )


def _written(study: MataStudy) -> list[str]:
    if study.generated is None:
        return []
    clean, first = study.generated.clean, study.written[0]
    return [
        Finding(
            f"In written answers ({clean.overall.value:.1%} right without MATA, {clean.unparsed.value:.1%} unreadable) "
            f"the published setting changes the share of right ones by {points(first.change.change)} "
            f"({p_value(first.p_holm)}, Holm).",
            sure=first.p_holm < SIGNIFICANT,
            size=first.change.change.value,
        )
    ]
