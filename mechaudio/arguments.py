"""Checks of what functions are given: the kind by the annotation, the range by the name.

A name means the same everywhere (`seed`, `batch_size`, `max_new_tokens`), and so does its range. What plainly means the
same as a value of the kind is taken as that (`mechaudio.kinds.plain`).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any, Literal, SupportsIndex, TypeVar, get_args, get_origin, no_type_check

import numpy as np

from mechaudio.kinds import all_int, beyond_floats, classes_in, evaluated, fits, in_words, meant, parts_of

Function = TypeVar("Function", bound=Callable[..., Any])

#: The lowest value of an argument, wherever it is a number.
LOWEST: Mapping[str, int] = {
    **dict.fromkeys(("seed", "n"), 0),
    **dict.fromkeys(("batch_size", "batch_positions", "max_new_tokens", "audio_cells", "n_attention", "n_measured"), 1),
}
#: What gives a value of a kind.
MADE_BY: Mapping[str, str] = {
    "AudioLM": "ma.load",
    "PromptBatch": "ma.prompt",
    "AudioQuestion": "ma.AudioQuestion",
    "AnnotatedClip": "a loader of ma.data",
    "Evaluation": "ma.evaluate",
    "Comparison": "ma.evaluate(variants=)",
    "Sweep": "ma.sweep",
    "AudioAttention": "ma.analyses.audio_attention",
    "AttentionFlow": "ma.analyses.attention_flow",
    "AttentionAndAnswers": "ma.analyses.attention_and_answers",
    "HeadScores": "ma.analyses.specialist_heads",
    "ListeningScore": "ma.analyses.listening_score",
    "SteeringDirections": "ma.analyses.steering_directions",
    "PairedPasses": "ma.analyses.paired_passes",
    "LogitLens": "ma.analyses.logit_lens",
    "TunedLens": "ma.analyses.tuned_lens",
    "DirectLogitAttribution": "ma.analyses.direct_logit_attribution",
    "EncoderProbes": "ma.analyses.encoder_probes",
    "EffectMap": "ma.analyses.activation_patching",
    "PatchingMap": "ma.analyses.activation_patching",
    "AttributionMap": "ma.analyses.attribution_patching",
    "Listening": "ma.experiments.listen",
    "MataScores": "ma.experiments.mata_scores",
    "MataStudy": "ma.experiments.mata_study",
    "TemporalStudy": "ma.experiments.temporal_study",
    "SpecialistsStudy": "ma.experiments.specialists_study",
    "SteeringStudy": "ma.experiments.steering_study",
    "GroundingStudy": "ma.experiments.grounding_study",
}
#: How words to measure are named where they are taken, and what to do where they are not.
WORDS = ("target", "foil", "whole")
WORDS_ARE = (
    "by itself it reads the letters of choices, or no answer. Words are measured by ma.sweep, patching, lenses and "
    "ma.analyses.specialist_heads, or behind prompts by what reads their answers: "
    "ma.answer(model, ma.prompt(model, questions).aimed(target=..., foil=...))"
)
#: Longest text of a value in a message.
SHOWN = 120


def checks_arguments(function: Function) -> Function:
    """Check what a function is given before it runs: each argument against its annotation and `LOWEST`.

    Raises:
        TypeError: An argument of another kind, naming the argument, what it takes and what came.
        ValueError: NaN, or a number below the lowest.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        given = bound(function.__name__, signature, args, kwargs)
        for name, value in given.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or value is parameter.default:
                continue
            absent = value is None and parameter.default == ()  # none of them, then
            given.arguments[name] = () if absent else argument(name, value, evaluated(function, name))
        return function(*given.args, **given.kwargs)

    return run  # type: ignore[return-value]


def followed_home(path: str | os.PathLike) -> str:
    """Put the user's folder in the place of a path's `~`; a name such as `~clip.wav` stays as it is.

    What is called `~` in a folder (`./~/clip.wav`) is given its whole path, as `Path` leaves out the folder before it.
    """
    text = os.fspath(path)
    here = not text.startswith("~") and str(Path(text)).startswith("~")
    return os.path.join(os.getcwd(), text) if here else os.path.expanduser(text)


def argument(name: str, given: Any, kind: Any) -> Any:
    """Check a value as `check` does, and follow a path home."""
    value = check(name, given, kind)
    if not _is_path(value, kind):
        return value
    followed = followed_home(value)
    return followed if isinstance(value, str) else Path(followed)


