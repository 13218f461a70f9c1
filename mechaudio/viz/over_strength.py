"""Right answers over the strength of an intervention, beside no intervention and controls."""

from __future__ import annotations

from itertools import compress

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool
from plotly.subplots import make_subplots

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.over_strength import OverStrength, StrengthLine
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.multiple_choice import accuracy
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, LONGEST_NAME, ends, laid_out, level, plain, whiskers

_COLOURS = CYCLE[:6]
_GREYS = ("#8c8c8c", "#b8860b", "#767c84", "#a0846c")
TOGETHER = 3
"""Lines whose bars can be told apart in one plot."""
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


@checks_arguments
def accuracy_over_strength(found: OverStrength, *, title: str | None = None, seed: int = 0) -> go.Figure:
    """Right answers over strengths: in one column on the questions that choose, in the other on those that report.

    A ring marks the strength that each line does best with where it was chosen; what it is worth is to be read at the
    ring of the other column, where nothing was chosen. The dashed line and its band are the answers without an
    intervention. Bars are 95% intervals: Wilson's, and bootstrap intervals over clips for a mean over random draws.
    More than three lines are in rows, each kind with its controls, so that their bars are told apart.

    Args:
        found: What a study has of it, such as `steering_study(...).over_strength`.
        title: Title of the figure.
        seed: Seed of the bootstrap.
    """
    halves = {"chooses": found.chooses, "reports": ~found.chooses}
    headings = [
        f"the half that {name} ({questions_of(int(half.sum()), tuple(compress(found.clips, half.tolist())))})"
        for name, half in halves.items()
    ]
    rows = _rows(found.lines)
    titles = [f"{kind + ': ' if len(rows) > 1 else ''}{heading}" for kind in rows for heading in headings]
    figure = make_subplots(
        len(rows), 2, shared_yaxes=True, shared_xaxes=True, subplot_titles=titles, horizontal_spacing=0.04,
        vertical_spacing=0.14 / len(rows),
    )  # fmt: skip
    every = sorted({strength for line in found.lines for strength in line.strengths})
    places = {strength: place for place, strength in enumerate(every)}
    looks = _looks(found.lines)
    for column, half in enumerate(halves.values(), start=1):
        clips = np.array(found.clips)[half] if found.clips else None
        clean = accuracy(found.clean_correct[half], clips=clips)
        for row, lines in enumerate(rows.values(), start=1):
            for place, line in enumerate(lines):
                aside = 0.5 * (place - (len(lines) - 1) / 2) / len(lines)
                x = np.array([places[strength] for strength in line.strengths]) + aside
                _line(figure, (row, column), x, line, half, clips, *looks[line.name], seed)
            level(figure, 100 * clean.value, 100 * clean.low, 100 * clean.high, row=row, col=column)
    dotted = "; dotted: controls" if any(line.control for line in found.lines) else ""
    figure.update_xaxes(
        tickvals=list(places.values()),
        ticktext=[f"{strength:g}" for strength in every],
        range=[-0.5, len(every) - 0.5],
        zeroline=False,
    )
    figure.update_xaxes(title={"text": found.unit}, row=len(rows))
    figure.update_yaxes(range=_range(figure), zeroline=False)
    figure.update_yaxes(title={"text": "right answers (%)"}, col=1)
    figure.update_annotations(font={"size": 13, "color": INK})
    return laid_out(
        figure,
        title or f"Right answers over {plain(found.unit)}",
        f"dashed, with 95% band: no intervention; bars: 95% intervals{dotted}<br>"
        "ring: the best on the half that chooses, and what it does on the other",
        height=500 if len(rows) == 1 else 260 + 230 * len(rows),
        legend=LEGEND_BELOW,
    )


def _rows(lines: tuple[StrengthLine, ...]) -> dict[str, list[StrengthLine]]:
    """Sort lines into rows: up to three share one; of more, each kind, the first words of a name, has its own."""
    if len(lines) <= TOGETHER:
        return {"": list(lines)}
    rows: dict[str, list[StrengthLine]] = {}
    for line in lines:
        rows.setdefault(plain(line.name.partition(",")[0]), []).append(line)
    return rows


def _range(figure: go.Figure) -> tuple[float, float]:
    """Return a range from a little below the lowest end of anything that is drawn to a little above the highest."""
    bars = [trace for trace in figure.data if trace.error_y.array is not None]
    heights = np.concatenate(
        [trace.y for trace in bars]
        + [trace.y + trace.error_y.array for trace in bars]
        + [trace.y - trace.error_y.arrayminus for trace in bars]
        + [[shape.y0, shape.y1] for shape in figure.layout.shapes]
    )
    return float(np.nanmin(heights)) - 3.0, float(np.nanmax(heights)) + 3.0


def _looks(lines: tuple[StrengthLine, ...]) -> dict[str, tuple[str, str, str]]:
    """Colour, symbol and dash of every line: controls are dotted, in quieter colours."""
    looks, counts = {}, {True: 0, False: 0}
    for line in lines:
        palette, turn = (_GREYS if line.control else _COLOURS), counts[line.control]
        counts[line.control] += 1
        looks[line.name] = (
            palette[turn % len(palette)],
            _SYMBOLS[turn % len(_SYMBOLS)] + ("-open" if line.control else ""),
            "dot" if line.control else "solid",
        )
    return looks


def _line(
    figure: go.Figure,
    cell: tuple[int, int],
    x: np.ndarray,
    line: StrengthLine,
    half: Bool[np.ndarray, " question"],
    clips: np.ndarray | None,
    colour: str,
    symbol: str,
    dash: str,
    seed: int,
) -> None:
    answers = line.correct[:, half]
    share, low, high = _with_interval(answers, clips, seed)
    figure.add_scatter(
        row=cell[0],
        col=cell[1],
        x=x,
        y=100 * share,
        mode="lines+markers",
        name=plain(line.name, LONGEST_NAME),
        legendgroup=line.name,
        showlegend=cell[1] == 1,
        line={"color": colour, "width": 2, "dash": dash},
        marker={"color": colour, "size": 7, "symbol": symbol},
        error_y=whiskers(100 * share, 100 * low, 100 * high, color=colour, width=2),
        customdata=[
            (f"{strength:g}", ends(100 * left, 100 * right, 1, unit="%"))
            for strength, left, right in zip(line.strengths, low, high, strict=True)
        ],
        hovertemplate=f"{plain(line.name)}, %{{customdata[0]}}: %{{y:.1f}}% right<br>"
        f"%{{customdata[1]}}, n = {half.sum()}<extra></extra>",
    )
    if line.chosen is not None:
        figure.add_scatter(
            row=cell[0],
            col=cell[1],
            x=[x[line.chosen]],
            y=[100 * share[line.chosen]],
            mode="markers",
            legendgroup=line.name,
            showlegend=False,
            marker={"symbol": "circle-open", "size": 17, "color": colour, "line": {"width": 2}},
            hoverinfo="skip",
        )


def _with_interval(
    answers: np.ndarray, clips: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share right per strength, and the ends of its interval."""
    share = answers.mean(axis=1, dtype=np.float64)
    if np.isin(answers, (0, 1)).all():
        accuracies = [accuracy(row.astype(bool), clips=clips) for row in answers]
        return share, np.array([one.low for one in accuracies]), np.array([one.high for one in accuracies])
    if too_few(answers.shape[1], None if clips is None else tuple(clips)):
        return share, *np.full((2, len(share)), np.nan)
    return share, *bootstrap_mean(answers.T, clips=clips, confidence=0.95, seed=seed)
