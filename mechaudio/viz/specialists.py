"""Which heads' audio attention goes with right answers, as a grid of layers and heads."""

import math

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.specialist_heads import HeadScores
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.viz.grid import WRITTEN_IN, layer_head_grid
from mechaudio.viz.theme import DARK, LIGHT


@checks_arguments
def specialist_map(scores: HeadScores, *, level: float = 0.05) -> go.Figure:
    """The correlation of every head's audio attention with right answers; dots mark the significant ones.

    Significant is what Benjamini and Hochberg's method finds at a false discovery rate of `level`. Heads without a
    correlation, because they give the audio the same share in every question or because their layer has no attention,
    are left empty. A correlation whose interval reaches zero has half a colour at most.

    Args:
        scores: What `analyses.specialist_heads` found.
        level: Level of the false discovery rate.

    Raises:
        ValueError: When no head varies, or for a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is a false discovery rate between 0 and 1, such as 0.05, got {level}")
    varies = scores.varies
    correct = scores.measured.correct
    empty = scores.r.size - int(varies.sum())
    figure = layer_head_grid(
        np.where(varies, scores.r, np.nan),
        f"Heads whose audio attention goes with right answers (n = {n_of(len(correct), 'question')}, "
        f"{correct.sum()} right)",
        unit="r",
        note=f"dots: q < {level:g} among the {n_of(varies.sum(), 'head that varies', 'heads that vary')}"
        + (f"; empty: {n_of(empty, 'head')} without a correlation" if empty else ""),
        signed=True,
        decimals=2,
        intervals=_intervals(scores),
    )
    figure.data[0].customdata = np.stack([scores.low, scores.high, scores.p, scores.q, 100 * scores.mean], axis=-1)
    figure.data[0].hovertemplate = (
        "layer %{y}, head %{x}<br>r = %{z:.3f} "
        f"({100 * scores.confidence:g}% interval "
        "%{customdata[0]:.3f} to %{customdata[1]:.3f})<br>p = %{customdata[2]:.2g}, q = %{customdata[3]:.2g}<br>"
        "mean audio attention %{customdata[4]:.1f}%<extra></extra>"
    )
    layers, heads = np.nonzero(varies & (scores.q < level))
    aside = 0.38 if scores.r.size <= WRITTEN_IN else 0.0  # beside the number, where there is one
    figure.add_scatter(
        x=heads + aside,
        y=layers + aside,
        mode="markers",
        name=f"q < {level:g}",
        marker={"size": 7 if aside else 5, "color": LIGHT, "line": {"color": DARK, "width": 1}},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )
    n_layers, n_heads = scores.r.shape
    figure.update_xaxes(range=[-0.5, n_heads - 0.5])
    figure.update_yaxes(range=[-0.5, n_layers - 0.5])
    return figure


def _intervals(scores: HeadScores) -> Float[np.ndarray, "2 layer head"]:
    """Stack the ends of intervals; where there is none, as wide as that of no correlation (Fisher's transformation)."""
    n = len(scores.measured.correct)
    wide = math.tanh(1.96 / math.sqrt(n - 3)) if n > 3 else 1.0
    ends = np.stack([scores.low, scores.high])
    return np.where(np.isfinite(ends), ends, np.stack([scores.r - wide, scores.r + wide]))
