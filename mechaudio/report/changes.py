"""Changes of answers as cells of tables, the same in every study."""

from __future__ import annotations

from collections.abc import Sequence

from mechaudio.experiments.groups import GroupChange
from mechaudio.metrics.multiple_choice import AnswerChange
from mechaudio.report.tables import Cell, Column, column_list

UNANSWERED = Column("unanswered", "count", shown="unless zero")
"""Number of answers that are missing after a change, because logits are NaN; they count as not right."""
CHANGED = (
    *column_list("n: count, before: share, after: share"),
    UNANSWERED,
    *column_list("change: change, interval: interval, fix rate: share, break rate: share, p: p, p Holm: p"),
)
"""Columns of `changed`."""


def changed(change: AnswerChange, p_holm: float | None) -> tuple[Cell, ...]:
    """The cells of a change of answers."""
    return (
        change.n,
        change.before.value,
        change.after.value,
        change.after.unanswered,
        change.change.value,
        (change.change.low, change.change.high),
        change.fix_rate and change.fix_rate.value,
        change.break_rate and change.break_rate.value,
        change.test.p,
        p_holm,
    )


def group_rows(rows: Sequence[GroupChange]) -> tuple[tuple[Cell, ...], ...]:
    """Rows whose columns are the grouping, the group and `CHANGED`."""
    return tuple(
        (row.by.replace("_", " "), row.name.replace("_", " "), *changed(row.change, row.p_holm)) for row in rows
    )
