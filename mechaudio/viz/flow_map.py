"""Attention that carries what the answer needs: roles as lanes over the layers, and the numbers below."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from mechaudio.analyses.attention_flow import MEASURES, AttentionFlow, edge_name
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.bootstrap import too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.significance import paired_difference
from mechaudio.viz.grid import WRITTEN_IN
from mechaudio.viz.theme import (
    CYCLE,
    DIVERGING,
    FAINT,
    ROLE_COLOURS,
    bare_axis,
    cells,
    ends,
    full_colour,
    laid_out,
    layer_ticks,
    mark_cells,
    number,
    of_words,
    plain,
    write_cells,
)

_UNITS = {"probability": "probability", "margin": "logits", "accuracy": "points"}
_WHAT = {
    "probability": "Probability of the right choice",
    "margin": "Margin of the right choice",
    "accuracy": "Right answers",
}
_DECIMALS = {"probability": 2, "margin": 2, "accuracy": 0}
#: Lanes that the widest ribbon covers.
_WIDEST = 0.5
#: Parts of the widest below which a ribbon would be no more than a line.
_THINNEST = 0.03


@checks_arguments
def flow_map(
    flow: AttentionFlow,
    title: str | None = None,
    *,
    measure: str = "probability",
    confidence: float = 0.95,
    seed: int = 0,
) -> go.Figure:
    """Draw what is lost when one role does not see another, window of layers by window of layers.

    Above, roles are lanes and layers go to the right. A ribbon leaves the lane whose keys are cut off and enters the
    lane whose queries do not see them; its width is what the answer loses by that. A ribbon without filling is a cut
    that helps. A cell whose interval holds zero, or whose change is less than 3% of the largest, has no ribbon, but a
    thin line. Below, the same numbers with their
    intervals. These are of each cell alone: among many cells some exclude zero by chance, and the line under the title
    says how many do.

    ```python
    flow = ma.analyses.attention_flow(model, questions, window=3)
    ma.viz.flow_map(flow)
    ```

    Args:
        flow: What was measured, of two questions or more.
        title: What the figure shows; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        measure: `probability` of the right choice, `margin` of its logit, or `accuracy` in percentage points.
        confidence: Level of the intervals: of the bootstrap over clips, and Bonett and Price's of changes in accuracy.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: An unknown measure, or a single question.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure= is one of {', '.join(MEASURES)}, got {measure!r}")
    scale = 100.0 if measure == "accuracy" else 1.0
    mean = scale * flow.mean(measure)
    low, high = _interval(flow, measure, confidence, seed, scale)
    sure = (low > 0) | (high < 0)
    roles = _lanes(flow)
    n_edges, n_windows = mean.shape
    heights = 70 + (62 if len(roles) < 8 else 34) * len(roles), 40 + (40 if _written(mean) else 26) * n_edges
    figure = make_subplots(
        2, 1, shared_xaxes=True, row_heights=[height / sum(heights) for height in heights], vertical_spacing=0.06
    )
    _draw_lanes(figure, roles, n_windows)
    widest = float(np.abs(mean).max()) or 1.0
    drawn = sure & (np.abs(mean) >= _THINNEST * widest)
    for index, edge in enumerate(flow.edges):
        for column in range(n_windows):
            _draw_ribbon(
                figure,
                column,
                (roles.index(edge[0]), roles.index(edge[1])),
                float(mean[index, column]) / widest if drawn[index, column] else 0.0,
                _colour(edge[0], roles),
            )
    _draw_cells(figure, flow, mean, low, high, sure, measure, confidence)
    baseline = {
        "probability": f"{flow.clean_probability.mean():.2f}",
        "margin": f"{flow.clean_margin.mean():.2f} logits",
        "accuracy": f"{flow.clean_correct.mean():.0%}",
    }[measure]
    size = max(len(window) for window in flow.windows)
    few = "" if measure == "accuracy" else too_few(len(flow.ids), flow.clips, confidence)
    how = "Bonett and Price" if measure == "accuracy" else "bootstrap"
    dots = (
        f"dots: {100 * confidence:g}% interval ({how}), of each cell alone, excludes 0: "
        f"{int(sure.sum())} of {sure.size}"
    )
    return laid_out(
        figure,
        title or f"{_WHAT[measure]} when one role does not see another",
        f"change{of_words(flow)}, {questions_of(len(flow.ids), flow.clips)}; without a cut: {baseline}; windows of "
        f"{n_of(size, 'layer')}<br>{few or dots}",
        height=150 + sum(heights),
        showlegend=False,
    )


def _interval(
    flow: AttentionFlow, measure: str, confidence: float, seed: int, scale: float
) -> tuple[Float[np.ndarray, "edge window"], Float[np.ndarray, "edge window"]]:
    if measure != "accuracy":
        low, high = flow.interval(measure, confidence=confidence, seed=seed)
        return low, high
    if len(flow.ids) < 2:
        raise ValueError(f"an interval over questions needs at least 2 of them, got {len(flow.ids)}")
    changes = [
        [
            paired_difference(flow.clean_correct, after, clips=flow.clips or None, confidence=confidence)
            for after in edge
        ]
        for edge in flow.correct
    ]
    return tuple(scale * np.array([[getattr(one, end) for one in row] for row in changes]) for end in ("low", "high"))


