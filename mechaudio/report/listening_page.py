"""What is told of where a model listens: the sentence, the prompt as a line of roles, and tables."""

from __future__ import annotations

import plotly.graph_objects as go

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import checks_arguments
from mechaudio.report.listening_tables import listening_tables
from mechaudio.report.study_page import HOW_ROWS, LISTENING, Part, Report, report_of
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
    """What was found, in sentences."""
    return (listens.sentence,)


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
