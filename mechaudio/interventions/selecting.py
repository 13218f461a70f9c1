"""The common part of all interventions: how their places are written, compared, printed and kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from mechaudio.arguments import check_fields, shown
from mechaudio.kinds import all_int, plain, whole_number
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, of_rows
from mechaudio.results import as_numpy, keep
from mechaudio.showing import Shown
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.formulas import Formula
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.score_edit import ScoreEdit

Layers = int | Iterable[int] | None
Heads = int | Iterable[int] | None
Phase = Literal["prefill", "all"]
Own = TypeVar("Own", bound="Value")


class Value(Shown):
    """A frozen dataclass that prints as it is written, is compared by what it holds, and is kept with a result."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            keep(cls)

    def __repr__(self) -> str:
        """As it is written, without what was left at its default."""
        shown = []
        for field in sorted(fields(self), key=lambda field: bool(field.kw_only)):
            value = getattr(self, field.name)
            default = field.default if field.default_factory is MISSING else field.default_factory()
            if not same(value, default):
                shown.append(f"{field.name}={_written(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def _sentence(self) -> str:
        """A sentence that says what it does, without its end."""
        return repr(self)

    def __str__(self) -> str:
        """Say what it does, in a sentence."""
        return self._sentence

    def __eq__(self, other: object) -> bool:
        """Return whether the other is of the same kind and holds the same."""
        if type(other) is not type(self):
            return NotImplemented
        return all(same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    def __hash__(self) -> int:
        """Hash what it holds, but its arrays."""
        held = (getattr(self, field.name) for field in fields(self))
        return hash((type(self), *(value for value in held if not hasattr(value, "shape"))))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class AttentionIntervention(Value):
    """A change of the attention scores of some keys, in the decoder.

    Attributes:
        layers: Layers, negative ones counting from the last; `None` for every layer that has attention.
        heads: Heads; `None` for all.
        queries: Query rows: spans (`"last"`, `"keyword+last"`), positions, or `None` for all rows.
        keys: Keys: spans (`"audio"`), seconds of sound (`"audio[1.0:2.5]"`), or positions.
        phase: While generating: `"all"` changes the rows of new tokens too, where `queries` names the last row (or
            all); `"prefill"` changes the prompt alone.
    """

    layers: Layers = None
    heads: Heads = None
    queries: Where | None = "last"
    keys: Where = "audio"
    phase: Phase = "all"

    def __post_init__(self) -> None:
        """Write places as tuples.

        Raises:
            TypeError: Layers or heads that are no whole numbers.
            ValueError: No layer or no head, or an unknown phase.
        """
        self._set(
            layers=numbers("layers", self.layers),
            heads=numbers("heads", self.heads),
            queries=where(self.queries),
            keys=where(self.keys),
        )
        check_choice("phase", self.phase, ("prefill", "all"))
        check_fields(self, AttentionIntervention)

    @property
    def formula(self) -> Formula:
        """The formula for the scores."""
        raise NotImplementedError

    @property
    def _place(self) -> str:
        """The place where it acts: query rows, layers and heads."""
        phase = "" if self.phase == "all" else ", in the prompt alone"
        heads = "" if self.heads is None else f", {named('head', self.heads)}"
        return f"{placed(self.queries, 'query')}, in {named('layer', self.layers)}{heads}{phase}"

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[ScoreEdit, ...]:  # noqa: ARG002 - the same for all
        """The change of scores."""
        point = HookPoint("scores", layers=self.layers, queries=self.queries)
        return (ScoreEdit(point, self.keys, self.heads, self.formula, every_step=self.phase == "all"),)

    def of_rows(self: Own, rows: Sequence[int]) -> Own:
        """Keep the places of some prompts of a batch."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"queries": of_rows(self.queries, rows), "keys": of_rows(self.keys, rows)}
        return type(self)(**values)


def named(what: str, numbers: Layers | Heads) -> str:
    """Layers or heads in words: `layers 4 to 7`, `every layer`."""
    if numbers is None:
        return f"every {what}"
    given = list(numbers) if isinstance(numbers, Iterable) else [numbers]
    if len(given) == 1:
        return f"{what} {given[0]}"
    if given == list(range(given[0], given[0] + len(given))):
        return f"{what}s {given[0]} to {given[-1]}"
    return f"{what}s {', '.join(map(str, given[:8]))}{', …' * (len(given) > 8)}"


def placed(given: Where | None, what: str = "position") -> str:
    """Positions, queries or keys in words: `the last position`, `every query`, `positions -2, -1`."""
    if given is None:
        return f"every {what}"
    if given == "last":
        return f"the last {what}"
    if isinstance(given, str):
        return given
    if isinstance(given, Sequence) and given and not isinstance(given[0], int):
        return f"{what} positions of each prompt's own"
    return named("position", given)


def numbers(name: str, given: Layers | Heads) -> tuple[int, ...] | None:
    """Layers or heads as a tuple.

    Raises:
        TypeError: Something that is no whole number.
        ValueError: None at all.
    """
    if given is None:
        return None
    given = plain(given, int)
    try:
        numbers = _wholes(given) if isinstance(given, Iterable) else (whole_number(given),)
    except TypeError:
        raise TypeError(f"{name}= takes whole numbers, such as [20] or range(10, 21); got {given!r}") from None
    if not numbers:
        raise ValueError(f"{name}= is empty: name at least one, or leave it out for all")
    return numbers


def where(given: Where | None) -> Where | None:
    """Rows or keys with sequences as tuples of whole numbers.

    Raises:
        TypeError: Neither spans nor positions.
    """
    given = plain(given, str if isinstance(given, str) else int)
    if given is None or isinstance(given, str):
        return given
    try:
        if not isinstance(given, Iterable):
            return whole_number(given)
        return tuple(_wholes(each) if isinstance(each, Iterable) else whole_number(each) for each in given)
    except TypeError:
        raise TypeError(
            f"rows and keys are spans, such as 'keyword+last', or positions, such as [-2, -1]; got {shown(given)}"
        ) from None


def _wholes(given: Iterable[Any]) -> tuple[int, ...]:
    places = tuple(given)
    return places if all_int(places) else tuple(map(whole_number, places))


def check_choice(name: str, given: object, choices: Sequence[object]) -> None:
    """Refuse what is not among the choices.

    Raises:
        ValueError: It is not; the message lists them.
    """
    if given not in choices:
        raise ValueError(f"{name}= is one of {', '.join(map(repr, choices))}; got {given!r}")


def check_number(name: str, given: object) -> float:
    """One finite number as a plain float; anything else is refused.

    Raises:
        TypeError: It is no number.
        ValueError: It is not finite.
    """
    given = plain(given, float)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        several = isinstance(given, Iterable) and not isinstance(given, str)
        advice = f"; for several, make a grid: ma.grid(..., {name}=[...])" if several else ""
        raise TypeError(f"{name}= is one number, got {given!r}{advice}")
    if not abs(given) <= sys.float_info.max:  # also of whole numbers that no float holds
        raise ValueError(f"{name}= must be finite, got {shown(given)}")
    return float(given)


def same(first: object, second: object) -> bool:
    """Return whether two held values are equal; arrays by what they hold, whatever their library."""
    arrays = [hasattr(value, "shape") for value in (first, second)]
    if any(arrays):
        return all(arrays) and np.array_equal(as_numpy(first), as_numpy(second))
    return bool(first == second)


def _written(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"<array {list(value.shape)}>"
    whole = isinstance(value, tuple) and all(isinstance(one, int) for one in value)
    if whole and len(value) > 2 and value == tuple(range(value[0], value[-1] + 1)):
        return f"range({value[0]}, {value[-1] + 1})"
    return repr(list(value) if isinstance(value, tuple) else value)
