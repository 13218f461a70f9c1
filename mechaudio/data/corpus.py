"""A loader's result: the clips or questions that can be used, and a list of everything that cannot.

A corpus of thousands always has a few recordings that are missing and a few events that end before they begin. These
are left out and listed, each with its reason, so that a run is not lost to one of them and none is lost in silence.
"""

import math
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, overload

from mechaudio.arguments import n_of

Item = TypeVar("Item")
LONGEST_MESSAGE, LONGEST_ITEM = 400, 120

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlist = _short.maxtuple = _short.maxdict = 6
_short.maxlevel = 3


def brief(value: Any) -> str:
    """A value as Python writes it, but never more than a line of it: a field may hold a whole recording."""
    return " ".join(_short.repr(value).split())


def finite(value: Any) -> float | None:
    """A finite number, or a text that says one; None for anything else, True and False among it."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # a whole number can be beyond what a float holds
        return None
    return number if math.isfinite(number) else None


def _cut(text: str, longest: int) -> str:
    """A text in one line, its middle left out where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]} … {text[-longest // 4 :]}"


@dataclass(frozen=True)
class Problem:
    """Something in a corpus that is not as it should be.

    Attributes:
        kind: `missing recording`, `event past the end` ...; what problems are counted by.
        item: The clip, question or row that has it.
        message: What was found and what was done about it.
    """

    kind: str
    item: str
    message: str


class Problems:
    """Problems as they are found; in a strict reading the first one ends it."""

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.found: list[Problem] = []

    def add(self, kind: str, item: str, message: str, cause: Exception | None = None) -> None:
        """Keep a problem, in one line.

        Raises:
            ValueError: In a strict reading.
        """
        item, message = _cut(item, LONGEST_ITEM), _cut(message, LONGEST_MESSAGE)
        if self.strict:
            raise ValueError(f"{item}: {message} ({kind}; without strict=True it is listed instead)") from cause
        self.found.append(Problem(kind, item, message))

    def __len__(self) -> int:
        return len(self.found)


@dataclass(frozen=True, eq=False, repr=False)
class Corpus(Sequence[Item], Generic[Item]):
    """Annotated clips or questions, in the order of their files, and what was found wrong on the way.

    It is a sequence: `corpus[0]`, `len(corpus)`, `for clip in corpus`, and `corpus[:100]`, a tuple. Sounds are read
    when an item's `clip()` is called.

    Attributes:
        name: What the corpus is called.
        items: `AnnotatedClip` or `AudioQuestion`.
        problems: What was left out or mended, and why.
        version: The release, as far as it is known.
        license: License of the annotations; a clip with its own has it in `meta["license"]`.
    """

    name: str
    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    version: str = ""
    license: str = ""

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def problem_counts(self) -> dict[str, int]:
        """Count the problems of each kind, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def where(self, keep: Callable[[Item], bool]) -> "Corpus[Item]":
        """The corpus with those items for which `keep` says so."""
        return replace(self, items=tuple(item for item in self.items if keep(item)))

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {kind}" for kind, n in self.problem_counts().items())
        version = f" {self.version}" if self.version else ""
        return f"Corpus({self.name}{version}, {n_of(len(self), 'item')}, problems: {counts or 'none'})"
