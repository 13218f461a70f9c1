"""Stretches of time in free text, as answers give them, with every repair counted.

Read is any number, a separator and another number: `0.2 - 2.7`, as TimeAudio writes, and what other models say instead:
`from 0.2 to 2.7 seconds`, `between 0.2 s and 2.7 s`, `0:04 – 0:09`, `1 minute 5 seconds to 2 minutes`. A number without
a unit has that of the other, and without any is in seconds.

Conventions: seconds from the start of the clip.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from mechaudio.arguments import check_fields, checks_arguments

Interval = tuple[float | int, float | int]

# Five digits before the point are longer than a day: what has more, such as a telephone number, is no time.
# What is part of a word or of a power of ten (`1e3`) is none either.
_NUMBER = r"(?<![A-Za-z_\d.])(?<!\d:)(?:\d{1,5}:){0,2}\d{1,5}(?:\.\d+)?(?!\d|[.:]\d|e[+-]?\d)"
_SECONDS = r"(?:seconds|second|secs|sec|s)"
_UNIT = rf"(?:\s*{_SECONDS}\b\.?)?"
_LONGER = [rf"{_NUMBER}\s*{unit}\b" for unit in (r"(?:hours?|hrs?)", r"(?:minutes?|mins?)")]
_AND = r"\s*(?:and\s+)?"
# A dash that touches the number behind it, and no word or number in front, is its sign.
_SIGN = r"(?:(?<![\w.)\]])[-–—−]|\bminus\s+)?"
_TIME = (
    rf"{_SIGN}(?:(?:{_LONGER[0]}{_AND})?(?:{_LONGER[1]}{_AND})?{_NUMBER}\s*{_SECONDS}\b\.?|{_LONGER[0]}{_AND}{_LONGER[1]}"
    rf"|{'|'.join(_LONGER)}|{_NUMBER}(?:\s*(?:ms|milliseconds?)\b)?)"
)
# Behind a line's end a dash begins a list, as in Markdown.
_TO = r"[^\S\n]*(?:-{1,2}>|→|-|–|—|−|to\b|until\b|till\b)\s*"
_SPAN = re.compile(
    rf"({_TIME})({_TO})({_TIME})((?:[-–—−]{_TIME}|{_TO}{_TIME}(?!\s*[^\W\d_]))*)"
    rf"|\[\s*({_TIME})(\s*,\s*)({_TIME})\s*\]"
    rf"|between\s+({_TIME})(\s*and\s+)({_TIME})",
    re.IGNORECASE,
)
_PART = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.IGNORECASE)
#: Two decimal commas, `1,5 - 2,5`, unless they part the spans of a list, `1 - 2,3 - 4,5 - 6`.
_COMMAS = re.compile(
    rf"(?<![\d.,:])(?<![-–—−])(?<![-–—−]\s)(?<!to\s)(\d{{1,5}}),(\d{{1,3}}){_UNIT}{_TO}(\d{{1,5}}),(\d{{1,3}})(?![\d.,])"
    rf"(?!{_UNIT}{_TO})",
    re.IGNORECASE,
)
_RUN_GOES_ON = re.compile(r"(?:\s|,|;|\band\b|\bseconds?\b|\bsecs?\b|\bs\b|\bfrom\b|[()\[\]])*", re.IGNORECASE)
#: What stands between a span and the words that belong to it: in front of them, and behind, read from the end.
_FRONT = re.compile(r"(?:[\s,:;()\[\].-]|\bseconds?\b|\bsecs?\b|\bs\b)*", re.IGNORECASE)
_BACK = re.compile(r"(?:[\s,:;()\[\].-]|\bmorf\b|\bta\b)*", re.IGNORECASE)
_MARKER = re.compile(r"<(?:[af]_\d|TIME_(?:DOT|\d)|\d+\.\d)>")


@runtime_checkable
class ReadsMarkers(Protocol):
    """A reader of time markers, such as `ma.timeaudio.Markers()`."""

    def read(self, text: str) -> Any:
        """Return a value with the decoded `text`, and the `malformed` and `melted` runs of markers."""
        ...


@dataclass(frozen=True)
class Repairs:
    """Repairs that were made in reading times, counted.

    Attributes:
        reworded: Spans in other words than `1.2 - 3.4`: another separator, a unit, minutes and hours, decimal commas.
        swapped: Spans that ended before they began, turned round.
        clipped: Spans that ended after the clip, cut at its end.
        beyond: Spans that began before the clip or after its end, left out.
        empty: Spans without a length, left out.
        melted: Runs of markers that hold several times, read as one number.
        malformed: Runs of markers that are no time, and of numbers that are no span, such as `2024-01-02`; left out.
        unparsed: Texts in which no span was left.
    """

    reworded: int = 0
    swapped: int = 0
    clipped: int = 0
    beyond: int = 0
    empty: int = 0
    melted: int = 0
    malformed: int = 0
    unparsed: int = 0

    def __post_init__(self):
        check_fields(self)

    def __add__(self, other: Repairs) -> Repairs:
        """Add up repairs of two texts."""
        return Repairs(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class Spans:
    """Spans that a text gives, in its order.

    Attributes:
        intervals: Onset and offset of each.
        repairs: What had to be mended.
    """

    intervals: tuple[Interval, ...]
    repairs: Repairs


@dataclass(frozen=True)
class Described:
    """Parts of a text that say when and what: runs of spans, each with the words behind it.

    Attributes:
        captions: The words of each part; blank where there are none.
        intervals: The spans of each part.
        repairs: What had to be mended.
    """

    captions: tuple[str, ...]
    intervals: tuple[tuple[Interval, ...], ...]
    repairs: Repairs


@checks_arguments
def spans_in(text: str, duration: float | None = None, *, markers: ReadsMarkers | None = None) -> Spans:
    """Return the spans that a text gives, in its order.

    ```python
    spans_in("The given query happens in 0.2 - 2.7, 9.0 - 11.0 seconds.", 10.0).intervals   # ((0.2, 2.7), (9.0, 10.0))
    ```

    Args:
        text: An answer.
        duration: Length of the clip in seconds, at which spans are cut; without it none is.
        markers: Reader of time markers, such as `ma.timeaudio.Markers()`, for answers that are written with them.

    Raises:
        ValueError: The length is no positive number, or the text holds markers and no reader is given.
    """
    plain, repairs = _decoded(text, duration, markers)
    intervals = []
    for match in _SPAN.finditer(plain):
        interval, mended = _interval(match, duration)
        repairs += mended
        intervals += [interval] if interval else []
    return Spans(tuple(intervals), repairs + Repairs(unparsed=int(not intervals)))


@checks_arguments
def described_in(text: str, duration: float | None = None, *, markers: ReadsMarkers | None = None) -> Described:
    """Return the parts of a dense caption or a timeline: runs of spans, each with the words up to the next run.

    Where words stand in front of the first run and none behind the last, they are those in front of each.

    Args:
        text: An answer, such as `1.4 - 3.7, 4.3 - 5.1 seconds, A baby cries. 2.5 - 2.9 seconds, A child speaks.`, or
            `A baby cries from 1.4 to 5.1, a child speaks from 2.5 to 2.9.`
        duration: As for `spans_in`.
        markers: As for `spans_in`.

    Raises:
        ValueError: As `spans_in`.
    """
    plain, repairs = _decoded(text, duration, markers)
    runs: list[list[Interval]] = []
    texts = [""]
    end = 0
    for match in _SPAN.finditer(plain):
        interval, mended = _interval(match, duration)
        repairs += mended
        before, end = plain[end : match.start()], match.end()
        if not runs or not _RUN_GOES_ON.fullmatch(before):
            texts[-1] = before
            texts.append("")
            runs.append([])
        runs[-1] += [interval] if interval else []
    texts[-1] = plain[end:]
    words = [_BACK.sub("", _FRONT.sub("", text, count=1)[::-1], count=1)[::-1] for text in texts]
    captions = words[:-1] if words[0] and not words[-1] else words[1:]
    parts = [(caption, tuple(run)) for caption, run in zip(captions, runs, strict=True) if run]
    repairs += Repairs(unparsed=int(not parts))
    return Described(tuple(caption for caption, _ in parts), tuple(run for _, run in parts), repairs)


def _decoded(text: str, duration: float | None, markers: ReadsMarkers | None) -> tuple[str, Repairs]:
    if duration is not None and not (duration > 0 and math.isfinite(duration)):
        raise ValueError(f"duration is the length of the clip in seconds, above 0, got {duration}")
    repairs = Repairs()
    if markers is not None:
        read = markers.read(text)
        text, repairs = read.text, Repairs(melted=len(read.melted), malformed=len(read.malformed))
    elif marker := _MARKER.search(text):
        raise ValueError(
            f"the text holds the time marker {marker[0]!r}: give markers=ma.timeaudio.Markers(), which reads it"
        )
    return _COMMAS.sub(r"\1.\2 to \3.\4", text), repairs


def _interval(match: re.Match, duration: float | None) -> tuple[Interval | None, Repairs]:
    begin, between, end, *more = (part for part in match.groups() if part is not None)
    if any(more):
        return None, Repairs(malformed=1)
    onset, offset = _seconds(begin, end), _seconds(end, begin)
    is_plain = between.strip() == "-" and re.fullmatch(r"[\d.]+", begin) and re.fullmatch(rf"[\d.]+{_UNIT}", end, re.I)
    repairs = Repairs(reworded=int(not is_plain))
    if offset < onset:
        onset, offset, repairs = offset, onset, repairs + Repairs(swapped=1)
    if onset < 0 or (duration is not None and onset >= duration):
        return None, repairs + Repairs(beyond=1)
    if duration is not None and offset > duration:
        offset, repairs = duration, repairs + Repairs(clipped=1)
    if onset == offset:
        return None, repairs + Repairs(empty=1)
    return (onset, offset), repairs


def _seconds(time: str, other: str) -> float:
    """Return the seconds of a time; one without a unit has that of the other time of its span."""
    parts = _PART.findall(time)
    if len(parts) == 1 and not parts[0][1]:
        parts = [(parts[0][0], _PART.findall(other)[-1][1])]
    seconds = sum(_clock(number) * (1 if ":" in number else _factor(unit.lower())) for number, unit in parts)
    seconds = round(seconds, 6)  # 0.12 minutes are 7.2 seconds, not 7.199999999999999
    return seconds if time[0].isdigit() else -seconds


def _factor(unit: str) -> float:
    """Return the seconds of a unit."""
    return 0.001 if unit.startswith(("ms", "milli")) else {"m": 60.0, "h": 3600.0}.get(unit[:1], 1.0)


def _clock(number: str) -> float:
    seconds = 0.0
    for part in number.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def total(repairs: Sequence[Repairs]) -> Repairs:
    """Add up the repairs of several texts."""
    return Repairs(*(sum(getattr(each, name.name) for each in repairs) for name in fields(Repairs)))
