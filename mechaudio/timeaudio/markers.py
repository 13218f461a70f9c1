"""Times as marker tokens: each digit before the point an anchor, the one behind it an offset.

`12.3 - 100.0` is written `<a_1><a_2><f_3> - <a_1><a_0><a_0><f_0>`. Only numbers in a range are times. Two earlier
formats of the release can be asked for: `v1`, one token per fifth of a second up to 30 s, and `v2`, one token per digit
and one for the point, with two places behind it.

Reference: TimeAudio (arXiv 2511.11039), temporal markers, and the three formats of its released code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mechaudio.arguments import check_fields, checks_arguments
from mechaudio.notices import warn
from mechaudio.showing import Shown

Variant = Literal["v1", "v2", "v3"]

MARKERS = (*(f"<a_{digit}>" for digit in range(10)), *(f"<f_{digit}>" for digit in range(10)))
"""The twenty tokens of `v3`, in the order of their ids."""

#: Five digits before the point are longer than a day: what has more, such as a telephone number, is no time.
_TIME = r"(?<!\d)(?<!\d\.)(\d{1,5}(?:\.\d+)?)(?!\d)"
_RANGE = re.compile(rf"{_TIME}\s*-\s*{_TIME}")
_POINT = "<TIME_DOT>"
#: The longest time that `v1` has a token for, and what its tokens are apart.
_LONGEST, _STEP = 30.0, 0.2


@dataclass(frozen=True)
class ReadMarkers(Shown):
    """A text whose markers were read, and which of them were not written as times are.

    Attributes:
        text: The text with numbers in the place of markers.
        malformed: Runs of markers of which some part is no time: an offset without anchors or before them, anchors
            without an offset, two offsets.
        melted: Runs that hold several times with nothing between them, which are read as one number.
    """

    text: str
    malformed: tuple[str, ...]
    melted: tuple[str, ...]


@dataclass(frozen=True)
class Markers(Shown):
    """The marker tokens: texts with times in digits to texts with markers, and back.

    Attributes:
        variant: The format of the release: `v3` as published, or one of the two before it.

    Raises:
        ValueError: Another variant.
    """

    variant: Variant = "v3"

    def __post_init__(self):
        check_fields(self)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens that the vocabulary needs, in the order of their ids."""
        return _FORMATS[self.variant].tokens

    @checks_arguments
    def encode(self, text: str) -> str:
        """Return the text with the numbers of each range as markers, rounded to what the format can say.

        `v3` rounds to a tenth of a second, `v2` to a hundredth, `v1` to a fifth. Every range is taken for times, also
        `20-30 people`, but for those of a number with more than five digits before the point, which stay as they are.

        Args:
            text: Times in seconds, in digits.

        Warns:
            UserWarning: Two ranges stand side by side with nothing but blanks between them: their times melt.

        Raises:
            ValueError: The text holds a marker already.
        """
        self.refuse_in(text)
        form = _FORMATS[self.variant]
        marked = _RANGE.sub(lambda match: f"{form.write(float(match[1]))} - {form.write(float(match[2]))}", text)
        melted = self.read(marked).melted
        if melted:
            warn(
                f"ranges follow each other with nothing between them in {text!r}, so that {melted[0]!r} is read as one "
                "number: put a comma there"
            )
        return marked

    @checks_arguments
    def refuse_in(self, text: str) -> None:
        """Refuse a text that holds markers, such as a question, where a model would read them as times.

        Args:
            text: Any.

        Raises:
            ValueError: The text holds a marker.
        """
        already = _FORMATS[self.variant].run.search(text)
        if already:
            raise ValueError(
                f"the text holds the marker {already[0]!r} already, and would be read as another time: give times in "
                "digits, or take the marker out"
            )

    @checks_arguments
    def decode(self, text: str) -> str:
        """Return the text with every run of markers as one number; `read` says which of them were no times.

        In `v3`, all anchors of a run are its digits before the point, all offsets those behind it, in whatever order:
        two times without anything between them become one number.

        Args:
            text: Any, such as an answer of a model.
        """
        return self.read(text).text

    @checks_arguments
    def read(self, text: str) -> ReadMarkers:
        """Return the text decoded, with the runs of markers that are malformed or that hold several times.

        Args:
            text: Any, such as an answer of a model.
        """
        form = _FORMATS[self.variant]
        runs = [match[0] for match in form.run.finditer(text)]
        if not runs:  # blanks and lines as they are
            return ReadMarkers(text, (), ())
        split = {run: form.split(run) for run in runs}
        numbers = form.run.sub(lambda match: form.read(match[0]), text)
        return ReadMarkers(
            re.sub(r"\s+,\s*", ", ", re.sub(r"\s+-\s+", " - ", numbers)),
            tuple(run for run in runs if not all(form.time.fullmatch(part) for part in split[run])),
            tuple(run for run in runs if any(form.time.fullmatch(part) for part in split[run][:-1])),
        )


