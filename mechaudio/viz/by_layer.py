"""One line over the layers: how far a lens is from the output, how long a direction is."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.lenses.tuned_lens import TunedLens
from mechaudio.analyses.steering_directions import SteeringDirections
from mechaudio.arguments import checks_arguments
from mechaudio.metrics.bootstrap import bootstrap_mean
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, band, laid_out


@checks_arguments
def tuned_lens_kl(lens: TunedLens, *, seed: int = 0) -> go.Figure:
    """How far each depth is from the output on held-out questions, read plainly and with the tuned lens.

    Bands are 95% bootstrap intervals of the mean over questions.

    Args:
        lens: What `analyses.tuned_lens` trained.
        seed: Seed of the bootstrap.
    """
    figure = go.Figure()
    for name, values, colour in (("plain", lens.plain_kl, INK), ("tuned", lens.tuned_kl, CYCLE[0])):
        _line(figure, name, values, list(lens.depths), colour, (), seed)
    laid_out(
        figure,
        f"Distance from the output by depth ({questions_of(len(lens.held_out), ())} held out)",
        f"mean of each question; trained on {len(lens.trained_on)} others; bands: 95% intervals (bootstrap)",
        yaxis={"title": {"text": "KL divergence (nats)"}, "rangemode": "tozero"},
    )
    return _finished(figure, "depth")


@checks_arguments
def direction_lengths(directions: SteeringDirections, *, seed: int = 0) -> go.Figure:
    """The length of audio minus silence in the residual stream, layer by layer.

    The band is a 95% bootstrap interval of the mean over clips.

    Args:
        directions: What `analyses.steering_directions` found.
        seed: Seed of the bootstrap.
    """
    figure = go.Figure()
    layers = [str(layer) for layer in range(directions.norms.shape[1])]
    _line(figure, "mean length", directions.norms, layers, CYCLE[0], directions.clips, seed)
    laid_out(
        figure,
        f"How far the sound moves the last position ({questions_of(len(directions.ids), directions.clips)})",
        "length of audio minus silence after each layer; band: 95% interval over clips (bootstrap)",
        yaxis={"title": {"text": "length"}, "rangemode": "tozero"},
        showlegend=False,
    )
    return _finished(figure, "layer")


def _line(
    figure: go.Figure,
    name: str,
    values: Float[np.ndarray, "question layer"],
    labels: list[str],
    colour: str,
    clips: tuple[str, ...],
    seed: int,
) -> None:
    values = values.astype(np.float64)
    x = np.arange(len(labels))
    if len(set(clips) or values) > 1:
        low, high = bootstrap_mean(values, clips=clips or None, seed=seed)
        band(figure, x, low, high, colour=colour, legendgroup=name)
    figure.add_scatter(
        x=x,
        y=values.mean(axis=0),
        mode="lines+markers",
        name=name,
        legendgroup=name,
        line={"color": colour, "width": 2.5},
        customdata=labels,
        hovertemplate=f"%{{customdata}}: %{{y:.3f}}<extra>{name}</extra>",
    )
    figure.update_xaxes(tickvals=list(x), ticktext=labels)


def _finished(figure: go.Figure, axis: str) -> go.Figure:
    figure.update_layout(height=420, legend=LEGEND_BELOW, margin={"b": 96})
    figure.update_xaxes(title={"text": axis}, showgrid=False)
    return figure
