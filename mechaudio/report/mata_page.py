"""What is told of the study of MATA: its findings, tables and figures, and what the paper reports."""

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.mata_result import MataStudy
from mechaudio.report.mata_findings import mata_findings
from mechaudio.report.mata_tables import PAPER, mata_published, mata_tables
from mechaudio.report.study_page import LISTENING, Part, Report, first_figure, report_of
from mechaudio.viz.mata import mata_attention, mata_layers
from mechaudio.viz.over_strength import accuracy_over_strength

_LEAD = (
    "MATA gives the last token more attention to the audio in the middle layers, at every new token, by multiplying "
    "attention scores with 1 + alpha. Does it make answers right here, which reading of its formula does, and are its "
    "layers the ones?"
)
_PARTS = (
    LISTENING,
    Part(
        "What the formula does to attention",
        ("attention",),
        {
            "attention": "On the left, how many of the scores that the last position gives audio tokens are below "
            "zero: multiplied by 1 + alpha, these fall. On the right, how much attention each reading of the formula "
            "moves to the audio, in one layer at a time; below the dashed line it moves attention away."
        },
    ),
    Part("The published setting", ("readings", "groups")),
    Part(
        "Over strength",
        ("strengths",),
        {
            "strengths": "A line per reading, in the published layers. On the left are the questions that choose: the "
            "best of many points looks better than it is. On the right are the others: there the ring is an honest "
            "number."
        },
    ),
    Part(
        "Over layers",
        ("layers",),
        {
            "layers": "A cell is a range of layers, from its first (rows) to its last (columns). A pattern on the left "
            "that is not there on the right is likely chance."
        },
    ),
    Part("Chosen by the data", ("choices",)),
    Part("Written answers", ("written",)),
)


@checks_arguments
def mata_figures(study: MataStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name."""
    return first_figure(study.listens) | {
        "attention": mata_attention(study.scores),
        "strengths": accuracy_over_strength(
            study.over_strength, title="Right answers over alpha, in the published layers"
        ),
        "layers": mata_layers(study),
    }


@report_of.register
def _mata(study: MataStudy) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=mata_findings(study),
        tables=mata_tables(study),
        figures=mata_figures(study),
        parts=_PARTS,
        paper=PAPER,
        published=mata_published(),
    )
