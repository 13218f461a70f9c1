"""A map of activation patching as tables."""

from __future__ import annotations

import numpy as np

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.arguments import checks_arguments
from mechaudio.metrics.ranking import largest_first
from mechaudio.report.tables import Cell, Column, Table

TOP = 10


@checks_arguments
def patching_tables(patching: PatchingMap) -> tuple[Table, ...]:
    """The places with the largest effect, and all places in their order, with 95 % intervals where there are any.

    Raises:
        ValueError: Clean and corrupted runs agree in all pairs.
    """
    mean = patching.mean()
    low = high = np.full(mean.shape, np.nan)
    if patching.scale.n_clips >= 2:
        low, high = patching.interval()
    counted, flips = patching.counted, patching.flips
    rows: dict[tuple[int, ...], tuple[Cell, ...]] = {}
    for place in np.ndindex(mean.shape):
        where = [labels[at] for labels, at in zip(patching.axes.values(), place, strict=True)]
        ends = None if np.isnan(low[place]) else (float(low[place]), float(high[place]))
        rows[place] = (*where, float(mean[place]), ends, int(counted[place]), float(flips[place]))
    places = list(rows)
    largest = [places[index] for index in largest_first(np.abs(mean - patching.no_effect))]
    columns = (
        *(
            Column(axis, "number" if isinstance(labels[0], (int, float)) else "text")
            for axis, labels in patching.axes.items()
        ),
        Column("on the scale", "share"),
        Column("interval", "interval"),
        Column("pairs", "count"),
        Column("another answer", "share"),
    )
    what = f"{patching.hook_point} by {' and '.join(patching.axes)}"
    note = (
        f"Patching {patching.hook_point}, {patching.direction}, {patching.metric.replace('_', ' ')}: 0 % is the "
        f"corrupted run and 100 % the clean one, so that {100 * patching.no_effect:.0f} % is no effect. Intervals are "
        "bootstrap over clips, which are drawn with all their pairs, of each place alone. Another answer: of all pairs "
        "that have the place, the share whose answer the patch changes."
    )
    top = [rows[place] for place in largest[:TOP]]
    return (
        Table("top_places", f"The {len(top)} largest effects of {what}", note, columns, tuple(top)),
        Table("all_places", f"All effects of {what}", note, columns, tuple(rows.values())),
    )
