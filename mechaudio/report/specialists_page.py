"""What is told of the study of who listens: its findings, tables and figures, and what the paper reports."""

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.specialists_result import SpecialistsStudy
from mechaudio.report.specialists_findings import specialists_findings
from mechaudio.report.specialists_tables import PAPER, specialists_published, specialists_tables
from mechaudio.report.study_page import LISTENING, Part, Report, first_figure, report_of
from mechaudio.viz.induced_layers import induced_layers
from mechaudio.viz.listening_curve import listening_curve
from mechaudio.viz.over_strength import accuracy_over_strength
from mechaudio.viz.specialists import specialist_map

_LEAD = (
    "An audio language model was asked questions with the recording and with silence. Which of its attention heads "
    "look at the audio more when the answer is right, does a score made from them tell right from wrong on other "
    "questions, and does pushing the model from silence to audio by these heads help?"
)
_PARTS = (
    LISTENING,
    Part("Right answers, with silence and with the recording", ("hearing",)),
    Part(
        "Heads that go with right answers",
        ("heads",),
        {
            "heads": "A cell is one head. Red: it gives the audio more attention when the answer is right; blue: when "
            "it is wrong. Dots mark the heads for which chance is no likely reason, all heads taken together. A "
            "correlation names heads to look at; it does not say that the answer depends on them."
        },
    ),
    Part(
        "The listening score",
        ("listening", "checks", "listening_by_group"),
        {
            "listening": "The score adds up what the strongest heads give the audio, each weighted by its correlation. "
            "Above the dotted line it tells right answers from wrong ones. Inside the band it does so no better than "
            "as many heads drawn at random."
        },
    ),
    Part(
        "Steering from silence to audio",
        ("steering", "steering_controls", "steering_by_group", "steering_heads"),
        {
            "layers": "Layer-guided steering adds, to the last layer, what hearing adds in the layers that have "
            "specialists, each weighted by how many it has: these bars. A bar inside the grey is what heads drawn at "
            "random give as well.",
            "strengths": "A line per way of steering, dotted ones are controls. On the left are the questions that "
            "choose: the best of many points looks better than it is. On the right are the others: there the ring is "
            "an honest number.",
        },
    ),
)


@checks_arguments
def specialists_figures(study: SpecialistsStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name."""
    ks, ranking = tuple(sorted(study.settings.ks)), study.settings.ranking
    return first_figure(study.listens) | {
        "heads": specialist_map(study.scores),
        "listening": listening_curve(study.listening),
        "layers": induced_layers(study.scores, ks=ks, ranking=ranking),
        "strengths": accuracy_over_strength(study.steering.over_strength),
    }


@report_of.register
def _specialists(study: SpecialistsStudy) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=specialists_findings(study),
        tables=specialists_tables(study),
        figures=specialists_figures(study),
        parts=_PARTS,
        paper=PAPER,
        published=specialists_published(),
    )