def _lanes(flow: AttentionFlow) -> list[str]:
    """Roles from top to bottom: those that are seen, in the order of the edges, then those that only look."""
    sources = [source for source, _ in flow.edges]
    targets = [target for _, target in flow.edges if target not in sources]
    return list(dict.fromkeys([*sources, *targets]))


def _colour(role: str, roles: list[str]) -> str:
    """A role's own colour, that of audio for seconds of sound; joined roles take turns."""
    return ROLE_COLOURS.get(role.partition("[")[0]) or CYCLE[roles.index(role) % len(CYCLE)]


def _draw_lanes(figure: go.Figure, roles: list[str], n_windows: int) -> None:
    for lane, role in enumerate(roles):
        figure.add_scatter(
            x=[-0.5, n_windows - 0.5],
            y=[lane, lane],
            mode="lines",
            line={"color": _colour(role, roles), "width": 2},
            opacity=0.55,
            hoverinfo="skip",
            name=f"lane {role}",
            row=1,
            col=1,
        )
    names = [plain(role, 24) for role in roles]
    lanes = bare_axis(range=[len(roles) - 0.6, -0.4], tickvals=list(range(len(roles))), ticktext=names)
    figure.update_yaxes(lanes, row=1, col=1)


def _draw_ribbon(figure: go.Figure, column: int, lanes: tuple[int, int], share: float, colour: str) -> None:
    """From one lane to another within one window's column; `share` of the widest is negative where the cut hurts."""
    along = np.linspace(0.0, 1.0, 25)
    bend = along**2 * (3 - 2 * along)
    if lanes[0] == lanes[1]:
        centre = lanes[0] - 0.45 * np.sin(np.pi * along)
    else:
        centre = lanes[0] + (lanes[1] - lanes[0]) * bend
    x = column - 0.36 + 0.72 * along
    if share == 0.0:
        figure.add_scatter(
            x=x,
            y=centre,
            mode="lines",
            line={"color": FAINT, "width": 1},
            hoverinfo="skip",
            name="no effect",
            row=1,
            col=1,
        )
        return
    half = 0.5 * _WIDEST * abs(share)
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*(centre - half), *(centre + half)[::-1]],
        mode="lines",
        fill="toself" if share < 0 else "none",
        line={"color": colour, "width": 1, "dash": "solid" if share < 0 else "dot"},
        opacity=0.8,
        hoverinfo="skip",
        name="loss" if share < 0 else "gain",
        row=1,
        col=1,
    )


def _written(mean: Float[np.ndarray, "edge window"]) -> bool:
    return mean.size <= WRITTEN_IN


def _cut_off(attention: Float[np.ndarray, " question"]) -> str:
    share = float(attention.mean())
    return "no attention in these layers" if np.isnan(share) else f"attention cut off: {share:.0%}"


def _draw_cells(
    figure: go.Figure,
    flow: AttentionFlow,
    mean: Float[np.ndarray, "edge window"],
    low: Float[np.ndarray, "edge window"],
    high: Float[np.ndarray, "edge window"],
    sure: np.ndarray,
    measure: str,
    confidence: float,
) -> None:
    decimals, unit = _DECIMALS[measure], _UNITS[measure]
    reach = full_colour(mean, low, high)
    p = flow.p()
    hover = [
        [
            f"{plain(edge_name(edge))}, layers {window[0]} to {window[-1]}<br>"
            f"change {number(mean[row, column], decimals + 1, '+')} {unit}, "
            f"{ends(low[row, column], high[row, column], decimals + 1, '+', confidence=confidence)}<br>"
            f"answers: McNemar p = {p[row, column]:.2g}<br>"
            f"{_cut_off(flow.attention[row, column])}"
            for column, window in enumerate(flow.windows)
        ]
        for row, edge in enumerate(flow.edges)
    ]
    bar = {"title": {"text": unit}, "nticks": 5, "y": 0.0, "yanchor": "bottom", "len": 0.42}
    drawn = cells(
        mean,
        colorscale=DIVERGING,
        zmin=-reach,
        zmax=reach,
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        colorbar=bar,
    )
    figure.add_trace(drawn, row=2, col=1)
    if _written(mean):
        texts = [
            f"{number(value, decimals, '+')}<br><span style='font-size:9px'>"
            f"{number(first, decimals)} to {number(last, decimals)}</span>"
            for value, first, last in zip(mean.flat, low.flat, high.flat, strict=True)
        ]
        write_cells(figure, texts)
    mark_cells(figure, sure, "interval excludes 0", downwards=True)
    names, n_edges = [plain(edge_name(edge), 32) for edge in flow.edges], len(flow.edges)
    edges = bare_axis(range=[n_edges - 0.5, -0.5], tickvals=list(range(n_edges)), ticktext=names)
    figure.update_yaxes(edges, row=2, col=1)
    ticks = layer_ticks(range(len(flow.windows)))
    figure.update_xaxes(bare_axis(range=[-0.5, len(flow.windows) - 0.5], showticklabels=False))
    figure.update_xaxes(
        row=2,
        col=1,
        title={"text": "layer in the middle of the window" if len(flow.windows) > 1 else "layers of the window"},
        tickvals=ticks,
        ticktext=[str(flow.centres[tick]) for tick in ticks]
        if len(flow.windows) > 1
        else [f"{flow.windows[0][0]} to {flow.windows[0][-1]}"],
        showticklabels=True,
    )
