"""Where a model listens, as one self-contained page: the sentence, the prompt as a line of roles, and tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import checks_arguments
from mechaudio.report.listening_tables import listening_tables
from mechaudio.report.panels import panel
from mechaudio.report.study_page import Step, write_study_page
from mechaudio.viz.flow_map import flow_map
from mechaudio.viz.listening_rows import listening_rows

HEADING = "Where the model listens"
PART = (HEADING, ("where_it_listens",), ("listens",))
"""Of the page of a study, as `arranged` takes it."""
HOW_ROWS = (
    "Sound goes from the audio to the rows that hear it (above), and these hand on to the last row, where the answer "
    "is read (below). An arrow is as thick as what the right answer loses when one cannot see the other; dotted ones "
    "are not known to carry anything. A ring is around the rows that listen: they hear, and the last row needs them."
)
_LEAD = (
    "The sound was hidden from the rows of each part of the prompt, and each part from the last row, where the answer "
    "is read: over all layers, in windows of layers and in single ones. What the right answer loses is what comes over "
    "that edge and no other way."
)
_HOW_LAYERS = (
    "A ribbon is as wide as the loss when one role does not see another in one layer alone. Single layers can all do "
    "little where each could do for another: look at the windows, too."
)


@checks_arguments
def listening_figures(found: WhereItListens) -> dict[str, go.Figure]:
    """The prompt as a line of roles, and where single layers were cut and questions allow it a map of these."""
    drawn = {"rows": listening_rows(found)}
    if found.layers is not None and len(found.layers.ids) > 1:
        drawn["layers"] = flow_map(found.layers, measure=found.measure)
    return drawn


@checks_arguments
def listening_findings(found: WhereItListens) -> tuple[str, ...]:
    """What was found, in sentences."""
    return (found.sentence,)


def small_figure(found: WhereItListens | None) -> dict[str, go.Figure]:
    """The figure of a study's first step, all layers alone; nothing comes of None."""
    return {} if found is None else {"listens": listening_rows(found, windows=False)}


@checks_arguments
def write_listening_page(found: WhereItListens, path: str | os.PathLike, *, title: str, command: str) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    Args:
        found: What `where_it_listens` found.
        path: Of the file; its folder is made.
        title: Of the page.
        command: How to make it again.

    Returns:
        The path.

    Raises:
        OSError: Where the file cannot be written.
    """
    how = {"rows": HOW_ROWS, "layers": _HOW_LAYERS}
    panels: Sequence = [panel(name, figure, how[name]) for name, figure in listening_figures(found).items()]
    return write_study_page(
        path,
        title=title,
        command=command,
        lead=_LEAD,
        findings=listening_findings(found),
        steps=[Step(HEADING, listening_tables(found), tuple(panels))],
        provenance=found.provenance,
    )
