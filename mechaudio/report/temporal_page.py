"""What is told of the temporal study: its findings, tables and figures, and what the paper reports."""

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.report.study_page import LISTENING, Part, Report, first_figure, report_of
from mechaudio.report.temporal_findings import temporal_findings
from mechaudio.report.temporal_tables import PAPER, temporal_published, temporal_tables
from mechaudio.viz.temporal import temporal_accuracies, temporal_attention, temporal_fixes, temporal_layers

_LEAD = (
    "An audio language model was asked what sounds first, last or longest: with the recording, with a caption and with "
    "silence. Then its attention to the audio was changed while it answered, in all layers and in one."
)
_PARTS = (
    LISTENING,
    Part(
        "Right answers, and what is left without hearing",
        ("accuracies",),
        {
            "accuracies": "A group of bars per task, a bar per condition. Where the bar of silence is as high as that "
            "of the recording, the answers did not come from listening; the dotted line is what guessing gets right."
        },
    ),
    Part(
        "Where the last position looks",
        ("attention",),
        {
            "attention": "Before it answers, the model spreads 100 % of its attention over everything in front of it. "
            "Thick lines are audio and text as wholes, dotted ones the parts of the text and the template (fixed words "
            "and markers)."
        },
    ),
    Part(
        "Attention to audio changed in all layers",
        ("all_layers", "controls"),
        {
            "fixes": "Above, wrong answers that became right; below, right ones that became wrong. Answers at random "
            "fix some too: a fix rate inside the band is no sign of listening, and one that comes with as many broken "
            "answers helps nobody."
        },
    ),
    Part(
        "Attention to audio changed in one layer",
        ("held_out", "one_layer"),
        {
            "layers": "A line per factor: what becomes of the answers if audio scores are scaled in that one layer. "
            "Points above the band are better than no change, but the best of many points looks better than it is: the "
            "ring was chosen on one half of the questions, and its change on the other half is in the line above."
        },
    ),
)


@checks_arguments
def temporal_figures(study: TemporalStudy) -> dict[str, go.Figure]:
    """Every figure of the study by name; `fixes` only where some answers are wrong and some right without a change."""
    clean = study.compared.clean
    right = clean.correct[clean.scored]
    drawn = first_figure(study.listens) | {
        "accuracies": temporal_accuracies(study),
        "attention": temporal_attention(study),
    }
    if right.any() and not right.all():
        drawn["fixes"] = temporal_fixes(study)
    return drawn | {"layers": temporal_layers(study)}


@report_of.register
def _temporal(study: TemporalStudy) -> Report:
    return Report(
        provenance=study.provenance,
        lead=_LEAD,
        findings=temporal_findings(study),
        tables=temporal_tables(study),
        figures=temporal_figures(study),
        parts=_PARTS,
        paper=PAPER,
        published=temporal_published(),
    )
