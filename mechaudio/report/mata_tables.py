"""The study of MATA as tables, and what the paper reports, beside them."""

from __future__ import annotations

from collections.abc import Sequence

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.mata_arms import MataArm
from mechaudio.experiments.mata_result import MataStudy
from mechaudio.report.changes import CHANGED, changed, group_rows
from mechaudio.report.listening import first_table
from mechaudio.report.tables import Cell, Column, Table, column_list

PAPER = "MATA (arXiv 2509.18816, Interspeech 2026)"

_ARM = column_list("reading, alpha: number, first layer: count, last layer: count")
_DOMAINS = ("sound", "music", "speech", "all")

#: Model -> accuracies in percent on MMAU test-mini (v05.15.25) by domain, without and with MATA.
_PUBLISHED = {
    "Qwen2-Audio": ((67.1, 55.8, 55.4, 59.4), (71.2, 61.4, 61.8, 64.8)),
    "Qwen2.5-Omni": ((77.8, 64.7, 70.9, 71.1), (79.9, 68.3, 72.7, 73.6)),
}

#: Model, questions, accuracies in percent without and with MATA.
_PUBLISHED_MORE = (
    ("Qwen2.5-Omni", "MMAU test", 71.0, 73.7),
    ("Qwen2-Audio", "MMAU test", 57.3, 57.3),
    ("Qwen2.5-Omni", "MMAR", 56.6, 61.2),
    ("Ke-Omni-R-7B", "MMAR", 64.1, 66.8),
    ("Qwen3-Omni-Thinking", "MMAR", 68.6, 71.0),
)


@checks_arguments
def mata_tables(study: MataStudy) -> tuple[Table, ...]:
    """Tabulate the study: rows that listen, scores, readings, choices, groups, layers, strengths, written answers."""
    first, last = study.published
    published = f"Layers {first} to {last} of this model stand for the published ones."
    there = "; ".join(f"{a}-{b} is {first}-{last}" for (a, b), (first, last) in study.ranges)
    ranges = f"Published ranges in this model: {there}."
    tables = [
        *first_table(study.listens),
        _scores(study),
        _listed("readings", "The published setting, in three readings of its formula", published, study.readings),
        _choices(study),
        _groups(study),
        _listed("layers", "The published ablation of layers", ranges, study.over_ranges),
        _listed("strengths", "The ablation of strength, in the published layers", "", study.over_alphas),
    ]
    return (*tables, _written(study)) if study.generated is not None else tuple(tables)


@checks_arguments
def mata_published() -> tuple[Table, ...]:
    """Tabulate the paper's own models and questions; nothing here is computed."""
    rows = [
        (model, "MMAU test-mini", domain, before / 100, after / 100)
        for model, accuracies in _PUBLISHED.items()
        for domain, before, after in zip(_DOMAINS, *accuracies, strict=True)
    ]
    rows += [(model, data, "all", before / 100, after / 100) for model, data, before, after in _PUBLISHED_MORE]
    return (
        Table(
            "published_mata",
            "The paper's accuracies",
            f"From the text of {PAPER} and its public page; not computed here, not checked against its tables.",
            column_list("model, questions, domain, without: share, with MATA: share"),
            tuple(rows),
        ),
    )


def _scores(study: MataStudy) -> Table:
    scores = study.scores
    return Table(
        "attention",
        "Audio scores and attention of the last position, by layer",
        f"Mean over heads and {n_of(scores.n, 'question')}. Below zero: share of the scores on audio tokens. The last "
        f"columns are audio attention with alpha = {scores.alpha:g} in that layer alone, by reading of the formula.",
        (
            *column_list("layer: count, below zero: share, mean score: score, audio attention: share"),
            *(Column(mode, "share") for mode in scores.modes),
        ),
        tuple(
            (layer, *map(float, (scores.negative[row], scores.score[row], scores.before[row], *scores.after[:, row])))
            for row, layer in enumerate(scores.layers)
        ),
    )


def _choices(study: MataStudy) -> Table:
    rows = []
    for choice in study.choices:
        beside = choice.against_published
        cells: tuple[Cell, ...] = (None, None, None)
        if beside is not None:
            cells = (beside.change.value, (beside.change.low, beside.change.high), choice.p_against)
        known = changed(choice.held_out, choice.p_holm)
        rows.append((choice.name, *_arm(choice.arm), choice.chosen_on.change.value, *known, *cells))
    return Table(
        "choices",
        "Chosen on one half of the questions, reported on the other",
        "The change on the half that chooses flatters what was chosen there, and is the first one; all other columns "
        "are of the questions that report. Intervals: of the change, at 95%; p: McNemar's tests against no "
        "intervention and against the published setting, corrected by Holm over all of both.",
        (
            Column("what"),
            *_ARM,
            Column("change chosen on", "change"),
            *CHANGED,
            *column_list("more than published: change, interval of that: interval, p Holm of that: p"),
        ),
        tuple(rows),
    )


def _groups(study: MataStudy) -> Table:
    by_setting = {"published, all questions": study.by_group(study.readings[0].arm)}
    by_setting |= {
        f"{choice.name}, half that reports": study.by_group(choice.arm, held_out=True) for choice in study.choices[1:]
    }
    rows = [(name, *row) for name, changes in by_setting.items() for row in group_rows(changes)]
    return Table(
        "groups",
        "By group of questions",
        "The published setting, which these questions did not choose, on all of them; what one half chose on the "
        "other. Interval: of the change, at 95%; p: McNemar's test, corrected by Holm within each grouping.",
        (*column_list("setting and questions, grouping, group"), *CHANGED),
        tuple(rows),
    )


def _written(study: MataStudy) -> Table:
    assert study.generated is not None
    rows = [
        (*_arm(tested.arm), study.generated[place].unparsed.value, *changed(tested.change, tested.p_holm))
        for place, tested in enumerate(study.written)
    ]
    return Table(
        "written",
        "Written answers to the questions that report",
        "MATA acts at every new token. Unparsed: share of texts that name no choice or several, which count as wrong; "
        f"without MATA {study.generated.clean.unparsed.value:.1%}. p: McNemar's test, corrected by Holm over the rows.",
        (*_ARM, Column("unparsed", "share"), *CHANGED),
        tuple(rows),
    )


def _listed(name: str, title: str, note: str, tested: Sequence[Tested[MataArm]]) -> Table:
    rests_on = (
        f"{note} All questions. Interval: of the change, at 95%; p: McNemar's test, corrected by Holm over "
        f"the {n_of(len(tested), 'row')}."
    )
    return Table(
        name,
        title,
        rests_on.strip(),
        (*_ARM, *CHANGED),
        tuple((*_arm(row.arm), *changed(row.change, row.p_holm)) for row in tested),
    )


def _arm(arm: MataArm) -> tuple[Cell, ...]:
    return arm.mode, arm.alpha, arm.first, arm.last
