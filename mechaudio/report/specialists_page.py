"""The study of who listens as one self-contained page: findings, tables, figures, and what the paper reports."""

import os
from pathlib import Path

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.specialists_result import SpecialistsStudy
from mechaudio.report.listening_page import HOW_ROWS, PART, small_figure
from mechaudio.report.specialists_findings import specialists_findings
from mechaudio.report.specialists_tables import PAPER, specialists_published, specialists_tables
from mechaudio.report.study_page import arranged, write_study_page
from mechaudio.viz.induced_layers import induced_layers
from mechaudio.viz.listening_curve import listening_curve
from mechaudio.viz.over_strength import accuracy_over_strength
from mechaudio.viz.specialists import specialist_map

_LEAD = (
    "An audio language model was asked questions with the recording and with silence. Which of its attention heads "
    "look at the audio more when the answer is right, does a score made from them tell right from wrong on other "
    "questions, and does pushing the model from silence to audio by these heads help?"
)
_HOW = {
    "listens": HOW_ROWS,
    "heads": (
        "A cell is one head. Red: it gives the audio more attention when the answer is right; blue: when it is wrong. "
        "Dots mark the heads for which chance is no likely reason, all heads taken together. A correlation names heads "
        "to look at; it does not say that the answer depends on them."
    ),
    "listening": (
        "The score adds up what the strongest heads give the audio, each weighted by its correlation. Above the dotted "
        "line it tells right answers from wrong ones. Inside the band it does so no better than as many heads drawn at "
        "random."
    ),
    "layers": (
        "Layer-guided steering adds, to the last layer, what hearing adds in the layers that have specialists, each "
        "weighted by how many it has: these bars. A bar inside the grey is what heads drawn at random give as well."
    ),
    "strengths": (
        "A line per way of steering, dotted ones are controls. On the left are the questions that choose: the best of "
        "many points looks better than it is. On the right are the others: there the ring is an honest number."
    ),
}
_PARTS = (
    PART,
    ("Right answers, with silence and with the recording", ("hearing",), ()),
    ("Heads that go with right answers", ("heads",), ("heads",)),
    ("The listening score", ("listening", "checks", "listening_by_group"), ("listening",)),
    (
        "Steering from silence to audio",
        ("steering", "steering_controls", "steering_by_group", "steering_heads"),
        ("layers", "strengths"),
    ),
)


@checks_arguments
def specialists_figures(study: SpecialistsStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name."""
    ks, ranking = tuple(sorted(study.settings.ks)), study.settings.ranking
    return small_figure(study.listens) | {
        "heads": specialist_map(study.scores),
        "listening": listening_curve(study.listening),
        "layers": induced_layers(study.scores, ks=ks, ranking=ranking),
        "strengths": accuracy_over_strength(study.steering.over_strength),
    }


@checks_arguments
def write_specialists_page(study: SpecialistsStudy, path: str | os.PathLike, *, title: str, command: str) -> Path:
    """Write one HTML file that holds everything it shows and asks nothing of any server.

    Args:
        study: What `specialists_study` found.
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
        findings=specialists_findings(study),
        steps=arranged(_PARTS, specialists_tables(study), specialists_figures(study), _HOW),
        provenance=study.provenance,
        paper=PAPER,
        published=specialists_published(),
    )
