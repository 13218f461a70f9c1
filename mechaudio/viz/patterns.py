"""One head's attention pattern, query by key, with the tokens written beside it.

Hundreds of audio tokens look alike and would squeeze the text into nothing, so neighbours in the audio share a cell:
its attention is summed over the cell's keys and averaged over its queries, which leaves rows that sum to what they
did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clock import TokenClock
from mechaudio.models.spans import ROLES
from mechaudio.viz.theme import INK, ROLE_COLOURS, SEQUENTIAL, TEMPLATE, bare_axis, plain, titled

#: Of which a position is drawn in the first that it is in; `text` is all that is no audio, where nothing more is known.
_ROLES = (*ROLES, "transcript", "text")
LABEL_PIXELS = 12


@dataclass(frozen=True)
class Cell:
    """Neighbouring positions drawn as one: their name, the label of their tick (empty for none) and their role."""

    positions: tuple[int, ...]
    name: str
    tick: str
    role: str


def cells(
    tokens: Sequence[str],
    spans: Mapping[str, Sequence[int]],
    clock: TokenClock | None,
    positions: Sequence[int],
    audio_cells: int | None,
) -> list[Cell]:
    """How positions are drawn: one cell per text token, at most `audio_cells` for the audio.

    Args:
        tokens: The label of every position of the prompt.
        spans: Positions by role; a position in no span has the role `other`.
        clock: When each audio token sounds, for names and ticks in seconds; None numbers them instead.
        positions: Which positions to draw, in order.
        audio_cells: Most cells for the audio; None for one per token.
    """
    role_of = {position: role for role in reversed(_ROLES) for position in spans.get(role, ())}
    audio = {position: index for index, position in enumerate(spans.get("audio", ()))}
    per_cell = 1 if audio_cells is None else max(1, -(-len(audio) // audio_cells))
    made: list[Cell] = []
    for (role, _), run in groupby(
        positions, key=lambda p: (role_of.get(p, "other"), audio[p] // per_cell if p in audio else p)
    ):
        members = tuple(run)
        if role == "audio":
            name, tick = _audio_names(audio[members[0]], audio[members[-1]], clock, made)
        else:
            name = tick = plain(tokens[members[0]].replace("\n", "⏎").strip() or "␣", 14)
        made.append(Cell(members, f"{members[0]}: {name}", tick, role))
    return made


def _audio_names(first: int, last: int, clock: TokenClock | None, before: Sequence[Cell]) -> tuple[str, str]:
    """The hover name of a cell of audio tokens, and its tick: a whole second where this cell is the first in it."""
    if clock is None or not clock.contiguous:
        return (f"♪ {first} to {last}" if last > first else f"♪ {first}"), (f"♪{first}" if first % 50 == 0 else "")
    onset, offset = clock.seconds(first)[0], clock.seconds(last)[1]
    step = next((s for s in (1, 2, 5, 10, 30, 60, 300) if clock.edges[-1] / clock.sample_rate <= 10 * s), 600)
    reached = -(-onset // step) * step
    fresh = onset <= reached < offset and not (before and before[-1].tick == f"{reached:g} s")
    return f"♪ {onset:.2f} to {offset:.2f} s", f"{reached:g} s" if fresh else ""


def _ticks(drawn: Sequence[Cell], pixels: int) -> list[Cell]:
    """The cells to label: every second of the audio, and as much of the text as has room."""
    stride = LABEL_PIXELS * len(drawn) / pixels
    kept: list[int] = []
    for index, cell in enumerate(drawn):
        if kept and index - kept[-1] < stride:
            if cell.role != "audio" or not cell.tick or drawn[kept[-1]].role == "audio":
                continue
            kept.pop()
        if cell.tick:
            kept.append(index)
    return [drawn[index] for index in kept]


def _mark_roles(figure: go.Figure, drawn: Sequence[Cell], axis: str) -> None:
    """A coloured bar along an axis for each run of a role; its name where the run is long enough to hold it."""
    if all(cell.role == "other" for cell in drawn):
        return
    start = 0
    for role, run in groupby(drawn, key=lambda cell: cell.role):
        stop = start + len(list(run))
        ends = {f"{axis}0": start - 0.5, f"{axis}1": stop - 0.5}
        other = "y" if axis == "x" else "x"
        across = {
            f"{other}0": 3,
            f"{other}1": 11,
            f"{other}ref": "paper",
            f"{other}sizemode": "pixel",
            f"{other}anchor": 1,
        }
        colour = ROLE_COLOURS.get(role, INK)
        figure.add_shape(type="rect", fillcolor=colour, line={"width": 0}, **ends, **across, **{f"{axis}ref": axis})
        if axis == "x" and (stop - start) >= 0.09 * len(drawn):
            figure.add_annotation(
                x=(start + stop - 1) / 2,
                y=1,
                yref="paper",
                yanchor="bottom",
                yshift=11,
                text=role,
                showarrow=False,
                font={"color": colour, "size": 12},
            )
        start = stop


@checks_arguments
def pattern(
    weights: Float[np.ndarray, "query key"],
    tokens: Sequence[str],
    *,
    spans: Mapping[str, Sequence[int]] | None = None,
    clock: TokenClock | None = None,
    queries: Sequence[int] | None = None,
    audio_cells: int | None = 40,
    title: str = "Attention pattern",
    note: str | None = None,
) -> go.Figure:
    """One head's attention from each query to each key.

    Colours stop at the 99th percentile of what is above zero, so that one sink does not darken the rest; the hover
    gives the true number. Keys that come after their query are left empty.

    Args:
        weights: Attention of one head in one row of a batch; rows sum to one.
        tokens: The label of every key, as `PromptBatch.tokens` gives them.
        spans: Positions by role in this row (`{name: rows[0] for name, rows in batch.spans.items()}`); without them
            every token is drawn alike. Positions in no role are padding and left out.
        clock: When each audio token sounds (`batch.clock[0]`).
        queries: The position of each row of `weights`; needed where it holds only some (`at("last")`).
        audio_cells: Most cells that the audio is drawn with; None for one per token.
        title: What is shown; pass words from outside through `theme.plain`.
        note: A line below the title; by default it tells how audio tokens were pooled.

    Raises:
        ValueError: When `tokens` or `queries` do not fit `weights`.
    """
    n_queries, n_keys = weights.shape
    if len(tokens) != n_keys:
        raise ValueError(f"one token label per key is needed: {n_of(n_keys, 'key')}, {n_of(len(tokens), 'label')}")
    places = range(n_queries) if queries is None and n_queries == n_keys else queries
    if places is None or len(places) != n_queries:
        raise ValueError(
            f"weights holds {n_of(n_queries, 'query row')} for {n_of(n_keys, 'key')}: give queries= the position of "
            f"each row, got {queries}"
        )
    spans = {} if spans is None else spans
    known = {position for role in _ROLES for position in spans.get(role, ())} or set(range(n_keys))
    columns = cells(tokens, spans, clock, sorted(known), audio_cells)
    row_of = {position: row for row, position in enumerate(places)}
    rows = cells(tokens, spans, clock, [place for place in places if place in known], audio_cells)
    by_key = np.stack([weights[:, list(cell.positions)].sum(axis=1) for cell in columns], axis=1)
    z = np.stack([by_key[[row_of[p] for p in row.positions]].mean(axis=0) for row in rows])
    future = np.array([[column.positions[0] > row.positions[-1] for column in columns] for row in rows])
    z = np.where(future & (z == 0), np.nan, z)
    pooled = max(len(cell.positions) for cell in columns)
    if note is None and pooled > 1:
        note = f"audio: {n_of(pooled, 'token')} a cell, attention summed over its keys and averaged over its queries"
    return _figure(z, rows, columns, titled(title, note))


def _figure(
    z: Float[np.ndarray, "row column"], rows: Sequence[Cell], columns: Sequence[Cell], title: dict[str, object]
) -> go.Figure:
    seen = z[np.isfinite(z) & (z > 0)]
    width, height = 620, max(90, min(620, 12 * len(rows)))
    figure = go.Figure(
        go.Heatmap(
            z=z.astype(np.float32),
            x=[c.name for c in columns],
            y=[r.name for r in rows],
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=float(np.quantile(seen, 0.99)) if seen.size else 1.0,
            hoverongaps=False,
            hovertemplate="from %{y}<br>to %{x}<br>%{z:.4f} of the query's attention<extra></extra>",
            colorbar={
                "title": {"text": "share"},
                "nticks": 5,
                "x": 1.03,
                "len": max(height, 130),
                "lenmode": "pixels",
            },
        )
    )
    x_ticks, y_ticks = _ticks(columns, width), _ticks(rows, height)
    axis = bare_axis(type="category", ticks="outside", ticklen=3, tickfont={"size": 10})
    figure.update_layout(
        template=TEMPLATE,
        title=title,
        width=width + 240,
        height=height + 230,
        margin={"t": 110, "b": 96, "l": 100, "r": 90},
        xaxis={
            **axis,
            "title": {"text": "key"},
            "tickvals": [c.name for c in x_ticks],
            "ticktext": [c.tick for c in x_ticks],
            "tickangle": -90,
        },
        yaxis={
            **axis,
            "title": {"text": "query"},
            "tickvals": [r.name for r in y_ticks],
            "ticktext": [r.tick for r in y_ticks],
            "autorange": "reversed",
        },
    )
    _mark_roles(figure, columns, "x")
    _mark_roles(figure, rows, "y")
    return figure
