"""Sound events of a recording, with their times.

Conventions: seconds from the start of the clip; an event fills `[onset, offset)`; events may overlap.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import shown
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip, opened, recording_of
from mechaudio.showing import Shown


@dataclass(frozen=True)
class Event(Shown):
    """One sound in a recording.

    Attributes:
        label: What sounds.
        onset: When it begins, in seconds.
        offset: When it ends, in seconds.

    Raises:
        TypeError: For a label that is not text, or times that are not numbers.
        ValueError: For a blank label, or unless 0 <= onset < offset, both finite.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    label: str
    onset: float
    offset: float

    def __post_init__(self):
        if not isinstance(self.label, str):
            raise TypeError(f"an event's label is text, got {self.label!r}")
        if not self.label.strip():
            raise ValueError(f"an event needs a label, got {self.label!r} at {self.onset!r} s")
        for name in ("onset", "offset"):
            time = getattr(self, name)
            try:
                object.__setattr__(self, name, float(time))
            except (TypeError, ValueError, OverflowError):
                raise TypeError(f"{name} of event {self.label!r} is a number of seconds, got {shown(time)}") from None
        if not (0 <= self.onset < self.offset and math.isfinite(self.offset)):
            raise ValueError(
                f"event {self.label!r} needs 0 <= onset < offset in seconds, got {self.onset} and {self.offset}"
            )

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.offset - self.onset


def checked_events(events: Any, owner: str) -> tuple[Event, ...]:
    """A tuple of events, however they were listed.

    Raises:
        TypeError: If it is not an iterable, or one of them is not an `Event`.
    """
    if isinstance(events, (str, Event)) or not hasattr(events, "__iter__"):
        raise TypeError(
            f"events of {owner} are a tuple of Event, got {events!r}: write events=(Event(label, onset, offset),)"
        )
    kept = tuple(events)
    for index, event in enumerate(kept):
        if not isinstance(event, Event):
            raise TypeError(
                f"events[{index}] of {owner} is a {type(event).__name__}, {event!r}: write Event(label, onset, offset)"
            )
    return kept


@dataclass(frozen=True, eq=False)
class AnnotatedClip(Shown):
    """A recording and what is known of it.

    Attributes:
        audio: The recording in any form that `AudioClip.load` takes; a path or a `StoredClip` is read when `clip()` is
            called.
        events: What sounds when.
        caption: The recording in words.
        id: Its name in a corpus.
        meta: Anything else; read-only.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    audio: AudioClip | StoredClip | str | os.PathLike
    events: tuple[Event, ...] = ()
    caption: str | None = None
    id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    if TYPE_CHECKING:  # what it takes, beside what it keeps

        def __init__(
            self,
            audio: Any,
            events: Iterable[Event] = (),
            caption: str | None = None,
            id: str = "",
            meta: Mapping[str, Any] = ...,
        ) -> None: ...

    def __post_init__(self):
        object.__setattr__(self, "audio", recording_of(self.audio, f"clip {self.id!r}"))
        object.__setattr__(self, "events", checked_events(self.events, f"clip {self.id!r}"))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def clip(self) -> AudioClip:
        """The recording, read from where it is kept."""
        return opened(self.audio)