@dataclass(frozen=True)
class _Format:
    """One of the formats: its tokens, how a number is written and a run is read.

    Attributes:
        tokens: All of them.
        run: Markers with nothing but blanks between them.
        time: A whole time, without blanks.
        border: Where a time ends and another begins within a run.
        write: A number of seconds to markers.
        read: A run to digits.
    """

    tokens: tuple[str, ...]
    run: re.Pattern
    time: re.Pattern
    border: re.Pattern
    write: Callable[[float], str]
    read: Callable[[str], str]

    def split(self, run: str) -> Sequence[str]:
        """Cut a run where one time ends and the next begins."""
        return self.border.split(re.sub(r"\s", "", run))


def _write_fifths(seconds: float) -> str:
    rest, whole = round(seconds, 1), ""
    while rest > _LONGEST:
        rest, whole = rest - _LONGEST, f"{whole}<{_LONGEST}>"
    return f"{whole}<{round(rest / _STEP) * _STEP:.1f}>"


def _read_fifths(run: str) -> str:
    return f"{sum(map(float, re.findall(r'[0-9.]+', run))):.1f}"


def _write_digits(seconds: float) -> str:
    return "".join(_POINT if sign == "." else f"<TIME_{sign}>" for sign in str(round(seconds, 2)))


def _read_digits(run: str) -> str:
    return "".join("." if sign == "DOT" else sign for sign in re.findall(r"<TIME_(DOT|\d)>", run))


def _write_markers(seconds: float) -> str:
    whole, _, tenth = str(round(seconds, 1)).partition(".")
    return "".join(f"<a_{digit}>" for digit in whole) + f"<f_{tenth}>"


def _read_markers(run: str) -> str:
    whole, tenth = ("".join(re.findall(rf"<{kind}_(\d+)>", run)) or "0" for kind in "af")
    return f"{float(f'{whole}.{tenth}'):.1f}"


def _runs_of(token: str) -> re.Pattern:
    return re.compile(rf"{token}(?:\s*{token})*")


_FORMATS = {
    "v1": _Format(
        tuple(f"<{fifth / 5:.1f}>" for fifth in range(151)),
        _runs_of(r"<\d+\.\d>"),
        re.compile(r"(<30\.0>)*<([12]?\d\.[02468]|30\.0)>"),
        re.compile(r"(?<=>)(?<!<30\.0>)(?=<)"),
        _write_fifths,
        _read_fifths,
    ),
    "v2": _Format(
        (*(f"<TIME_{digit}>" for digit in range(10)), _POINT),
        _runs_of(r"<TIME_(?:DOT|\d)>"),
        re.compile(r"(<TIME_\d>)+<TIME_DOT>(<TIME_\d>)+"),
        re.compile(r"(?<=<TIME_DOT><TIME_\d>)(?=(?:<TIME_\d>)+<TIME_DOT>)"),
        _write_digits,
        _read_digits,
    ),
    "v3": _Format(
        MARKERS,
        _runs_of(r"<[af]_\d+>"),
        re.compile(r"(<a_\d>)+<f_\d>"),
        re.compile(r"(?<=<f_\d>)(?=<a_)"),
        _write_markers,
        _read_markers,
    ),
}
assert set(_FORMATS) == set(get_args(Variant))
