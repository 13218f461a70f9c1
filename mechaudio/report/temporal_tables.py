"""The temporal study as tables, and what the paper reports, beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.published import PAPER_SETTINGS
from mechaudio.experiments.temporal_arms import Arm
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.report.changes import UNANSWERED, changed
from mechaudio.report.listening import first_table
from mechaudio.report.tables import Cell, Column, Table, column_list

PAPER = "A Closer Look at Failure Modes in Temporal Understanding of Large Audio-Language Models (Interspeech 2026)"
SUSPECT = (
    "The rows of Qwen2-Audio are suspect: its accuracies with silence equal those with the recording digit for digit, "
    "and those with a caption those with both."
)

#: Model -> per task the accuracies in percent with the recording, a caption, both, and silence.
_PUBLISHED = {
    "Qwen2-Audio (suspect)": ((30.9, 63.6, 63.6, 30.9), (28.1, 46.5, 46.5, 28.1), (32.5, 58.9, 58.9, 32.5)),
    "Kimi-Audio": ((58.0, 61.4, 68.8, 22.0), (60.3, 56.1, 62.7, 24.1), (59.4, 55.4, 67.3, 25.9)),
    "Audio Flamingo 3": ((60.4, 71.6, 67.2, 25.6), (56.7, 62.3, 63.3, 20.6), (58.1, 66.7, 66.4, 28.9)),
    "DeSTA2.5": ((50.4, 68.9, 62.7, 24.4), (51.3, 59.3, 59.1, 25.1), (54.9, 66.0, 66.8, 22.7)),
}
_TASKS = ("earliest onset", "latest offset", "longest duration")

#: Model -> accuracies in percent per task with the recording, and with scaling in all layers.
_PUBLISHED_SCALING = {
    "Audio Flamingo 3": ((60.42, 56.71, 58.10), (51.13, 48.09, 47.77)),
    "DeSTA2.5": ((50.38, 51.30, 54.92), (51.70, 51.10, 52.22)),
}

#: Model, intervention and mean fix rate over tasks in percent.
_PUBLISHED_FIX_RATES = (
    ("Audio Flamingo 3", "scaling 2.0", 20.5),
    ("Audio Flamingo 3", "upweighting", 15.8),
    ("DeSTA2.5", "scaling 0.2", 20.1),
    ("DeSTA2.5", "upweighting", 10.1),
)


@checks_arguments
def temporal_tables(study: TemporalStudy) -> tuple[Table, ...]:
    """Tabulate the study: rows that listen, accuracies, attention, all layers, controls, single layers, held out."""
    null = _null(study)
    return (
        *first_table(study.listens),
        _accuracies(study),
        _attention(study),
        _changes("all_layers", "Attention to audio changed in all layers", study.uniform, null, ("kind", "queries")),
        _changes(
            "controls", "Controls of the changes in all layers", study.controls, null, ("kind", "queries", "control")
        ),
        _changes("one_layer", "Attention to audio scaled in one layer", study.targeted, null, ("layer",)),
        _held_out(study),
    )


@checks_arguments
def temporal_published() -> tuple[Table, ...]:
    """Tabulate the paper's own models and questions; nothing here is computed."""
    conditions = [Column(name, "share") for name in ("audio", "caption", "audio+caption", "silence")]
    accuracies = tuple(
        (model, task, *(percent / 100 for percent in percents))
        for model, tasks in _PUBLISHED.items()
        for task, percents in zip(_TASKS, tasks, strict=True)
    )
    scaling = tuple(
        (model, task, before / 100, after / 100)
        for model, percents in _PUBLISHED_SCALING.items()
        for task, before, after in zip(_TASKS, *percents, strict=True)
    )
    fixes = tuple((model, what, percent / 100) for model, what, percent in _PUBLISHED_FIX_RATES)
    note = f"From the text of {PAPER} and digests of it; not computed here, not checked against its tables."
    return (
        Table(
            "published_accuracies",
            "The paper's accuracies",
            f"{SUSPECT} {note}",
            (Column("model"), Column("task"), *conditions),
            accuracies,
        ),
        Table(
            "published_scaling",
            "The paper's scaling in all layers",
            note,
            column_list("model, task, before: share, after: share"),
            scaling,
        ),
        Table(
            "published_fix_rates",
            "The paper's fix rates",
            f"Mean over the tasks. {note}",
            column_list("model, intervention, fix rate: share"),
            fixes,
        ),
        Table(
            "published_layers",
            "The paper's scaling in one layer",
            "Accuracy rises from 55.9 to 59.1%, mean over both models and the tasks. Of the query rows, keyword and "
            "last together are better than last, and last better than keyword. Whether layers count from 0 or 1 is not "
            f"said. {note}",
            column_list("model, best layer: count, factor: number"),
            tuple((paper.name, paper.layer, paper.settings.factors[0]) for paper in PAPER_SETTINGS.values()),
        ),
    )


