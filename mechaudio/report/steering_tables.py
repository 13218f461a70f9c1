"""Steering from silence to audio as tables: what was chosen on one half of the questions does on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Choice
from mechaudio.experiments.steering_arms import SteeringArm
from mechaudio.experiments.steering_result import SteeringStudy
from mechaudio.metrics.significance import holm
from mechaudio.report.changes import CHANGED, UNANSWERED, changed
from mechaudio.report.tables import Cell, Column, Table, column_list

_ARM = column_list("kind, control, draw: count, K: count, layer: count, final norm, strength: number")


@checks_arguments
def steering_tables(study: SteeringStudy) -> tuple[Table, ...]:
    """Tabulate the study: the choices and their controls, how they compare, numbers of heads, and every arm."""
    return (_choices(study), _against(study), _by_k(study), _arms(study))


def _choices(study: SteeringStudy) -> Table:
    return Table(
        "steering",
        "Steering as chosen on one half of the questions, on the other",
        f"{study.chooses.sum()} questions choose heads, strength and place, and flatter what they choose: their change "
        "is the first one. All other columns are of the questions that report. Interval: of the change, at 95%; "
        "p: McNemar's test against no steering, corrected by Holm over the kinds, and over the controls by themselves. "
        "Controls choose as freely as what they control.",
        (*_ARM, Column("change chosen on", "change"), *CHANGED),
        _chosen((*study.choices, *study.controls)),
    )


def _against(study: SteeringStudy) -> Table:
    return Table(
        "steering_controls",
        "Steering beside its controls",
        "Share of right answers more than with the control, each as it was chosen, on the questions that report; of "
        "several draws, more than their mean. Interval: at 95%, over clips (Bonett and Price's; bootstrap where "
        "there are several draws: other draws would differ too). p: McNemar's test (Fisher's test of signs where "
        "there are several draws), corrected by Holm over the rows.",
        column_list("kind, control, draws: count, n: count, gain: change, interval: interval, p: p, p Holm: p"),
        tuple(
            (
                contrast.kind, contrast.control, len(contrast.accuracies), contrast.gain.n, contrast.gain.value,
                (contrast.gain.low, contrast.gain.high), contrast.p, contrast.p_holm,
            )
            for contrast in study.against_controls
        ),
    )  # fmt: skip


def _by_k(study: SteeringStudy) -> Table:
    return Table(
        "steering_heads",
        "Steering by number of heads",
        "For each number of heads, and each draw of random heads, the strength and place that did best on the "
        "questions that choose, and its change on those that report. p: McNemar's test against no steering, "
        "corrected by Holm over the rows.",
        (*_ARM, Column("change chosen on", "change"), *CHANGED),
        _chosen(study.by_k),
    )


def _chosen(choices: Sequence[Choice[SteeringArm]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (*_arm(choice.arm), choice.chosen_on.change.value, *changed(choice.held_out, choice.p_holm))
        for choice in choices
    )


def _arms(study: SteeringStudy) -> Table:
    halves = {"chooses": study.chooses, "reports": ~study.chooses}
    cells = []
    for half in halves.values():
        changes = [study.change(arm, half) for arm in study.arms]
        p_holm = holm([change.test.p for change in changes]).tolist()
        cells.append(
            [
                (change.after.value, change.test.p, p, change.after.unanswered)
                for change, p in zip(changes, p_holm, strict=True)
            ]
        )
    rows = [(*_arm(arm), *chain(*sides)) for arm, *sides in zip(study.arms, *cells, strict=True)]
    return Table(
        "steering_arms",
        "Every way of steering on both halves",
        "Share of right answers on the questions that choose and on those that report, and the p value of McNemar's "
        "test against no steering, corrected by Holm over the ways of each half.",
        (
            *_ARM,
            *(
                column
                for half in halves
                for column in (
                    Column(half, "share"),
                    Column(f"p {half}", "p"),
                    Column(f"p Holm {half}", "p"),
                    replace(UNANSWERED, name=f"unanswered {half}"),
                )
            ),
        ),
        tuple(rows),
    )


def _arm(arm: SteeringArm) -> tuple[Cell, ...]:
    norm = {"pre": "before", "post": "behind", None: None}[arm.norm]
    draw = arm.draw if arm.control == "random heads" else None
    return arm.kind, arm.control or "none", draw, arm.k, arm.layer, norm, arm.strength
