"""Answers over two parameters of an intervention, as a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.evaluation import Comparison
from mechaudio.interventions.sweep_result import Sweep
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.estimates import Estimate
from mechaudio.viz.grid import WRITTEN_IN
from mechaudio.viz.theme import (
    against,
    cells,
    ends,
    full_colour,
    label_axis,
    laid_out,
    mark_cells,
    number,
    plain,
    two_sided,
    with_unit,
    write_cells,
)
from mechaudio.viz.variants import Variants, excludes_zero, in_rows, labelled

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class _Cells:
    """The cells of a map, in the order of a nested loop over rows and columns.

    Attributes:
        what: In the title.
        values: One number per cell.
        baseline: The number without an intervention.
        changes: The difference, with its interval, in units of the values.
        hover: A line on the value and its interval, per cell.
        unit: Unit of the values.
        decimals: To show.
        interval: How the intervals of the differences were made.
    """

    what: str
    values: Sequence[float]
    baseline: float
    changes: Sequence[Estimate]
    hover: Sequence[str]
    unit: str
    decimals: int
    interval: str


def _of_answers(variants: Variants, confidence: float) -> _Cells:
    accuracies, changes = variants.accuracies(confidence), variants.changes(confidence)
    in_points = [
        Estimate(100 * change.value, 100 * change.low, 100 * change.high, change.n, confidence, change.method)
        for change in changes
    ]
    return _Cells(
        what="Right answers",
        values=[100 * accuracy.value for accuracy in accuracies],
        baseline=100 * float(variants.clean_correct.mean()),
        changes=in_points,
        hover=[
            f"{accuracy.value:.1%} right, {accuracy.count} of {accuracy.n}<br>"
            f"{ends(100 * accuracy.low, 100 * accuracy.high, 1, unit='%', confidence=confidence)}"
            for accuracy in accuracies
        ],
        unit="%",
        decimals=0,
        interval="Bonett and Price",
    )


def _of_margins(sweep: xarray.Dataset, confidence: float, seed: int) -> _Cells:
    margins, clean = in_rows(sweep, "margin").astype(np.float64), sweep.clean_margin.values.astype(np.float64)
    unknown = np.flatnonzero(~np.isfinite([*margins, clean]).all(0))
    if len(unknown):
        raise ValueError(
            f"the margin of {len(unknown)} of {n_of(len(clean), 'question')} is not a number, as where no answer is "
            f"known; the first is {str(sweep.question.values[unknown[0]])!r}: leave them out, "
            "data.isel(question=np.isfinite(data.clean_margin))"
        )
    clips = sweep["clip"].values if "clip" in sweep.coords else None
    low, high = bootstrap_mean(margins.T, clips=clips, confidence=confidence, seed=seed)
    differences = (margins - clean).T
    changes = zip(
        differences.mean(0), *bootstrap_mean(differences, clips=clips, confidence=confidence, seed=seed), strict=True
    )
    return _Cells(
        what="Margin of the right answer",
        values=list(margins.mean(1)),
        baseline=float(clean.mean()),
        changes=[Estimate(*map(float, one), len(clean), confidence, "bootstrap, percentile") for one in changes],
        hover=[
            f"mean margin {mean:.2f}<br>{ends(first, last, 2, confidence=confidence)}"
            for mean, first, last in zip(margins.mean(1), low, high, strict=True)
        ],
        unit="logits",
        decimals=2,
        interval="bootstrap",
    )


@checks_arguments
def sweep_map(
    sweep: xarray.Dataset | Sweep | Comparison,
    title: str | None = None,
    *,
    value: Literal["correct", "margin"] = "correct",
    confidence: float = 0.95,
    seed: int = 0,
) -> go.Figure:
    """The share of right answers, or the mean margin, for every pair of values of two parameters.

    Colours are two-sided around the baseline, what the model does without an intervention, which the line under the
    title and the colour bar say: red is above, blue below. A dot marks a cell whose interval of the difference,
    question by question, excludes zero. These intervals are of each cell alone: among many cells some exclude zero by
    chance, and the line under the title says how many do. The hover gives the intervals. Small maps have their numbers
    written in.

    ```python
    found = ma.sweep(model, batch, ma.grid(ma.ScaleAttention, layers=range(6), factor=[0.5, 2.0]))
    ma.viz.sweep_map(found.to_xarray())
    ```

    Args:
        sweep: A `Sweep` or a `Comparison` of a grid with two axes, or its `to_xarray()`. The first axis goes up, the
            second across.
        title: What was swept; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        value: `"correct"`, or `"margin"`, the logit of the right choice minus that of the best wrong one.
        confidence: Level of the intervals: Wilson's of a share, Bonett and Price's of its difference from the baseline,
            and bootstrap intervals of mean margins.
        seed: Seed of the bootstrap.

    Raises:
        TypeError: Something else.
        ValueError: More or fewer than two axes, no known answers, an unknown value, margins where there are no logits,
            of a single question, or of one without a known answer.
    """
    sweep = labelled(sweep)
    variants = Variants.of(sweep)
    if len(variants.axes) != 2:
        raise ValueError(
            f"a map has two axes, and this sweep has {len(variants.axes)}: {', '.join(variants.axes)}. Take one value "
            'of the others: sweep.to_xarray().sel(mode="plain")'
            if len(variants.axes) > 2
            else f"a map has two axes, and this sweep has only {', '.join(variants.axes)}: make it with "
            "ma.grid and two lists of values"
        )
    drawn = _of_answers(variants, confidence) if value == "correct" else _of_margins(sweep, confidence, seed)
    (up, rows), (across, columns) = variants.axes.items()
    shape = len(rows), len(columns)
    figure = go.Figure(
        cells(
            np.reshape(drawn.values, shape),
            **_colours(drawn),
            customdata=np.reshape(_hover(variants, drawn, confidence), shape),
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    if len(drawn.values) <= WRITTEN_IN:
        write_cells(figure, [number(value, drawn.decimals) for value in drawn.values])
    marked = np.reshape([excludes_zero(one) for one in drawn.changes], shape)
    mark_cells(figure, marked, "interval excludes 0")
    baseline = with_unit(f"{drawn.baseline:.{max(1, drawn.decimals)}f}", drawn.unit)
    few = too_few(variants.n, variants.clips, confidence) if value == "margin" else ""
    dots = (
        f"dots: {100 * confidence:g}% interval of the change ({drawn.interval}), of each cell alone, excludes 0: "
        f"{marked.sum()} of {len(drawn.changes)}"
    )
    names = [str(name) for name in sweep.choice.values] if "choice" in sweep.coords else []
    words = "" if names == list(ascii_uppercase[: len(names)]) else against([(names[0], names[1])])
    return laid_out(
        figure,
        title or f"{drawn.what} by {plain(up)} and {plain(across)}",
        f"{questions_of(variants.n, variants.clips)}{words}; baseline, without intervention: {baseline}<br>"
        f"{few or dots}",
        height=max(300, min(190 + 28 * len(rows), 720)),
        xaxis=label_axis(across, columns),
        yaxis=label_axis(up, rows),
    )


def _hover(variants: Variants, cells: _Cells, confidence: float) -> list[str]:
    fixed = (~variants.clean_correct & variants.correct).sum(1)
    broken = (variants.clean_correct & ~variants.correct).sum(1)
    change_unit = "points" if cells.unit == "%" else cells.unit
    return [
        f"{plain(name)}<br>{line}<br>change {number(one.value, cells.decimals + 1, '+')} {change_unit}, "
        f"{ends(one.low, one.high, cells.decimals + 1, '+', confidence=confidence)}<br>"
        f"{mended} answers fixed, {worse} broken"
        for name, line, one, mended, worse in zip(
            variants.names, cells.hover, cells.changes, fixed, broken, strict=True
        )
    ]


def _colours(cells: _Cells) -> dict[str, Any]:
    """Cut the two-sided colours to those that are needed: the bar ends where the values do."""
    effects, lower, upper = np.array([(change.value, change.low, change.high) for change in cells.changes]).T
    reach = full_colour(effects, lower, upper)
    colours = two_sided(min(cells.values), max(cells.values), cells.baseline, reach)
    low, high = colours["zmin"], colours["zmax"]
    outer = [end for end in (low, high) if abs(end - cells.baseline) > 0.1 * (high - low)]
    ticks = [cells.baseline, *outer]
    words = [f"{tick:.{cells.decimals}f}" for tick in ticks]
    words[0] += " baseline"
    return {
        **colours,
        "colorbar": {
            "title": {"text": cells.unit},
            "tickvals": ticks,
            "ticktext": words,
        },
    }
