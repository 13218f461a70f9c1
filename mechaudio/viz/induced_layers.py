"""Which layers the audio-specialist heads induce: the weights that layer-guided steering gives to layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from scipy.stats import hypergeom

from mechaudio.analyses.specialist_heads import HeadScores, Ranking
from mechaudio.analyses.steering_directions import layer_weights
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, VEIL, laid_out, layer_ticks


@checks_arguments
def induced_layers(
    scores: HeadScores, *, ks: Sequence[int] = (10, 20, 30), ranking: Ranking = "magnitude", confidence: float = 0.95
) -> go.Figure:
    """Share of the K specialists that each layer has: its weight in layer-guided steering.

    These are the w of "Audio-specialist heads" (arXiv 2603.06854, eq. 4-5), a group of bars per layer, a bar per K. The
    grey bar behind each is where as many heads drawn at random would fall (hypergeometric), its dash their mean: a bar
    within it says nothing about its layer.

    Args:
        scores: What `analyses.specialist_heads` found.
        ks: Numbers of heads.
        ranking: As in `HeadScores.top`.
        confidence: Level of the interval of random heads, per layer.

    Raises:
        ValueError: No K, one that is listed twice, fewer heads than one of them, an unknown ranking, or a confidence
            outside 0 to 1.
    """
    if not ks or len(set(ks)) < len(ks):
        raise ValueError(f"ks lists numbers of heads, at least one and each once, such as (10, 20, 30); got {list(ks)}")
    attending = np.isfinite(scores.r)
    n_layers, n_heads, per_layer = len(scores.r), int(attending.sum()), attending.sum(1)
    layers = np.arange(n_layers)
    width, tail = 0.8 / len(ks), (1 - checked.level(confidence)) / 2
    figure = go.Figure()
    for place, k in enumerate(ks):
        weights = layer_weights(scores.top(k, ranking=ranking))
        share = 100 * np.array([weights.get(int(layer), 0.0) for layer in layers])
        low, high = (100 * hypergeom.ppf(end, n_heads, per_layer, k) / k for end in (tail, 1 - tail))
        x = layers + (place - (len(ks) - 1) / 2) * width
        colour = CYCLE[place % len(CYCLE)]
        figure.add_bar(
            x=x,
            y=share,
            width=0.5 * width,
            name=f"K = {k}",
            marker={"color": colour},
            customdata=np.stack([share * k / 100, low, high, 100 * per_layer / n_heads], axis=-1),
            hovertemplate=f"K = {k}: %{{y:.1f}}% of the specialists (%{{customdata[0]:.0f}})<br>"
            f"random heads: mean %{{customdata[3]:.1f}}%, {100 * confidence:g}% within %{{customdata[1]:.1f}} to "
            "%{customdata[2]:.1f}%<extra></extra>",
            zorder=1,
        )
        figure.add_bar(
            x=x,
            y=high - low,
            base=low,
            width=0.9 * width,
            marker={"color": VEIL},
            name="random heads",
            legendgroup="random",
            legendrank=2000,
            showlegend=place == 0,
            hoverinfo="skip",
            zorder=0,
        )
        figure.add_scatter(
            x=x,
            y=100 * per_layer / n_heads,
            mode="markers",
            marker={"symbol": "line-ew", "size": max(4, 420 * width / n_layers), "line": {"color": INK, "width": 1.5}},
            legendgroup="random",
            showlegend=False,
            hoverinfo="skip",
            zorder=2,
        )
    n = len(scores.measured.correct)
    laid_out(
        figure,
        f"Layers that the audio-specialist heads induce (n = {n_of(n, 'question')}, {n_of(n_heads, 'head')})",
        f"share of the K heads of largest {'|r|' if ranking == 'magnitude' else 'r'}: the layer's weight in layer-"
        f"guided steering<br>grey: {100 * confidence:g}% of as many heads drawn at random; dash: their mean",
        height=400,
        barmode="overlay",
        xaxis={"title": {"text": "layer"}, "tickvals": layer_ticks(range(n_layers)), "range": [-0.5, n_layers - 0.5]},
        yaxis={"title": {"text": "share of the specialists (%)"}, "rangemode": "tozero"},
        legend=LEGEND_BELOW,
    )
    figure.update_xaxes(zeroline=False)
    return figure