def _null(study: TemporalStudy) -> str:
    clean = study.compared.clean
    if clean.correct[clean.scored].all():
        return "No answer was wrong without a change, so there are no fix rates."
    return f"Answers at random would fix {study.compared.random_fix_rate.uniform.in_percent()}."


def _accuracies(study: TemporalStudy) -> Table:
    rows = tuple(
        (condition, task.replace("_", " "), score.n, score.count, score.value, score.low, score.high)
        for condition, answers in study.conditions.items()
        for task, score in {**answers.by_task(), "all": answers.overall}.items()
    )
    return Table(
        "accuracies",
        "Right answers by condition and task",
        "Low and high: 95% intervals (Wilson).",
        column_list("condition, task, n: count, right: count, accuracy: share, low: share, high: share"),
        rows,
    )


def _attention(study: TemporalStudy) -> Table:
    shares: Sequence[Sequence[float]] = study.attention.mean(0).tolist()
    return Table(
        "attention",
        "Attention of the last position by layer and role of token",
        f"Mean over heads and {n_of(len(study.attention), 'question')}, with the recording.",
        (Column("layer", "count"), *(Column(role, "share") for role in study.roles)),
        tuple((layer, *roles) for layer, roles in enumerate(shares)),
    )


def _changes(name: str, title: str, arms: Sequence[Tested[Arm]], null: str, varied: Collection[str]) -> Table:
    """A row per arm; of kind, queries, control and layer those that do not vary are in JSON and CSV alone."""
    columns = (
        *(Column(name, shown=name in varied) for name in ("kind", "queries", "control", "layer")),
        Column("strength", "number"),
        Column("n", "count", shown=False),
        Column("before", "share", shown=False),
        Column("after", "share"),
        UNANSWERED,
        *column_list("change: change, interval: interval, fixed: share, broken: share"),
        Column("p", "p", shown=False),
        Column("p Holm", "p"),
        Column("p BH", "p", shown=False),
    )
    rows = tuple(
        (
            tested.arm.kind,
            tested.arm.queries,
            tested.arm.control.replace("_", " ") or "none",
            "all" if tested.arm.layer is None else str(tested.arm.layer),
            tested.arm.strength,
            *changed(tested.change, tested.p_holm),
            tested.p_bh,
        )
        for tested in arms
    )
    before = arms[0].change.before
    note = (
        f"Before: {before.value:.1%} of {before.n} right. Fixed: of the wrong; broken: of the right. {null} "
        f"p: McNemar's test, corrected by Holm over the {n_of(len(rows), 'row')}."
    )
    return Table(name, title, note, columns, rows)


def _held_out(study: TemporalStudy) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            what,
            str(choice.arm),
            choice.chosen_on.n,
            choice.chosen_on.change.value,
            choice.held_out.n,
            choice.held_out.change.value,
            (choice.held_out.change.low, choice.held_out.change.high),
            choice.held_out.test.p,
            None,
        )
        for what, choice in (
            ("best in one layer", study.best_layer),
            ("best in all layers, same rows", study.best_uniform),
            ("best scaling, all layers", study.best_scaling),
            ("best upweighting, all layers", study.best_upweighting),
        )
    ]
    factor, n = study.best_layer.arm.strength, study.best_layer.held_out.n
    drawn = f"scaling {factor:g}, mean over single layers"
    rows.append(("layer drawn at random", drawn, None, None, n, study.random_layer, None, None, None))
    for what, contrast in (
        ("one layer minus all", study.layer_against_uniform),
        ("scaling minus upweighting", study.scaling_against_upweighting),
    ):
        gain = contrast.change
        ends = gain.low, gain.high
        rows.append((what, "", None, None, contrast.n, gain.value, ends, contrast.test.p, contrast.p_holm))
    return Table(
        "held_out",
        "Chosen on one half of the questions, reported on the other",
        "The change on the half that chooses flatters: it was chosen for it. Interval and p (McNemar's test) are those "
        "of the half that was held out; p of the last two rows, which compare two rows above, also after Holm's "
        "correction over the two.",
        column_list(
            "what, chosen, n choosing: count, change there: change, n held out: count, change: change, "
            "interval: interval, p: p, p Holm: p"
        ),
        tuple(rows),
    )
