"""Attention from every role of token to every other, as a map."""

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.attention_mass import AttentionMass
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import SEQUENTIAL, cells, label_axis, laid_out, number, write_cells


@checks_arguments
def attention_between_roles(mass: AttentionMass, *, layer: int | None = None) -> go.Figure:
    """The share of attention that queries of each role give to keys of each, in the mean over heads and questions.

    Args:
        mass: What `analyses.attention_mass` measured.
        layer: One layer alone; by default the mean over those that have attention.

    Raises:
        IndexError: There is no such layer.
    """
    flows = mass.between()
    n_layers = flows.shape[1]
    if layer is not None and not -n_layers <= layer < n_layers:
        raise IndexError(f"layer must be among 0 to {n_layers - 1}, got {layer}")
    chosen = flows if layer is None else flows[:, [layer]]
    known = np.isfinite(chosen)
    shares = 100 * np.divide(
        np.where(known, chosen, 0.0).sum((0, 1, 2)),
        known.sum((0, 1, 2)),
        out=np.full(chosen.shape[3:], np.nan),
        where=known.any((0, 1, 2)),
    )
    figure = go.Figure(
        cells(
            shares,
            zmin=0,
            zmax=100,
            colorscale=SEQUENTIAL,
            hoverongaps=False,
            customdata=[[f"{first} → {second}" for second in mass.roles] for first in mass.roles],
            hovertemplate="%{customdata}: %{z:.1f}%<extra></extra>",
            colorbar={"title": {"text": "%"}},
        )
    )
    write_cells(figure, [number(share, 1) for share in shares.ravel()])
    where = f"mean of {n_of(n_layers, 'layer')}" if layer is None else f"layer {layer % n_layers}"
    return laid_out(
        figure,
        "Attention from role to role",
        f"{where}, mean of heads, {questions_of(len(mass.ids))}",
        height=200 + 40 * len(mass.roles),
        xaxis=label_axis("to keys of", mass.roles),
        yaxis={**label_axis("from queries of", mass.roles), "autorange": "reversed"},
    )
