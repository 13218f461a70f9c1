"""Times as marker tokens: each digit before the point an anchor, the one behind it an offset.

`12.3 - 100.0` is written `<a_1><a_2><f_3> - <a_1><a_0><a_0><f_0>`. Only numbers in a range are times.

Reference: TimeAudio (arXiv 2511.11039), temporal markers, and its released code, third format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mechaudio.showing import Shown

#: The twenty tokens, in the order of their ids.
MARKERS = (*(f"<a_{digit}>" for digit in range(10)), *(f"<f_{digit}>" for digit in range(10)))

_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)")
_RUN = re.compile(r"<[af]_\d+>(?:\s*<[af]_\d+>)*")


@dataclass(frozen=True)
class Markers(Shown):
    """The marker tokens: texts with times in digits to texts with markers, and back."""

    def encode(self, text: str) -> str:
        """Return the text with the numbers of each range as markers, rounded to a tenth of a second.

        Every range is taken for times, also `20-30 people`.
        """
        return _RANGE.sub(lambda match: f"{_written(match[1])} - {_written(match[2])}", text)

    def decode(self, text: str) -> str:
        """Return the text with every run of markers as one number with one place behind the point.

        All anchors of a run are its digits before the point, all offsets those behind it, in whatever order: two times
        without anything between them become one number.
        """
        numbers = _RUN.sub(lambda match: _read(match[0]), text)
        return re.sub(r"\s+,\s*", ", ", re.sub(r"\s+-\s+", " - ", numbers))


def _written(number: str) -> str:
    whole, _, tenth = str(round(float(number), 1)).partition(".")
    return "".join(f"<a_{digit}>" for digit in whole) + f"<f_{tenth}>"


def _read(run: str) -> str:
    whole, tenth = ("".join(re.findall(rf"<{kind}_(\d+)>", run)) or "0" for kind in "af")
    return f"{float(f'{whole}.{tenth}'):.1f}"
