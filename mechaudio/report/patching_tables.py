"""A map of activation patching as tables."""

from __future__ import annotations

import numpy as np

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.arguments import checks_arguments
from mechaudio.metrics.ranking import largest_first
from mechaudio.report.tables import Cell, Column, Table

TOP = 10


@checks_arguments
def patching_tables(found: PatchingMap) -> tuple[Table, ...]:
    """The places with the largest effect, and all places in their order, with 95 % intervals where there are any.

    Raises:
        ValueError: Clean and corrupted runs agree in all pairs.
    """
    mean = found.mean()
    low = high = np.full(mean.shape, np.nan)
    if found.scale.n_clips >= 2:
        low, high = found.interval()
    counted, flips = found.counted, found.flips
    rows: dict[tuple[int, ...], tuple[Cell, ...]] = {}
    for place in np.ndindex(mean.shape):
        where = [labels[at] for labels, at in zip(found.axes.values(), place, strict=True)]
        ends = None if np.isnan(low[place]) else (float(low[place]), float(high[place]))
        rows[place] = (*where, float(mean[place]), ends, int(counted[place]), float(flips[place]))
    places = list(rows)
    largest = [places[index] for index in largest_first(np.abs(mean - found.no_effect))]
    columns = (
        *(
            Column(axis, "number" if isinstance(labels[0], (int, float)) else "text")
            for axis, labels in found.axes.items()
        ),
        Column("on the scale", "share"),
        Column("interval", "interval"),
        Column("pairs", "count"),
        Column("another answer", "share"),
    )
    what = f"{found.hook_point} by {' and '.join(found.axes)}"
    note = (
        f"Patching {found.hook_point}, {found.direction}, {found.metric.replace('_', ' ')}: 0 % is the corrupted run "
        f"and 100 % the clean one, so that {100 * found.no_effect:.0f} % is no effect. Intervals are "
        "bootstrap over clips, which are drawn with all their pairs, of each place alone. Another answer: of all pairs "
        "that have the place, the share "
        "whose answer the patch changes."
    )
    top = [rows[place] for place in largest[:TOP]]
    return (
        Table("top_places", f"The {len(top)} largest effects of {what}", note, columns, tuple(top)),
        Table("all_places", f"All effects of {what}", note, columns, tuple(rows.values())),
    )
