"""The temporal tasks: which sound starts first, ends last, or lasts longest.

Conventions: seconds; a merit is larger for the better answer, so that one rule, "leads all others by the margin",
serves every task. A sound that is heard again counts from its first onset, and to its last offset; what its duration is
then is a setting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mechaudio.audio.events import Event
from mechaudio.data.temporal_phrases import KEYWORDS

DURATIONS = ("longest_segment", "union", "sum")
"""Measures of a repeated sound: its longest single segment; the time in which it sounds; the sum of its segments."""


@dataclass(frozen=True)
class Task:
    """One kind of temporal question.

    Attributes:
        name: `earliest_onset` ...; with spaces, what the question asks for.
        merit: Measure of all segments of one sound and the reading of repeated sounds (`Settings.duration`), in
            seconds.
    """

    name: str
    merit: Callable[[Sequence[Event], str], float]

    @property
    def keyword(self) -> str:
        """The word of the question that says what is compared."""
        return KEYWORDS[self.name]


def duration_of(segments: Sequence[Event], reading: str) -> float:
    """The duration of a sound, in seconds."""
    if reading == "longest_segment":
        return max(segment.duration for segment in segments)
    if reading == "sum":
        return sum(segment.duration for segment in segments)
    return union(segments)


def union(segments: Sequence[Event]) -> float:
    """The time that the segments cover together, overlaps counted once, in seconds."""
    covered, heard_until = 0.0, 0.0
    for segment in sorted(segments, key=lambda segment: segment.onset):
        covered += max(0.0, segment.offset - max(segment.onset, heard_until))
        heard_until = max(heard_until, segment.offset)
    return covered


BY_NAME = {
    task.name: task
    for task in (
        Task("earliest_onset", lambda segments, _: -min(segment.onset for segment in segments)),
        Task("latest_offset", lambda segments, _: max(segment.offset for segment in segments)),
        Task("longest_duration", duration_of),
    )
}
"""The tasks."""
