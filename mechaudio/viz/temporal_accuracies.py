"""The temporal study's right answers by condition and task."""

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.viz.by_task import accuracy_by_task


@checks_arguments
def temporal_accuracies(study: TemporalStudy) -> go.Figure:
    """Right answers by condition and task, with Wilson's 95 % intervals and the share that guessing gets right."""
    return accuracy_by_task(study.conditions)
