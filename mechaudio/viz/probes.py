"""Knowledge of the sound, layer by layer: probes, their control tasks and baselines."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechaudio.analyses.probes.encoder_probes import EncoderProbes
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, ends, laid_out, whiskers

_TITLES = {
    "present": "event present", "onset": "onset", "offset": "offset", "order": "order, from the mean",
    "order_by_clock": "order, from the tokens",
}  # fmt: skip
_KINDS = {
    "score": ("probe", CYCLE[0], "solid"),
    "control": ("control task", CYCLE[1], "dash"),
    "baseline": ("without hearing", INK, "dot"),
}


@checks_arguments
def probe_scores(probes: EncoderProbes) -> go.Figure:
    """The score of every task's probe at every place, with its control task, baseline and bootstrap intervals.

    Args:
        probes: What `analyses.encoder_probes` found.
    """
    tasks = probes.tasks
    figure = make_subplots(
        rows=1, cols=len(tasks), shared_yaxes=True, horizontal_spacing=0.015,
        subplot_titles=[_TITLES.get(task, task) for task in tasks],
    )  # fmt: skip
    short = [_short(place) for place in probes.places]
    n_tower = sum(place.startswith("audio") for place in probes.places)
    for column, task in enumerate(tasks, start=1):
        for kind, (name, colour, dash) in _KINDS.items():
            estimates = [probes.estimate(task, place, of=kind) for place in probes.places]
            mean, low, high = np.array([(each.value, each.low, each.high) for each in estimates]).T
            figure.add_scatter(
                x=short,
                y=mean,
                error_y=whiskers(mean, low, high, color=colour, width=2, visible=kind != "baseline"),
                name=name,
                legendgroup=kind,
                showlegend=column == 1,
                mode="lines" if kind == "baseline" else "lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"size": 5},
                customdata=[f"{ends(each.low, each.high, 3)}, n = {each.n}" for each in estimates],
                hovertemplate="%{x}: %{y:.3f}<br>%{customdata}<extra>" + name + "</extra>",
                row=1,
                col=column,
            )
        figure.add_vline(x=n_tower - 0.5, line={"color": INK, "width": 1, "dash": "dot"}, row=1, col=column)
    figure.update_yaxes(range=[0.4, 1.02])
    figure.update_xaxes(tickangle=-90, showgrid=False, type="category", tickvals=short, tickfont={"size": 10})
    figure.update_yaxes(title={"text": "AUC within a clip; share of pairs"}, row=1, col=1)
    laid_out(
        figure,
        "What each layer knows of the sound",
        f"T: audio tower, D: decoder; {n_of(probes.n_training, 'clip')} to train on, n = {len(probes.clips)} held out; "
        "95% bootstrap intervals over clips; chance is 0.5",
        height=440,
        legend=LEGEND_BELOW,
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def _short(place: str) -> str:
    if place == "audio.blocks.0.resid_pre":
        return "T in"
    if place == "embed":
        return "D in"
    stack, _, rest = place.rpartition("blocks.")
    layer = rest.partition(".")[0]
    return f"{'T' if stack else 'D'} {layer}"
