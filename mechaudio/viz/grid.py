"""One number per layer and head, as a grid."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.arguments import checks_arguments
from mechaudio.viz.theme import (
    DIVERGING,
    SEQUENTIAL,
    bare_axis,
    cells,
    full_colour,
    laid_out,
    layer_ticks,
    number,
    with_unit,
    write_cells,
)

WRITTEN_IN = 64
"""Cells of the largest grid that has its numbers written in."""


@checks_arguments
def layer_head_grid(
    values: Float[np.ndarray, "layer head"],
    title: str,
    *,
    unit: str = "",
    note: str | None = None,
    signed: bool | None = None,
    decimals: int = 3,
    intervals: Float[np.ndarray, "2 layer head"] | None = None,
) -> go.Figure:
    """Any number that each head has: audio attention, entropy, a correlation.

    Signed numbers get two-sided colours, white at zero and as far to either side. Small grids have their numbers
    written in.

    Args:
        values: One number per layer and head; NaN leaves a cell empty.
        title: What the numbers are; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        unit: Unit of the numbers, for the colour bar and the hover.
        note: A line under the title: sample size, what was averaged.
        signed: Whether colours are two-sided; by default where a value is below zero.
        decimals: In the cells and the hover.
        intervals: Lower and upper ends of the intervals of signed numbers, NaN where there is none: a number whose
            interval reaches zero has half a colour at most, so that what chance makes is pale.

    Raises:
        ValueError: When no value is finite.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError(f"a grid needs at least one finite value, got {values.size} that are not")
    n_layers, n_heads = values.shape
    signed = bool((finite < 0).any()) if signed is None else signed
    reach = full_colour(values, *(() if intervals is None else intervals))
    low = -reach if signed else min(0.0, float(finite.min()))
    figure = go.Figure(
        cells(
            values,
            hoverongaps=False,
            colorscale=DIVERGING if signed else SEQUENTIAL,
            zmin=low,
            zmax=reach,
            hovertemplate=f"layer %{{y}}, head %{{x}}<br>{with_unit(f'%{{z:.{decimals}f}}', unit)}<extra></extra>",
            colorbar={"title": {"text": unit}, "nticks": 5},
        )
    )
    if values.size <= WRITTEN_IN:
        write_cells(figure, [number(value, decimals) for value in values.flat])
    return laid_out(
        figure,
        title,
        note,
        height=max(260, min(150 + 26 * n_layers, 640)),
        xaxis=bare_axis("head", tickvals=layer_ticks(range(n_heads))),
        yaxis=bare_axis("layer", tickvals=layer_ticks(range(n_layers))),
    )
