"""Changes of answers as cells of tables, the same in every study."""

from __future__ import annotations

from collections.abc import Sequence

from mechaudio.experiments.groups import GroupChange
from mechaudio.metrics.estimates import Proportion
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
        _rate(change.fix_rate),
        _rate(change.break_rate),
        change.test.p,
        p_holm,
    )


def group_rows(rows: Sequence[GroupChange]) -> tuple[tuple[Cell, ...], ...]:
    """Rows whose columns are the grouping, the group and `CHANGED`."""
    return tuple(
        (row.by.replace("_", " "), row.name.replace("_", " "), *changed(row.change, row.p_holm)) for row in rows
    )


def _rate(rate: Proportion | None) -> float | None:
    return None if rate is None else rate.value
