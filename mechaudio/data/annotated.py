"""Annotations into clips: the loop of every corpus of clips, and what cannot be is left out and listed.

Conventions: seconds from the start of the clip; events sorted by onset, then offset.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.data.corpus import Corpus, Problems, brief, finite
from mechaudio.data.recordings import Recordings, with_recordings

SLACK = 0.1
"""Seconds that an event may end after its recording without a word: annotations are rounded, mp3 files are padded."""
#: Reads a number of seconds.
seconds = finite


@dataclass(frozen=True)
class Annotation:
    """A corpus's annotation of one clip.

    Attributes:
        item: Its id.
        events: Label, onset, offset of each; texts are read as numbers.
        files: Names of its recording, the first that is there.
        caption: In words, if there is one.
        meta: Kept with the clip.
    """

    item: str
    events: Iterable[tuple[Any, Any, Any]]
    files: tuple[str, ...]
    caption: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def annotated_corpus(
    name: str,
    annotations: Callable[[], Iterable[Annotation]],
    problems: Problems,
    *,
    sounds: tuple[str | os.PathLike | None, Path | None, str],
    version: str = "",
    license: str = "",
) -> Corpus[AnnotatedClip]:
    """Find the recordings of a corpus, and make its clips.

    Args:
        name: Name of the corpus.
        annotations: Gives what is said of the clips; it is asked again where not one recording is there.
        problems: Where problems are listed.
        sounds: The folder that the user gave, the folder otherwise, and what is checked, as for `with_recordings`.
        version: The release, as far as it is known.
        license: License of the annotations.

    Raises:
        FileNotFoundError: The user gave a folder, and not one recording is in it.
    """

    def clips(recordings: Recordings) -> list[AnnotatedClip]:
        made = []
        for annotation in annotations():
            item, recording = annotation.item, recordings.find(annotation.item, *annotation.files)
            if recording is not None:
                sound, duration = recording
                events = clean_events(annotation.events, duration, item, problems)
                made.append(AnnotatedClip(sound, events, annotation.caption, item, annotation.meta))
        return made

    items = with_recordings(*sounds, problems, clips)
    return Corpus(name, items, tuple(problems.found), version, license)


def clean_events(
    rows: Iterable[tuple[Any, Any, Any]], duration: float | None, item: str, problems: Problems
) -> tuple[Event, ...]:
    """The events that can be, sorted.

    An event whose times are no numbers, negative, or in the wrong order is left out, and so is one without a label, one
    that begins after the recording's end, and one that is said twice. An event that ends after the recording is cut
    there. Overlapping events of one label are kept and listed: they may be two dogs, or one dog noted twice.

    Args:
        rows: Label, onset, offset of each; texts are read as numbers.
        duration: Duration of the recording, None where it is not known.
        item: Whose they are, for problems.
        problems: Where problems are listed.
    """
    events: dict[Event, None] = {}
    for label, onset, offset in rows:
        event = _event(label, onset, offset, duration, item, problems)
        if event is None:
            continue
        if event in events:
            problems.add("duplicate event", item, f"{_told(event)} is said twice; one is kept")
        events[event] = None
    ordered = tuple(sorted(events, key=lambda event: (event.onset, event.offset, event.label)))
    last: dict[str, Event] = {}
    for event in ordered:
        before = last.get(event.label)
        if before is not None and event.onset < before.offset:
            problems.add("overlapping events", item, f"{_told(before)} overlaps {_told(event)}; both are kept")
        if before is None or event.offset > before.offset:
            last[event.label] = event
    return ordered


def _event(label: Any, onset: Any, offset: Any, duration: float | None, item: str, problems: Problems) -> Event | None:
    if not isinstance(label, str) or not label.strip():
        problems.add(
            "blank label",
            item,
            f"an event from {brief(onset)} to {brief(offset)} has no label: {brief(label)}; left out",
        )
        return None
    label = label.strip()
    start, stop = seconds(onset), seconds(offset)
    if start is None or stop is None or not 0 <= start < stop:
        problems.add(
            "impossible times",
            item,
            f"{brief(label)} needs 0 <= onset < offset in seconds, got {brief(onset)}, {brief(offset)}; left out",
        )
        return None
    if duration is None or stop <= duration:
        return Event(label, start, stop)
    problem = f"{label!r} from {start:g} to {stop:g} s in a recording of {duration:.3f} s"
    if start >= duration:
        problems.add("event past the end", item, f"{problem}: left out. Are the times in seconds?")
        return None
    if stop > duration + SLACK:
        problems.add("event past the end", item, f"{problem}: cut at its end")
    return Event(label, start, duration)


def _told(event: Event) -> str:
    return f"{event.label!r} from {event.onset:g} to {event.offset:g} s"
