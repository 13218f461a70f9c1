"""The study of MATA as one self-contained page: findings, tables, figures, and what the paper reports."""

import os
from pathlib import Path

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.mata_result import MataStudy
from mechaudio.report.listening_page import HOW_ROWS, PART, small_figure
from mechaudio.report.mata_findings import mata_findings
from mechaudio.report.mata_tables import PAPER, mata_published, mata_tables
from mechaudio.report.study_page import arranged, write_study_page
from mechaudio.viz.mata import mata_attention, mata_layers
from mechaudio.viz.over_strength import accuracy_over_strength

_LEAD = (
    "MATA gives the last token more attention to the audio in the middle layers, at every new token, by multiplying "
    "attention scores with 1 + alpha. Does it make answers right here, which reading of its formula does, and are its "
    "layers the ones?"
)
_HOW = {
    "listens": HOW_ROWS,
    "attention": (
        "On the left, how many of the scores that the last position gives audio tokens are below zero: multiplied by "
        "1 + alpha, these fall. On the right, how much attention each reading of the formula moves to the audio, in "
        "one layer at a time; below the dashed line it moves attention away."
    ),
    "strengths": (
        "A line per reading, in the published layers. On the left are the questions that choose: the best of many "
        "points looks better than it is. On the right are the others: there the ring is an honest number."
    ),
    "layers": (
        "A cell is a range of layers, from its first (rows) to its last (columns). A pattern on the left that is not "
        "there on the right is likely chance."
    ),
}
_PARTS = (
    PART,
    ("What the formula does to attention", ("attention",), ("attention",)),
    ("The published setting", ("readings", "groups"), ()),
    ("Over strength", ("strengths",), ("strengths",)),
    ("Over layers", ("layers",), ("layers",)),
    ("Chosen by the data", ("choices",), ()),
    ("Written answers", ("written",), ()),
)


@checks_arguments
def mata_figures(study: MataStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name."""
    return small_figure(study.listens) | {
        "attention": mata_attention(study.scores),
        "strengths": accuracy_over_strength(
            study.over_strength, title="Right answers over alpha, in the published layers"
        ),
        "layers": mata_layers(study),
    }


@checks_arguments
def write_mata_page(study: MataStudy, path: str | os.PathLike, *, title: str, command: str) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    Args:
        study: What `mata_study` found.
        path: Of the file; its folder is made.
        title: Of the page.
        command: How to make it again.

    Returns:
        The path.

    Raises:
        OSError: Where the file cannot be written.
    """
    return write_study_page(
        path,
        title=title,
        command=command,
        lead=_LEAD,
        findings=mata_findings(study),
        steps=arranged(_PARTS, mata_tables(study), mata_figures(study), _HOW),
        provenance=study.provenance,
        paper=PAPER,
        published=mata_published(),
    )
