"""Effects of places in a network on the answers, as a map or as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.analyses.patching.effect_map import EffectMap
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.bootstrap import fewest
from mechaudio.tracing.hook_points import in_tower
from mechaudio.viz.grid import WRITTEN_IN
from mechaudio.viz.theme import (
    CYCLE,
    INK,
    band,
    cells,
    ends,
    full_colour,
    label_axis,
    laid_out,
    mark_cells,
    number,
    of_words,
    plain,
    two_sided,
    whiskers,
    write_cells,
)

#: What an axis is called where its name alone does not say it.
AXIS_TITLES = {
    "second": "beginning of the window in the recording (s)",
    "position": "position in the prompt",
    "role": "what stands there",
    "event": "what sounds",
}
DIRECTIONS = {"denoising": "denoising: clean into corrupted", "noising": "noising: corrupted into clean"}
#: Axes whose neighbours follow one another; others are drawn as points.
_IN_ORDER = ("layer", "second", "position", "band")


@dataclass(frozen=True)
class _Drawn:
    """The numbers of a map as they are drawn.

    Attributes:
        mean: On the scale.
        low: Lower end of the interval; NaN where there is none.
        high: Upper end.
        names: The labels of each axis, as they are written.
        hover: Per place, in the order of a nested loop over the axes.
    """

    mean: Float[np.ndarray, "*axis"]
    low: Float[np.ndarray, "*axis"]
    high: Float[np.ndarray, "*axis"]
    names: tuple[tuple[str, ...], ...]
    hover: tuple[str, ...]


@checks_arguments
def patching_map(
    found: EffectMap,
    title: str | None = None,
    *,
    tokens: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> go.Figure:
    """The mean effect of every place, on the scale on which corrupted is 0 and clean 1.

    Two axes make a map whose colours are white where a place does nothing: at 0 when denoising, at 1 when noising. A
    place that there is not is left blank. A dot marks a cell whose interval excludes that it does nothing, which takes
    pairs about six clips. These intervals are of each cell alone: among many cells some exclude it by chance. One axis
    makes a line with its interval as a band, or points with bars where the axis has no order. The hover gives mean,
    interval and number of pairs, and of a `PatchingMap` how many answers changed.

    ```python
    found = ma.analyses.activation_patching(model, questions, over=("layer", "role"))
    ma.viz.patching_map(found)
    ```

    Args:
        found: A map with one or two axes. The first of two goes up, the second across.
        title: What was patched; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        tokens: Tokens of the prompt, to label positions: `batch.tokens(0)`, where all prompts have the same text.
        confidence: Level of the intervals, bootstrap over clips.
        resamples: Number of resamples of the bootstrap.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: More than two axes, clean and corrupted runs that agree in all pairs, or tokens of a map without
            positions or too few of them.
    """
    if len(found.axes) > 2:
        raise ValueError(
            f"a figure has one or two axes, and this map has {len(found.axes)}: {', '.join(found.axes)}. Measure over "
            "two of them, such as one layer's heads by second (layers=3)"
        )
    drawn = _drawn(found, tokens, confidence, resamples, seed)
    figure = go.Figure()
    (_heatmap if len(found.axes) == 2 else _line)(figure, found, drawn)
    return laid_out(
        figure,
        title or f"Effect of {plain(found.hook_point)} by {' and '.join(map(plain, found.axes))}",
        _note(found, drawn, confidence),
        margin={"t": 104},
    )


def axis_title(found: EffectMap, axis: str) -> str:
    """Name an axis of a map."""
    if axis == "layer" and in_tower(found.hook_point):
        return "layer of the audio tower"
    return AXIS_TITLES.get(axis, axis)


def of_clips(n: int, clips: int) -> str:
    """Count the clips of so many pairs, where these are fewer."""
    return f" of {n_of(clips, 'clip')}" if 0 < clips < n else ""


def metric_name(found: EffectMap) -> str:
    """Name the metric of the answers, in words."""
    return found.metric.replace("_", " ") + of_words(found)


def scale_bar(low: float, high: float) -> dict[str, Any]:
    """A colour bar that says what the ends of the scale mean."""
    words = {0.0: "0 corrupted", 1.0: "1 clean"}
    ticks = [tick for tick in words if low - 1e-9 <= tick <= high + 1e-9]
    ends = [end for end in (low, high) if all(abs(end - tick) > 0.2 * (high - low) for tick in ticks)]
    return {
        "tickvals": [*ticks, *ends],
        "ticktext": [*(words[tick] for tick in ticks), *(f"{end:.2f}" for end in ends)],
    }


def _drawn(found: EffectMap, tokens: Sequence[str] | None, confidence: float, resamples: int, seed: int) -> _Drawn:
    mean = found.mean()
    low = high = np.full(mean.shape, np.nan)
    if found.scale.n_clips >= 2:
        low, high = found.interval(confidence=confidence, resamples=resamples, seed=seed)
    names = tuple(_names(axis, labels, tokens) for axis, labels in found.axes.items())
    if tokens is not None and "position" not in found.axes:
        raise ValueError(f"tokens= label positions, and this map goes over {', '.join(found.axes)}")
    counted, clips = found.counted, found.scale.counted_clips(found.values)
    flips = found.flips if isinstance(found, PatchingMap) else None
    hover = []
    for place in np.ndindex(mean.shape):
        where = ", ".join(f"{axis} {labels[at]}" for axis, labels, at in zip(found.axes, names, place, strict=True))
        lines = [plain(where), f"{mean[place]:.3f}"]
        if not np.isnan(low[place]):
            lines[1] += f", {ends(float(low[place]), float(high[place]), 3, confidence=confidence)}"
        lines.append(f"n = {n_of(counted[place], 'pair')}" + of_clips(int(counted[place]), int(clips[place])))
        if flips is not None:
            lines.append(f"another answer in {flips[place]:.0%} of all pairs with this place")
        hover.append("<br>".join(lines))
    return _Drawn(mean, low, high, names, tuple(hover))


def _names(axis: str, labels: Sequence[Any], tokens: Sequence[str] | None) -> tuple[str, ...]:
    if axis != "position" or tokens is None:
        return tuple(f"{label:g}" if isinstance(label, float) else str(label) for label in labels)
    if max(labels) >= len(tokens):
        raise ValueError(
            f"the map has position {max(labels)}, and tokens= holds {len(tokens)}: give those of the prompt"
        )
    return tuple(f"{label} {tokens[label]}" for label in labels)


def _note(found: EffectMap, drawn: _Drawn, confidence: float) -> str:
    n, none = int(found.scale.defined.sum()), len(found.undefined)
    pairs = f"n = {n_of(n, 'pair')}" + of_clips(n, found.scale.n_clips)
    pairs += f" ({none} more without a difference of clean and corrupted, left out)" if none else ""
    lines = [f"{DIRECTIONS[found.direction]}; {metric_name(found)}; {plain(found.hook_point)}; {pairs}"]
    if np.isnan(drawn.low).all():
        return f"{lines[0]}<br>no intervals: {_why_none(found, fewest(confidence))}"
    counted, marked = int((~np.isnan(drawn.low)).sum()), int(found.excludes_no_effect(drawn.low, drawn.high).sum())
    kind = "dots" if len(found.axes) == 2 else "band" if next(iter(found.axes)) in _IN_ORDER else "bars"
    interval = f"{100 * confidence:g}% interval (bootstrap) of each place alone"
    note = f"excludes no effect ({found.no_effect:g}): {marked} of {counted}"
    lines.append(f"dots: {interval} {note}" if kind == "dots" else f"{kind}: {interval}; {note}")
    return "<br>".join(lines)


def _why_none(found: EffectMap, needed: int) -> str:
    """Why no place has an interval."""
    if found.scale.n_clips < needed:
        return f"they take {n_of(needed, 'pair')}" + (
            " about different clips" if found.scale.defined.sum() >= needed else ""
        )
    if found.scale.counted_clips(found.values).max() < needed:
        return f"they take {n_of(needed, 'pair')} with the same place"
    return "clean and corrupted may not differ in the mean"


def _heatmap(figure: go.Figure, found: EffectMap, drawn: _Drawn) -> None:
    (up, across), (rows, columns) = found.axes, drawn.names
    reach = full_colour(*(values - found.no_effect for values in (drawn.mean, drawn.low, drawn.high)))
    colours = two_sided(float(np.nanmin(drawn.mean)), float(np.nanmax(drawn.mean)), found.no_effect, reach)
    gap = 1 if len(columns) <= 64 else 0
    figure.add_trace(
        cells(
            drawn.mean,
            xgap=gap,
            ygap=gap,
            hoverongaps=False,
            **colours,
            customdata=np.reshape(drawn.hover, drawn.mean.shape),
            hovertemplate="%{customdata}<extra></extra>",
            colorbar=scale_bar(colours["zmin"], colours["zmax"]),
            name="effect",
        )
    )
    if drawn.mean.size <= WRITTEN_IN:
        write_cells(figure, [number(value, 2) for value in drawn.mean.flat])
    mark_cells(figure, found.excludes_no_effect(drawn.low, drawn.high), "interval excludes no effect")
    labelled = 40 if across == "position" else 17
    figure.update_layout(
        height=max(300, min(190 + 28 * len(rows), 720)),
        xaxis=label_axis(axis_title(found, across), columns, labelled),
        yaxis=label_axis(axis_title(found, up), rows),
    )


def _line(figure: go.Figure, found: EffectMap, drawn: _Drawn) -> None:
    (axis,), (names,) = found.axes, drawn.names
    x, ordered = np.arange(len(names)), axis in _IN_ORDER
    for level, words in ((0.0, "as corrupted"), (1.0, "as clean")):
        figure.add_hline(level, line={"color": INK, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=1, y=level, xref="paper", text=words, showarrow=False, xanchor="right", yanchor="bottom", name="level"
        )
    if ordered and not np.isnan(drawn.low).all():
        band(figure, x, drawn.low, drawn.high, name="interval")
    figure.add_scatter(
        x=x,
        y=drawn.mean,
        mode="lines+markers" if ordered else "markers",
        line={"color": CYCLE[0], "width": 2},
        marker={"size": 7 if ordered else 10, "color": CYCLE[0]},
        error_y=None if ordered else whiskers(drawn.mean, drawn.low, drawn.high, color=INK, thickness=1.5),
        customdata=drawn.hover,
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
        name="effect",
    )
    figure.update_layout(
        height=380,
        xaxis=label_axis(axis_title(found, axis), names, 40 if axis == "position" else 17),
        yaxis={"title": {"text": f"{metric_name(found)}, on the scale"}, "zeroline": False},
    )
