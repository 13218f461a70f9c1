"""The study of who listens as tables, and what the paper reports, beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mechaudio.analyses.listening_score import ListeningCheck
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.specialists_result import SpecialistsStudy
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.roc import RocAuc
from mechaudio.metrics.significance import holm
from mechaudio.report.changes import CHANGED, group_rows
from mechaudio.report.listening import first_table
from mechaudio.report.steering_tables import steering_tables
from mechaudio.report.tables import Cell, Column, Table, column_list

PAPER = '"Audio-specialist heads" (arXiv 2603.06854)'

#: Model -> accuracies in percent on MMAU test-mini, in the order of the columns of `published_steering`.
_PUBLISHED = {
    "Qwen2-Audio": (49.20, 49.42, 53.82, 54.30, 57.25),
    "R1-AQA": (64.50, 64.02, 65.21, 67.80, 69.40),
}
#: Model, K, change in points with the K specialists and with K random heads.
_PUBLISHED_KS = (
    ("Qwen2-Audio", 10, 7.2, 3.1),
    ("Qwen2-Audio", 20, 8.0, 2.2),
    ("Qwen2-Audio", 30, 7.4, 3.1),
    ("R1-AQA", 10, 4.7, 1.0),
    ("R1-AQA", 20, 4.9, 2.0),
    ("R1-AQA", 30, 4.6, 1.3),
)
_AREA = column_list("AUC: score, low: score, high: score, p: p, p Holm: p, higher for: count, than for: count")


@checks_arguments
def specialists_tables(study: SpecialistsStudy) -> tuple[Table, ...]:
    """Tabulate the study: rows that listen, hearing, heads, the listening score, its checks, steering, controls."""
    return (
        *first_table(study.listens),
        _hearing(study),
        _heads(study),
        _listening(study),
        _checks(study),
        _by_group(study),
        *steering_tables(study.steering),
        _steered(study),
    )


@checks_arguments
def specialists_published() -> tuple[Table, ...]:
    """Tabulate the paper's own models and questions; nothing here is computed."""
    note = (
        f"From the text of {PAPER} and digests of it; not computed here, not checked against its tables. "
        "Which strength was used, and what calibrated it, is not known."
    )
    ways = ("no steering", "random heads", "best single layer", "specialist heads", "layer-guided")
    return (
        Table(
            "published_steering",
            "The paper's accuracies on MMAU test-mini",
            note,
            (Column("model"), *(Column(way, "share") for way in ways)),
            tuple((model, *(percent / 100 for percent in accuracies)) for model, accuracies in _PUBLISHED.items()),
        ),
        Table(
            "published_ks",
            "The paper's changes by number of heads",
            note,
            column_list("model, K: count, specialists: change, random heads: change"),
            tuple((model, k, specialists / 100, random / 100) for model, k, specialists, random in _PUBLISHED_KS),
        ),
    )


def _hearing(study: SpecialistsStudy) -> Table:
    return Table(
        "hearing",
        "Right answers with silence (before) and with the recording (after)",
        f"Guessing would get {study.chance.mean():.1%} right. Interval: of the change, at 95%; p: "
        "McNemar's test, corrected by Holm within each grouping.",
        (Column("by"), Column("group"), *CHANGED),
        group_rows(study.hearing),
    )


def _heads(study: SpecialistsStudy) -> Table:
    scores, ranking = study.scores, study.settings.ranking
    stability = scores.stability(study.k, ranking=ranking)
    measured = (scores.r, scores.low, scores.high, scores.p, scores.q, scores.mean, stability.frequency)
    top = scores.top(study.k, ranking=ranking)
    rows = tuple((*head, *(float(numbers[head]) for numbers in measured)) for head in top)
    constant = [f"({layer}, {head})" for layer, head in np.argwhere(scores.constant).tolist()]
    named = f" Heads that give the audio the same share in every question: {', '.join(constant)}." if constant else ""
    return Table(
        "heads",
        f"The {n_of(len(rows), 'head')} of largest correlation with right answers",
        f"On questions ({questions_of(len(scores.measured.ids), scores.measured.clips)}). r: point-biserial "
        "correlation of the last position's attention to audio with right answers, with its "
        f"{100 * scores.confidence:g}% interval; q: p after Benjamini and Hochberg over "
        f"{n_of(scores.varies.sum(), 'head')}; chosen again: share of resamples that choose the head. The choice as a "
        f"whole: {stability}.{named}",
        column_list(
            "layer: count, head: count, r: score, low: score, high: score, p: p, q: p, mean attention: share, "
            "chosen again: share"
        ),
        rows,
    )


def _listening(study: SpecialistsStudy) -> Table:
    rows = []
    p_holm = holm([(score.auc.p, score.p_random) for score in study.listening.values()]).tolist()
    for (k, score), (p_area, p_random) in zip(study.listening.items(), p_holm, strict=True):
        auc, low, high = score.auc, *np.quantile(score.random_auc, [0.025, 0.975]).tolist()
        rows.append(
            (
                k, auc.value, auc.low, auc.high, auc.p, p_area, score.mass_auc.value,
                float(score.random_auc.mean()), low, high, score.p_random, p_random,
            )
        )  # fmt: skip
    return Table(
        "listening",
        "How well the listening score tells right from wrong, by number of heads",
        f"On the {n_of(len(study.score.ids), 'question')} that the heads were not chosen on. AUC: area under the ROC "
        "curve, with its 95% interval (Newcombe) and the p value of Mann and Whitney's test, questions of one clip as "
        f"a cluster; unweighted: of the same heads' audio attention summed; random: {study.settings.draws} sets of as "
        "many heads drawn at random, with the interval that holds 95% of them; p random: share of these that do as "
        "well. p Holm: both p values of all rows, corrected together.",
        column_list(
            "heads: count, AUC: score, low: score, high: score, p: p, p Holm: p, unweighted: score, "
            "random: score, random low: score, random high: score, p random: p, p random Holm: p"
        ),
        tuple(rows),
    )


def _checks(study: SpecialistsStudy) -> Table:
    rows = []
    kinds = [("all questions", None)] + ([("within tasks", study.tasks)] if study.tasks else [])
    for among, strata in kinds:
        tells = study.score.auc if strata is None else study.auc_within_tasks
        rows.append(("right answers against wrong ones", "score", among, tells))
        for of in ("score", "mass"):
            check: ListeningCheck = study.score.listening(of, strata=strata)
            for where, found in vars(check).items():
                what = "the recording changes the answer" + (
                    "" if where == "everywhere" else f", {where.replace('within_', '')} answers"
                )
                rows.append((what, "score" if of == "score" else "unweighted", among, found))
    return Table(
        "checks",
        f"Where the listening score of {n_of(study.k, 'head')} is higher",
        "AUC: the chance that a question of the first kind scores above one of the second, 0.5 if there is no "
        "difference, with its 95% interval (Newcombe) and the p value of Mann and Whitney's test, stratified within "
        "tasks; p Holm: corrected over the rows; the last columns count the two kinds. A dash: fewer than two "
        "questions of a kind.",
        (*column_list("higher where, of, among"), *_AREA),
        tuple(
            (*names, *_area(area, p)) for (*names, area), p in zip(rows, _holm([row[-1] for row in rows]), strict=True)
        ),
    )


def _by_group(study: SpecialistsStudy) -> Table:
    return Table(
        "listening_by_group",
        f"How well the listening score of {study.k} heads tells right from wrong, by group",
        "The same heads and weights in all groups. Low and high: Newcombe's 95% interval; p: Mann and Whitney's test, "
        "questions of one clip as a cluster; p Holm: corrected over the groups of a grouping. A dash: fewer than two "
        "right or two wrong answers.",
        (*column_list("by, group, n: count"), *_AREA[:-2], *column_list("right: count, wrong: count")),
        tuple(
            (row.by.replace("_", " "), row.name.replace("_", " "), row.n, *_area(row.auc, row.p_holm))
            for row in study.auc_by_group
        ),
    )


def _steered(study: SpecialistsStudy) -> Table:
    return Table(
        "steering_by_group",
        "Steering as chosen on one half of the questions, on groups of the other",
        "Interval: of the change, at 95%; p: McNemar's test against no steering, corrected by Holm within "
        "each grouping.",
        (*column_list("kind, by, group"), *CHANGED),
        tuple(
            (choice.arm.kind, *row) for choice in study.steering.choices for row in group_rows(study.steered(choice))
        ),
    )


def _holm(areas: Sequence[RocAuc | None]) -> list[float | None]:
    """Correct the p values of the areas that there are over all of these."""
    p_values = [area.p for area in areas if area is not None]
    adjusted = iter(holm(p_values).tolist() if p_values else ())
    return [None if area is None else next(adjusted) for area in areas]


def _area(area: RocAuc | None, p_holm: float | None) -> tuple[Cell, ...]:
    if area is None:
        return (None,) * len(_AREA)
    return (area.value, area.low, area.high, area.p, p_holm, area.n_right, area.n_wrong)
