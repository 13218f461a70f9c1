"""The different sounds of a clip: events of one label are one sound, however often it is heard and however it is typed.

Conventions: two labels are the same if they are equal in lower case, with single spaces, without blanks around them and
without punctuation at the end.
"""

import re
from dataclasses import dataclass

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip, Event

TRAILING = " .,!?:;"


@dataclass(frozen=True)
class Sound:
    """A sound of a clip: its key, how it is called where it is first heard (in one line), and when it is heard."""

    key: str
    text: str
    segments: tuple[Event, ...]


def one_line(text: str) -> str:
    """A text without line breaks, with single spaces and none around it."""
    return " ".join(text.split())


def sound_key(text: str) -> str:
    """Return a key that two spellings of one label have in common."""
    plain = one_line(text).lower()
    return plain.rstrip(TRAILING) or plain


def sounds_of(clip: AnnotatedClip) -> tuple[Sound, ...]:
    """The different sounds of a clip, by first onset."""
    heard: dict[str, list[Event]] = {}
    for event in sorted(clip.events, key=lambda event: (event.onset, event.offset, event.label)):
        heard.setdefault(sound_key(event.label), []).append(event)
    return tuple(Sound(key, one_line(events[0].label), tuple(events)) for key, events in heard.items())


@checks_arguments
def token_overlap(one: str, other: str) -> float:
    """Return the share of words that two texts have in common: intersection by union, 0 to 1."""
    a, b = (set(re.findall(r"\w+", text.casefold())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else float(one == other)
