"""Does more attention to the audio come with better answers? Every variant of a sweep as a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.interventions.sweep_result import Sweep
from mechaudio.metrics.bootstrap import bootstrap_mean
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, LONGEST_NAME, ends, faded, laid_out, number, plain, whiskers
from mechaudio.viz.variants import Variants, in_rows, labelled

if TYPE_CHECKING:
    import xarray

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "triangle-down", "star")


@checks_arguments
def mass_against_accuracy(
    sweeps: xarray.Dataset | Sweep | Mapping[str, xarray.Dataset | Sweep],
    title: str | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> go.Figure:
    """How each variant changes the attention on its keys, and how it changes the answers.

    A point to the right of the middle has raised attention on the keys that it acts on (in the mean over the layers,
    heads and rows that it acts in, and over questions), one above the middle has raised the share of right answers.
    Variants that help by raising attention lie in the upper right corner. Bars are intervals of both differences,
    question by question.

    ```python
    kinds = {mode: ma.sweep(model, batch, ma.grid(ma.ScaleAttention, layers=range(6), factor=[0.5, 2.0], mode=mode))
             for mode in ("plain", "centred", "mass_preserving")}
    ma.viz.mass_against_accuracy({mode: found.to_xarray() for mode, found in kinds.items()})
    ```

    Args:
        sweeps: A `Sweep` or its `to_xarray()`, or several by name, of the same questions.
        title: Plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        confidence: Level of the intervals: Bonett and Price's of shares of right answers, bootstrap of attention.
        seed: Seed of the bootstrap.

    Raises:
        TypeError: Something else.
        ValueError: No known answers, no attention masses (as in a `Comparison`), no variant that acts on attention
            scores, fewer than two questions, or sweeps of different questions.
    """
    several = isinstance(sweeps, Mapping) and not hasattr(sweeps, "data_vars")
    named = {name: labelled(sweep) for name, sweep in (sweeps if several else {"": sweeps}).items()}
    taken = {name: Variants.of(sweep) for name, sweep in named.items()}
    _same_questions(named)
    figure, left_out = go.Figure(), 0
    for index, (name, variants) in enumerate(taken.items()):
        change = in_rows(named[name], "mass_after") - in_rows(named[name], "mass_before")
        known = np.isfinite(change).all(1)
        left_out += int((~known).sum())
        if known.any():
            _draw(figure, name, index, variants, 100 * change[known], known, confidence, seed)
    if not figure.data:
        raise ValueError(
            "none of these variants acts on attention scores, so there is no attention to compare with answers"
        )
    first = next(iter(taken.values()))
    note = (
        f"{questions_of(first.n, first.clips)}; baseline, without intervention: "
        f"{first.clean_correct.mean():.1%} right<br>"
        f"bars: {100 * confidence:g}% intervals over clips, of each variant alone"
    )
    if left_out:
        note += f"; left out: {n_of(left_out, 'variant')} without an effect on attention scores"
    for line in ("add_vline", "add_hline"):
        getattr(figure, line)(0, line={"color": INK, "width": 1, "dash": "dot"}, layer="below")
    return laid_out(
        figure,
        title or "Attention on the keys, and right answers",
        note,
        height=520,
        xaxis={"title": {"text": "change of attention on the keys (points)"}, "zeroline": False},
        yaxis={"title": {"text": "change of right answers (points)"}, "zeroline": False},
        legend=LEGEND_BELOW,
        showlegend=len(figure.data) > 1,
    )


def _same_questions(named: Mapping[str, xarray.Dataset]) -> None:
    if not named:
        raise ValueError("there are no sweeps to draw")
    (first, ids), *others = ((name, list(sweep.question.values)) for name, sweep in named.items())
    for name, other in others:
        if other != ids:
            raise ValueError(f"{first!r} and {name!r} are sweeps of different questions, and cannot share a figure")
    if len(ids) < 2:
        raise ValueError(f"intervals need at least two questions, and there is {len(ids)}")


def _draw(
    figure: go.Figure,
    name: str,
    index: int,
    variants: Variants,
    mass: np.ndarray,
    known: np.ndarray,
    confidence: float,
    seed: int,
) -> None:
    """The variants of one sweep, with bars to either side."""
    low, high = bootstrap_mean(mass.T, clips=variants.clips or None, confidence=confidence, seed=seed)
    x = mass.mean(1).astype(float)
    changes = [change for change, drawn in zip(variants.changes(confidence), known, strict=True) if drawn]
    y, bottom, top = (100 * np.array([getattr(change, end) for change in changes]) for end in ("value", "low", "high"))
    names = [plain(variant) for variant, drawn in zip(variants.names, known, strict=True) if drawn]
    colour = CYCLE[index % len(CYCLE)]
    hover = [
        f"{plain(name) + '<br>' if name else ''}{variant}<br>attention {number(here, 1, '+')} points, "
        f"{ends(left, right, 1, '+', confidence=confidence)}<br>right answers {number(there, 1, '+')} points, "
        f"{ends(under, over, 1, '+', confidence=confidence)}"
        for variant, here, left, right, there, under, over in zip(names, x, low, high, y, bottom, top, strict=True)
    ]
    bars = {"width": 0, "color": faded(colour, 0.5)}
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name=plain(name, LONGEST_NAME),
        marker={"color": colour, "size": 8, "symbol": SYMBOLS[index % len(SYMBOLS)], "opacity": 0.9},
        error_x=whiskers(x, low, high, **bars),
        error_y=whiskers(y, bottom, top, **bars),
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )
