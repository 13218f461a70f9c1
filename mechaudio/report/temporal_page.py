"""The temporal study as one self-contained page: findings, tables, figures, and what the paper reports."""

import os
from pathlib import Path

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.report.listening_page import HOW_ROWS, PART, small_figure
from mechaudio.report.study_page import arranged, write_study_page
from mechaudio.report.temporal_findings import temporal_findings
from mechaudio.report.temporal_tables import PAPER, temporal_published, temporal_tables
from mechaudio.viz.temporal_accuracies import temporal_accuracies
from mechaudio.viz.temporal_attention import temporal_attention
from mechaudio.viz.temporal_fixes import temporal_fixes
from mechaudio.viz.temporal_layers import temporal_layers

_LEAD = (
    "An audio language model was asked what sounds first, last or longest: with the recording, with a caption and with "
    "silence. Then its attention to the audio was changed while it answered, in all layers and in one."
)
_HOW = {
    "listens": HOW_ROWS,
    "accuracies": (
        "A group of bars per task, a bar per condition. Where the bar of silence is as high as that of the recording, "
        "the answers did not come from listening; the dotted line is what guessing gets right."
    ),
    "attention": (
        "Before it answers, the model spreads 100 % of its attention over everything in front of it. Thick lines are "
        "audio and text as wholes, dotted ones the parts of the text and the template (fixed words and markers)."
    ),
    "fixes": (
        "Above, wrong answers that became right; below, right ones that became wrong. Answers at random fix some too: "
        "a fix rate inside the band is no sign of listening, and one that comes with as many broken answers helps "
        "nobody."
    ),
    "layers": (
        "A line per factor: what becomes of the answers if audio scores are scaled in that one layer. Points above the "
        "band are better than no change, but the best of many points looks better than it is: the ring was chosen on "
        "one half of the questions, and its change on the other half is in the line above."
    ),
}
_PARTS = (
    PART,
    ("Right answers, and what is left without hearing", ("accuracies",), ("accuracies",)),
    ("Where the last position looks", ("attention",), ("attention",)),
    ("Attention to audio changed in all layers", ("all_layers", "controls"), ("fixes",)),
    ("Attention to audio changed in one layer", ("held_out", "one_layer"), ("layers",)),
)


@checks_arguments
def temporal_figures(study: TemporalStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name; `fixes` only where some answers are wrong and some right without a change."""
    clean = study.compared.clean
    right = clean.correct[clean.scored]
    drawn = small_figure(study.listens) | {
        "accuracies": temporal_accuracies(study),
        "attention": temporal_attention(study),
    }
    if right.any() and not right.all():
        drawn["fixes"] = temporal_fixes(study)
    return drawn | {"layers": temporal_layers(study)}


@checks_arguments
def write_temporal_page(study: TemporalStudy, path: str | os.PathLike, *, title: str, command: str) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    Args:
        study: What `temporal_study` found.
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
        findings=temporal_findings(study),
        steps=arranged(_PARTS, temporal_tables(study), temporal_figures(study), _HOW),
        provenance=study.provenance,
        paper=PAPER,
        published=temporal_published(),
    )
