"""A cheap map of effects against the exact one that it stands for, place by place."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool

from mechaudio.analyses.patching.effect_map import EffectMap
from mechaudio.analyses.patching.effect_map import agreement as measured
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.viz.patching_map import DIRECTIONS
from mechaudio.viz.theme import CYCLE, INK, SEQUENTIAL, laid_out, layer_ticks, plain


@checks_arguments
def agreement(
    estimated: EffectMap,
    exact: EffectMap,
    title: str = "Estimated against exact effects",
    *,
    places: Bool[np.ndarray, "*axis"] | None = None,
) -> go.Figure:
    """The mean effect of every place, exact across and estimated up; on the dashed line they are equal.

    Args:
        estimated: A cheap map, such as one of `ma.analyses.attribution_patching`.
        exact: The map of the same places, pairs, metric and direction that it stands for.
        title: Before the correlation; plotly's own markup is allowed.
        places: Which places to compare; all that both have by default.

    Raises:
        ValueError: As `ma.analyses.agreement`: maps of other places, pairs, metrics or directions, or fewer than three
            places.
    """
    agreement = measured(estimated, exact, places=places)
    there = ~np.isnan(estimated.mean()) & ~np.isnan(exact.mean())
    there = there if places is None else there & places
    across, up = exact.mean()[there], estimated.mean()[there]
    at = np.argwhere(there)
    hover = [
        plain(", ".join(f"{axis} {labels[i]}" for (axis, labels), i in zip(exact.axes.items(), place, strict=True)))
        for place in at
    ]
    ends = [min(across.min(), exact.no_effect), max(across.max(), exact.no_effect)]
    figure = go.Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": INK, "dash": "dash", "width": 1}, hoverinfo="skip", name="equal"
    )
    marker: dict[str, object] = {"size": 8, "color": CYCLE[0], "line": {"width": 1, "color": INK}}
    if "layer" in exact.axes:
        layers = np.array(exact.axes["layer"])[at[:, list(exact.axes).index("layer")]]
        bar = {
            "title": {"text": "layer"},
            "thickness": 12,
            "outlinewidth": 0,
            "tickvals": layer_ticks(sorted(set(layers.tolist())), 7),
        }
        marker |= {"color": layers, "colorscale": SEQUENTIAL, "colorbar": bar}
    figure.add_scatter(
        x=across,
        y=up,
        mode="markers",
        marker=marker,
        customdata=hover,
        hovertemplate="%{customdata}<br>exact %{x:.3f}, estimated %{y:.3f}<extra></extra>",
        name="places",
    )
    top = min(10, len(across))
    return laid_out(
        figure,
        f"{title}: r = {agreement['pearson']:.2f}",
        f"{n_of(len(across), 'place')} of {plain(exact.hook_point)}; {DIRECTIONS[exact.direction]}; n = "
        f"{n_of(int(exact.scale.defined.sum()), 'pair')}<br>Pearson's r {agreement['pearson']:.2f}, Spearman's "
        f"{agreement['spearman']:.2f}; largest difference {agreement['error']:.2f}; "
        f"{round(agreement['top'] * top)} of the {top} largest effects are among the {top} largest estimates",
        height=460,
        showlegend=False,
        margin={"t": 104},
        xaxis={"title": {"text": "exact"}, "zeroline": False},
        yaxis={"title": {"text": "estimated"}, "zeroline": False},
    )
