"""What is told of where a model listens: the sentence, the prompt as a line of roles, and what every cut costs."""

from __future__ import annotations

import math
from dataclasses import replace

import plotly.graph_objects as go

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import checks_arguments
from mechaudio.report.study_page import HOW_ROWS, LISTENING, Part, Report, report_of
from mechaudio.report.tables import Column, Table, column_list
from mechaudio.report.wording import heard_where
from mechaudio.viz.flow_map import flow_map
from mechaudio.viz.listening_rows import listening_rows

_LEAD = (
    "The sound was hidden from the rows of each part of the prompt, and each part from the last row, where the answer "
    "is read: over all layers, in windows of layers and in single ones. What the right answer loses is what comes over "
    "that edge and no other way."
)
_HOW_LAYERS = (
    "A ribbon is as wide as the loss when one role does not see another in one layer alone. Single layers can all do "
    "little where each could do for another: look at the windows, too."
)
_PARTS = (Part(LISTENING.heading, ("edges", "layers"), {"rows": HOW_ROWS, "layers": _HOW_LAYERS}),)


@checks_arguments
def listening_figures(listens: WhereItListens) -> dict[str, go.Figure]:
    """The prompt as a line of roles, and where single layers were cut and questions allow it a map of these."""
    drawn = {"rows": listening_rows(listens)}
    if listens.layers is not None and len(listens.layers.ids) > 1:
        drawn["layers"] = flow_map(listens.layers, measure=listens.measure)
    return drawn


@checks_arguments
def listening_findings(listens: WhereItListens) -> tuple[str, ...]:
    """Put the result into sentences."""
    return heard_where(listens, ())


@report_of.register
def _listens(listens: WhereItListens) -> Report:
    return Report(
        provenance=listens.provenance,
        lead=_LEAD,
        findings=listening_findings(listens),
        tables=listening_tables(listens),
        figures=listening_figures(listens),
        parts=_PARTS,
    )


@checks_arguments
def listening_tables(listens: WhereItListens) -> tuple[Table, ...]:
    """Tabulate what each edge carries over all layers, and every cut in windows and single layers, with intervals."""
    change = "share" if listens.measure == "probability" else "score"
    ends = [Column("interval", "interval")] if change == "share" else [Column("low", "score"), Column("high", "score")]
    columns = (
        Column("edge"),
        Column("layers"),
        Column("change", "change" if change == "share" else "score"),
        *ends,
        *column_list("share of all: share, right: count, fixed: count, broken: count, p: p, p (Holm): p"),
    )
    rows: dict[bool, list[tuple]] = {True: [], False: []}
    n = len(listens.everywhere.ids)
    for row in listens.to_pandas().to_dict("records"):
        low, high = (None if math.isnan(end) else float(end) for end in (row["low"], row["high"]))
        interval = [None if low is None or high is None else (low, high)] if change == "share" else [low, high]
        share = None if math.isnan(row["share"]) else float(row["share"])
        rows[row["scope"] == "all layers"].append(
            (
                row["edge"], row["cut"], float(row["change"]), *interval, share, round(row["accuracy"] * n),
                int(row["fixed"]), int(row["broken"]), float(row["p"]), float(row["p_holm"]),
            )
        )  # fmt: skip
    what = "probability of the right choice" if listens.measure == "probability" else "margin of the right words"
    note = (
        f"Change of the {what} when the target does not see the source; `behind` are all rows behind the sound. "
        "Intervals are bootstrap over clips, of each cut alone; p is the exact test of signs over clips, Holm's "
        "correction is over the edges of a kind (what all rows hear, what each hears, what each hands on) and the "
        "layers. "
        f"{int(listens.everywhere.clean_correct.sum())} of {n} answers are right without a cut."
    )
    tables = [Table("edges", "What each edge carries, over all layers", note, columns, tuple(rows[True]))]
    if rows[False]:
        tables.append(
            Table("layers", "The same in windows of layers and in single ones", note, columns, tuple(rows[False]))
        )
    return tuple(tables)


def first_table(listens: WhereItListens | None) -> tuple[Table, ...]:
    """Tabulate what each edge carries on the half that chooses, with which a study begins; nothing comes of None."""
    if listens is None:
        return ()
    (edges, *_) = listening_tables(listens)
    return (replace(edges, name="where_it_listens", title=f"{edges.title}, on the half that chooses"),)
