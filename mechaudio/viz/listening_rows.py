"""Over which rows the sound gets to the answer: the prompt as a line of roles, what each edge carries as an arrow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.attention_flow import AttentionFlow
from mechaudio.analyses.cut_edges import ALL
from mechaudio.analyses.where_it_listens import LEVEL, WhereItListens, window_name
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import FAINT, INK, ROLE_COLOURS, bare_axis, laid_out, number, of_words, plain

#: Width in pixels of an arrow that carries all that the sound is worth.
_WIDEST = 12.0
#: From one line of roles to the next, in heights of an arrow.
_APART = 2.6
#: Shares below which an arrow has no number.
_NUMBERED = 0.1


@checks_arguments
def listening_rows(found: WhereItListens, title: str | None = None, *, windows: bool = True) -> go.Figure:
    """The prompt as a line of roles, and arrows as thick as what the right answer loses without them.

    Above the line sound goes from the audio to the rows that hear it, below it they hand on to the last row. The first
    line is of cuts in all layers, the others of windows of layers. An arrow whose cut is not known to cost anything, by
    the test of signs after Holm's correction, is thin and dotted. A role in a ring listens.

    ```python
    found = ma.analyses.where_it_listens(model, questions)
    ma.viz.listening_rows(found)
    ```

    Args:
        found: What was measured.
        title: What the figure shows; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        windows: Draw a line for each window of layers, too.
    """
    flows = [found.everywhere, *([found.windows] if windows and found.windows is not None else [])]
    lines = [(window_name(window, found), flow, place) for flow in flows for place, window in enumerate(flow.windows)]
    roles = ["audio", *found.roles]
    figure = go.Figure()
    for line, (name, flow, window) in enumerate(lines):
        for place, edge in enumerate(found.edges):
            if edge != ALL:
                _draw_arrow(figure, found, flow, (place, window), -_APART * line, name)
        _draw_roles(figure, found, roles, -_APART * line, first=line == 0)
    across = bare_axis(
        range=[-0.6, len(roles) - 0.4],
        side="top",
        tickvals=list(range(len(roles))),
        ticktext=[f"<b>{role}</b>" if role in found.rows else role for role in roles],
        tickangle=0,
        tickfont={"size": 11},
        fixedrange=True,
    )
    down = bare_axis(
        range=[-_APART * (len(lines) - 1) - 1.3, 1.3],
        tickvals=[-_APART * line for line in range(len(lines))],
        ticktext=[name for name, *_ in lines],
        fixedrange=True,
    )
    n = questions_of(len(found.everywhere.ids), found.everywhere.clips)
    worth = number(found.change[found.edges.index(ALL)], 2, "+")
    note = (
        f"arrows: share of what the sound is worth{of_words(found)},<br>{worth} of {found.measure} without it; {n}"
        if found.reaches
        else f"the sound is not known to matter{of_words(found)}; {n}"
    )
    return laid_out(
        figure,
        title or (f"Where the model listens: {', '.join(found.rows)}" if found.rows else "No row is known to listen"),
        f"{note}<br>above: who hears; below: who hands on;<br>dotted: not sure",
        margin={"t": 136, "b": 16, "r": 16},
        title_y=1,
        title_yanchor="top",
        title_pad={"t": 12},
        height=162 + 108 * len(lines),
        xaxis=across,
        yaxis=down,
        showlegend=False,
    )


def _draw_arrow(
    figure: go.Figure,
    found: WhereItListens,
    flow: AttentionFlow,
    cell: tuple[int, int],
    height: float,
    name: str,
) -> None:
    """One edge in one window: an arc over the line from the sound, or under it to the last row."""
    edge, roles = found.edges[cell[0]], ["audio", *found.roles]
    change, p = float(flow.mean(found.measure)[cell]), float(found.p_holm(flow)[cell])
    sure = change < 0 and p < LEVEL
    share = change / float(found.change[found.edges.index(ALL)]) if found.reaches else 0.0
    start, stop = (roles.index(role) for role in edge)
    side = 1.0 if edge[0] == "audio" else -1.0
    along = np.linspace(0.0, 1.0, 31)
    lift = 0.35 + 0.65 * (stop - start) / max(1, len(roles) - 1)
    x, y = start + (stop - start) * along, height + side * (0.16 + lift * 4 * along * (1 - along) * 0.84)
    colour = ROLE_COLOURS[edge[0]]
    width = max(1.5, _WIDEST * min(share, 1.0)) if sure else 1.0
    says = (
        f"{plain(edge[0])} → {plain(edge[1])}, {name}<br>{number(change, 2, '+')} of {found.measure}"
        + (f", {number(100 * share, 0)}% of what the sound is worth" if found.reaches else "")
        + f"<br>{n_of(int(flow.clean_correct.sum()), 'right answer becomes', 'right answers become')} "
        f"{int(flow.correct[cell].sum())}; p = {p:.2g} (Holm)"
    )
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour if sure else INK, "width": width, "dash": "solid" if sure else "dot", "simplify": False},
        opacity=0.85 if sure else 0.3,
        hoverinfo="text",
        text=says,
        name=f"{edge[0]} to {edge[1]}" if sure else "not sure",
    )
    if not sure:
        return
    figure.add_scatter(
        x=[stop],
        y=[height + side * 0.2],
        mode="markers",
        marker={"symbol": "triangle-down" if side > 0 else "triangle-up", "size": 7 + width, "color": colour},
        hoverinfo="skip",
    )
    if share >= _NUMBERED:
        figure.add_annotation(
            x=(start + stop) / 2,
            y=height + side * (0.16 + 0.84 * lift),
            text=f"{share:.0%}",
            showarrow=False,
            yshift=side * (8 + width / 2),
            font={"size": 11, "color": INK},
        )


def _draw_roles(figure: go.Figure, found: WhereItListens, roles: Sequence[str], height: float, *, first: bool) -> None:
    """The line of roles; in the first one those that listen have a ring."""
    figure.add_scatter(
        x=[0, len(roles) - 1],
        y=[height, height],
        mode="lines",
        line={"color": FAINT, "width": 2},
        hoverinfo="skip",
    )
    ringed = [first and role in found.rows for role in roles]
    figure.add_scatter(
        x=list(range(len(roles))),
        y=[height] * len(roles),
        mode="markers",
        marker={
            "size": 11,
            "color": [ROLE_COLOURS[role] for role in roles],
            "line": {"color": INK, "width": [3 if ring else 0 for ring in ringed]},
        },
        hoverinfo="text",
        text=[f"{role}{' listens' if role in found.rows else ''}" for role in roles],
        name="roles",
    )
