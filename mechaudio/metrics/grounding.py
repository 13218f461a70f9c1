"""Scores of answers that say when something happens.

Conventions: an interval is `(onset, offset)` in seconds, the onset first.
"""

from __future__ import annotations

from collections.abc import Sequence

Interval = tuple[float | int, float | int]


def interval_iou(predicted: Sequence[Interval], reference: Sequence[Interval]) -> float:
    """Return the seconds that two sets of intervals share over the seconds that either covers.

    Intervals of a set that overlap count once. No predicted interval gives 0.

    ```python
    interval_iou([(0.0, 2.0)], [(1.0, 3.0)])     # 1 s of 3 s
    ```

    Raises:
        ValueError: There is no reference interval, or one does not end after it begins.
    """
    if not reference:
        raise ValueError("there is no reference interval, so nothing could be found")
    shared = sum(
        max(0.0, min(offset, end) - max(onset, begin))
        for onset, offset in _union(predicted)
        for begin, end in _union(reference)
    )
    both = _length(predicted) + _length(reference) - shared
    return shared / both


def _union(intervals: Sequence[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for onset, offset in sorted(intervals):
        if not onset < offset:
            raise ValueError(f"an interval ends after it begins, got {onset} to {offset}")
        if merged and onset <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], offset))
        else:
            merged.append((onset, offset))
    return merged


def _length(intervals: Sequence[Interval]) -> float:
    return float(sum(offset - onset for onset, offset in _union(intervals)))