def names_arguments(function: Function) -> Function:
    """Say what a function takes where it is called with too many arguments, too few, or others."""
    signature = inspect.signature(function)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            call = function.__name__
            bound(function.__qualname__.partition(".")[0] if call == "__init__" else call, signature, args, kwargs)
            raise

    return run  # type: ignore[return-value]


def bound(
    call: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """Give arguments their parameters.

    Args:
        call: What the message calls what is called.
        signature: Its signature.
        args: The arguments by position.
        kwargs: Those by name.

    Raises:
        TypeError: There are too many, too few, or others than it takes: which they are, and what it takes.
    """
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:
        pass
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    n_own = len(signature.parameters) - len(parameters)
    raise TypeError(f"{call} {_misplaced(parameters, args[n_own:], kwargs)}")


def _misplaced(parameters: Sequence[inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Name the arguments that do not fit in a call, and those that would."""
    placed = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    named = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    any_name = any(each.kind is each.VAR_KEYWORD for each in parameters)
    any_place = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    known = [*placed, *named]
    by_name = f"all else by name ({', '.join(f'{name}=' for name in named)})" if named else ""
    takes = f"takes {' and '.join(filter(None, [f'{listed(placed)} by position' if placed else '', by_name]))}"
    if not known:
        takes = "takes nothing"
    if len(args) > len(placed) and not any_place:
        return f"{takes}; got {shown(args[len(placed)])} by position"
    for name in kwargs:
        if name in placed[: len(args)]:
            return f"was given {name}= twice, by position and by name: leave out one of them"
        if name not in known and not any_name:
            if name in WORDS and {"questions", "question", "batch"} & {*known}:
                return f"knows no {name}=: {WORDS_ARE}"
            near = get_close_matches(name, known, n=1)
            return f"knows no {name}=: " + (f"did you mean {near[0]}=?" if near else f"it {takes}")
    lacking = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        and each.name not in kwargs
        and each.name not in placed[: len(args)]
    ]
    return f"needs {listed([f'{name}=' for name in lacking])}: it {takes}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in a sentence, as `a, b and c`."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


@no_type_check
def check_fields(value: Any, of: type | None = None) -> None:
    """Check the fields of a dataclass as `checks_arguments` does arguments, and keep them as what they mean.

    Args:
        value: A dataclass.
        of: The base whose fields are checked, where those that a subclass adds are checked there.

    Raises:
        TypeError: A field of another kind.
        ValueError: NaN or infinity, or a number below the lowest.
    """
    cls = type(value)
    for field in fields(of or cls):
        given = getattr(value, field.name)
        if given is field.default:
            continue
        held = check(field.name, given, evaluated(cls, field.name))
        if any(isinstance(number, float) and np.isinf(number) for number in _numbers_in(held)):
            raise ValueError(f"{field.name}= takes finite numbers; got {shown(held)}")
        if held is not given:
            object.__setattr__(value, field.name, held)


@no_type_check
def check(name: str, given: Any, kind: Any) -> Any:
    """Refuse a value that is not of a kind, NaN, or below `LOWEST`.

    Args:
        name: Name of the argument.
        given: What was given.
        kind: Its annotation, evaluated.

    Returns:
        The value as one of the kind: a list where a generator was given, a number where a tensor of one was.

    Raises:
        TypeError: It is of another kind.
        ValueError: It is NaN, not among the choices, below the lowest, or a path that is empty.
    """
    what = f"{name}="
    if name == "model" and getattr(kind, "_is_protocol", False) and not isinstance(given, kind):
        raise TypeError(f"{what} is an AudioLM, which ma.load gives; got {_described(given)}")
    value, fitting = meant(given, kind)
    if not fitting:
        if any(number != number for number in _numbers_in(value)) and {int, float} & {*classes_in(kind)}:
            raise ValueError(f"{what} takes finite numbers; got {shown(value)}")
        if any(map(beyond_floats, _numbers_in(value))) and {int, float} & {*classes_in(kind)}:
            raise ValueError(f"{what} takes numbers up to 1.8e308; got {shown(value)}")
        choices, parts = _choices(kind), value if isinstance(value, (tuple, list)) else [value]
        if all(type(part) in map(type, choices) for part in parts) and any(part not in choices for part in parts):
            raise ValueError(f"{what} is one of {', '.join(map(repr, choices))}; got {shown(value)}")
        came = _misfit(value, kind) or _described(given)
        raise TypeError(f"{what} takes {in_words(kind)}; got {came}{_advice(value, kind)}")
    if isinstance(value, str) and not value.strip() and _is_path(value, kind):
        raise ValueError(f"{what} is empty, which would be the current folder: name a file or folder; got {value!r}")
    lowest = LOWEST.get(name)
    if lowest is not None and any(number < lowest for number in _numbers_in(value)):
        raise ValueError(f"{what} must be at least {lowest}, got {shown(value)}")
    return value


@no_type_check
def _is_path(value: Any, kind: Any) -> bool:
    """Tell whether a value is a path, as text or not, where a kind takes paths."""
    return isinstance(value, (str, os.PathLike)) and any(issubclass(cls, os.PathLike) for cls in classes_in(kind))


def _choices(kind: Any) -> list[Any]:
    """The values that an annotation lists, of itself or of what a sequence holds."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for part in get_args(kind) for choice in _choices(part)]


def once_each(name: str, values: Iterable[Any]) -> None:
    """Refuse values of which one comes twice: its numbers would count twice where tests are corrected.

    Raises:
        ValueError: One comes twice.
    """
    values = list(values)
    plain = [value for value in values if not getattr(value, "shape", ())]  # arrays are not compared
    twice = [value for index, value in enumerate(plain) if any(value == before for before in plain[:index])]
    if twice:
        raise ValueError(f"{name} takes each value once, and {shown(twice[0])} comes twice")


def shown(value: Any) -> str:
    """A value as a message shows it, cut short."""
    text = value[:SHOWN].__repr__() if isinstance(value, (str, bytes)) else repr(value)
    long = isinstance(value, (str, bytes)) and len(value) > SHOWN
    return f"{text[:SHOWN]}..." if long or len(text) > SHOWN else text


def n_of(n: SupportsIndex, noun: str, several: str | None = None) -> str:
    """A count in words: `1 question`, `3 questions`.

    Args:
        n: The count.
        noun: What is counted, one of it; a verb may follow, as in `answer is`.
        several: More of it, where an `s` does not say so.
    """
    if several is None:
        several = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"
    return f"{n} {noun if n == 1 else several}"


def _described(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic, tuple, list, dict, range)):
        return shown(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _misfit(value: Any, kind: Any) -> str:
    """Name the first part of a list that is not of a kind, where another part is; blank where none is."""
    for part in parts_of(kind):
        origin, args = get_origin(part), get_args(part)
        if isinstance(value, (tuple, list)) and len(args) == 1 and isinstance(origin, type):
            fitting = [fits(each, args[0]) for each in value]
            if any(fitting):
                index = fitting.index(False)
                return f"a {type(value).__name__} whose number {index} is {shown(value[index])}"
    return ""


def _advice(value: Any, kind: Any) -> str:
    """The way out of the commonest slips."""
    if type(value).__name__ == "PromptBatch":
        return ": these are prompts already, and batch.questions what they were made of"
    for part in parts_of(kind):
        origin, args = get_origin(part), get_args(part)
        if not isinstance(origin, type) or not issubclass(origin, Iterable) or issubclass(origin, Mapping):
            continue
        if args and fits(value, args[0]):
            return ": make it a tuple, (...,)" if origin is tuple else ": put it into a list, [...]"
        if isinstance(value, Set):
            return ": a set has no order, so give a list"
        if hasattr(value, "columns"):
            return ": give one of its columns, or a list made of its rows"
        if isinstance(value, Mapping) and args and all(fits(part, args[0]) for part in value.values()):
            if any(isinstance(other, type) and issubclass(other, Mapping) for other in map(get_origin, parts_of(kind))):
                return ": make its keys texts, the names"
            return ": give the values as a list, without their names; results stand in its order"
    if isinstance(value, float) and value.is_integer() and fits(int(value), kind):
        return f": write {int(value)}"
    makers = dict.fromkeys(MADE_BY[cls.__name__] for cls in classes_in(kind) if cls.__name__ in MADE_BY)
    return f": {' or '.join(makers)} gives it" if makers else ""


@no_type_check
def _numbers_in(value: Any) -> Iterable[Any]:
    """The plain numbers of a value: itself, or those in a tuple or list."""
    if isinstance(value, (tuple, list)):
        return value if all_int(value) else [number for part in value for number in _numbers_in(part)]
    plain = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
    return [value] if plain else []
