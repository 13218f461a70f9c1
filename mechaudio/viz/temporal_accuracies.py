"""The temporal study's right answers by condition and task."""

import numpy as np
import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import INK, LEGEND_BELOW, TEMPLATE, pale, plain, titled, whiskers

_CONDITIONS = {"audio": "#d55e00", "caption": "#cc79a7", "audio+caption": "#0072b2", "silence": "#b9bec4"}


@checks_arguments
def temporal_accuracies(study: TemporalStudy) -> go.Figure:
    """Right answers by condition and task, with Wilson's 95 % intervals and the share that guessing gets right."""
    figure = go.Figure()
    for condition, found in study.conditions.items():
        scores = {**found.by_task(), "all tasks": found.overall}
        share, low, high = (
            100 * np.array([getattr(score, end) for score in scores.values()]) for end in ("value", "low", "high")
        )
        figure.add_bar(
            x=[plain(task.replace("_", " ") or "no task named") for task in scores],
            y=share,
            name=condition,
            marker=pale(_CONDITIONS[condition]),
            error_y=whiskers(share, low, high, color=INK, thickness=1.5),
            customdata=[(score.count, score.n, *ends) for score, *ends in zip(scores.values(), low, high, strict=True)],
            hovertemplate=f"{condition}, %{{x}}: %{{y:.1f}} % right, %{{customdata[0]}} of %{{customdata[1]}}<br>"
            "95 % interval %{customdata[2]:.1f} to %{customdata[3]:.1f} %<extra></extra>",
        )
    chance = 100 * study.chance
    figure.add_hline(chance, line={"color": INK, "width": 1.5, "dash": "dot"})
    clean = study.compared.clean.overall
    figure.update_layout(
        template=TEMPLATE,
        height=440,
        barmode="group",
        bargroupgap=0.08,
        title=titled(
            f"Right answers by condition and task ({questions_of(clean.n, clean.n_clips)})",
            f"whiskers: 95 % intervals (Wilson); dotted: guessing gets {chance:.0f} % right",
        ),
        xaxis={"title": {"text": "task"}},
        yaxis={"title": {"text": "right answers (%)"}, "range": [0, 104]},
        legend=LEGEND_BELOW,
        margin={"b": 96},
    )
    return figure
