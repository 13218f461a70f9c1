"""Steering from silence to audio as tables: what was chosen on one half of the questions does on the other."""

from __future__ import annotations

from dataclasses import replace

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.steering_arms import SteeringArm
from mechaudio.experiments.steering_result import SteeringStudy
from mechaudio.report.changes import CHANGED, UNANSWERED, changed
from mechaudio.report.tables import Cell, Column, Table

_ARM = (
    Column("kind"),
    Column("control"),
    Column("draw", "count"),
    Column("K", "count"),
    Column("layer", "count"),
    Column("final norm"),
    Column("strength", "number"),
)


@checks_arguments
def steering_tables(study: SteeringStudy) -> tuple[Table, ...]:
    """Tabulate the study: the choices and their controls, how they compare, numbers of heads, and every arm."""
    return (_choices(study), _against(study), _by_k(study), _arms(study))


def _choices(study: SteeringStudy) -> Table:
    rows = [
        (*_arm(choice.arm), choice.chosen_on.change.value, *changed(choice.held_out, choice.p_holm))
        for choice in study.choices
    ]
    rows += [
        (*_arm(choice.arm), choice.chosen_on.change.value, *changed(choice.held_out, None)) for choice in study.controls
    ]
    return Table(
        "steering",
        "Steering as chosen on one half of the questions, on the other",
        f"{study.chooses.sum()} questions choose heads, strength and place, and flatter what they choose: their change "
        "is the first one. All other columns are of the questions that report. Interval: of the change, at 95 %; "
        "p: McNemar's test against no steering, corrected by Holm over the kinds. Controls choose as freely as "
        "what they control.",
        (*_ARM, Column("change chosen on", "change"), *CHANGED),
        tuple(rows),
    )


def _against(study: SteeringStudy) -> Table:
    return Table(
        "steering_controls",
        "Steering beside its controls",
        "Share of right answers more than with the control, each as it was chosen, on the questions that report; of "
        "several draws, more than their mean. Interval: at 95 %, over clips (Bonett and Price's; bootstrap where "
        "there are several draws: other draws would differ too). p: McNemar's test (Fisher's test of signs where "
        "there are several draws), corrected by Holm over the rows.",
        (
            Column("kind"),
            Column("control"),
            Column("draws", "count"),
            Column("n", "count"),
            Column("gain", "change"),
            Column("interval", "interval"),
            Column("p", "p"),
            Column("p Holm", "p"),
        ),
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
        "questions that choose, and its change on those that report. p: McNemar's test, not corrected.",
        (*_ARM, Column("change chosen on", "change"), *CHANGED[:-1]),
        tuple(
            (*_arm(choice.arm), choice.chosen_on.change.value, *changed(choice.held_out, None)[:-1])
            for choice in study.by_k
        ),
    )


def _arms(study: SteeringStudy) -> Table:
    halves = {"chooses": study.chooses, "reports": ~study.chooses}
    rows = []
    for arm in study.arms:
        changes = [study.change(arm, half) for half in halves.values()]
        rows.append(
            (
                *_arm(arm),
                *(cell for change in changes for cell in (change.after.value, change.test.p, change.after.unanswered)),
            )
        )
    return Table(
        "steering_arms",
        "Every way of steering on both halves",
        "Share of right answers on the questions that choose and on those that report, and the p value of McNemar's "
        "test against no steering, not corrected.",
        (
            *_ARM,
            *(
                column
                for half in halves
                for column in (
                    Column(half, "share"),
                    Column(f"p {half}", "p"),
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
