"""Checks of what functions are given: the kind by the annotation, the range by the name.

A name means the same everywhere (`seed`, `batch_size`, `max_new_tokens`), and so does its range. A whole number is no
fraction and no `True`; a number is never NaN.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache, wraps
from importlib import import_module
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

#: The lowest value of an argument, wherever it is a number.
LOWEST: Mapping[str, int] = {"seed": 0, "batch_size": 1, "max_new_tokens": 1, "audio_cells": 1, "n": 0}
#: What gives a value of a kind.
MADE_BY: Mapping[str, str] = {
    "AudioLM": "ma.load",
    "PromptBatch": "ma.prompt",
    "Inputs": "ma.prompt",
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
}
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
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python names what is missing or misspelt
        for name, value in given.items():
            parameter = signature.parameters[name]
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or value is parameter.default:
                continue
            check(name, value, _kind(function, name), parameter.annotation)
        return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def check_fields(value: Any, of: type | None = None) -> None:
    """Check the fields of a dataclass as `checks_arguments` does arguments.

    Args:
        value: A dataclass.
        of: The base whose fields are checked, where those that a subclass adds are checked there.

    Raises:
        TypeError: A field of another kind.
        ValueError: NaN or infinity, or a number below the lowest.
    """
    cls = type(value)
    for field in fields(of or cls):
        held = getattr(value, field.name)
        check(field.name, held, _kind(cls, field.name), field.type)
        if any(isinstance(number, float) and np.isinf(number) for number in _numbers_in(held)):
            raise ValueError(f"{field.name}= takes finite numbers; got {shown(held)}")


def check(name: str, value: Any, kind: Any, annotation: Any) -> None:
    """Refuse a value that is not of a kind, NaN, or below `LOWEST`.

    Args:
        name: Of the argument.
        value: What was given.
        kind: Its annotation, evaluated.
        annotation: Its annotation as it is written.

    Raises:
        TypeError: It is of another kind.
        ValueError: It is NaN, not among the choices, or below the lowest.
    """
    what = f"{name}="
    if name == "model" and kind is Any and not hasattr(value, "network"):
        raise TypeError(f"{what} is an AudioLM, which ma.load gives; got {_described(value)}")
    if not fits(value, kind):
        if any(number != number for number in _numbers_in(value)):
            raise ValueError(f"{what} takes finite numbers; got {shown(value)}")
        choices, given = _choices(kind), value if isinstance(value, (tuple, list)) else [value]
        if choices and all(type(part) in map(type, choices) for part in given):
            raise ValueError(f"{what} is one of {', '.join(map(repr, choices))}; got {shown(value)}")
        advice = _advice(value, kind, annotation)
        raise TypeError(f"{what} takes {_written(annotation)}; got {_described(value)}{advice}")
    lowest = LOWEST.get(name)
    if lowest is not None and any(number < lowest for number in _numbers_in(value)):
        raise ValueError(f"{what} must be at least {lowest}, got {shown(value)}")


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


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind that an annotation names."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or kind is object or isinstance(kind, (TypeVar, str)):
        return True
    if kind is None or kind is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if kind is bool:
        return isinstance(value, (bool, np.bool_))
    if kind in (int, float):
        whole = isinstance(value, (int, np.integer))
        number = whole or (kind is float and isinstance(value, (float, np.floating)))
        return number and not isinstance(value, (bool, np.bool_)) and bool(value == value)
    if origin is None:
        return _is_a(value, kind)
    if origin is type:
        return isinstance(value, type)
    if not isinstance(origin, type):
        return True
    if getattr(value, "ndim", 0) and issubclass(origin, Iterable) and origin is not tuple:
        return all(fits(part, args[0]) for part in value) if value.ndim == 1 else True  # an array is a sequence too
    if not isinstance(value, origin):
        return False
    if origin is tuple and args and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(map(fits, value, args))
    if issubclass(origin, Mapping):
        tensors = getattr(args[1], "__module__", "").startswith("torch")  # a network says itself what it does not know
        return all(fits(key, args[0]) and (tensors or fits(part, args[1])) for key, part in value.items())
    if args and isinstance(value, (tuple, list, str, range, Mapping)):  # what can be gone through twice
        return all(fits(part, args[0]) for part in value)
    return True


def shown(value: Any) -> str:
    """A value as a message shows it, cut short."""
    text = value[:SHOWN].__repr__() if isinstance(value, (str, bytes)) else repr(value)
    long = isinstance(value, (str, bytes)) and len(value) > SHOWN
    return f"{text[:SHOWN]}..." if long or len(text) > SHOWN else text


def _is_a(value: Any, kind: Any) -> bool:
    if kind is Callable:
        return callable(value)
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return not isinstance(value, (str, bytes, int, float, type(None)))
    return isinstance(value, kind) if isinstance(kind, type) else True


def _described(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic, tuple, list, dict, range)):
        return shown(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def parts_of(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the kind alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _advice(value: Any, kind: Any, annotation: Any) -> str:
    """The way out of the commonest slips."""
    for part in parts_of(kind):
        origin, args = get_origin(part), get_args(part)
        if not isinstance(origin, type) or not issubclass(origin, Iterable) or issubclass(origin, Mapping):
            continue
        if origin is tuple and isinstance(value, list) and fits(tuple(value), part):
            return ": make the list a tuple"
        if args and fits(value, args[0]):
            return ": make it a tuple, (...,)" if origin is tuple else ": put it into a list, [...]"
    makers = {MADE_BY[name]: None for name in re.findall(r"\w+", _written(annotation)) if name in MADE_BY}
    return f": {' or '.join(makers)} gives it" if makers else ""


def _numbers_in(value: Any) -> Iterable[Any]:
    """The plain numbers of a value: itself, or those in a tuple or list."""
    if isinstance(value, (tuple, list)):
        return [number for part in value for number in _numbers_in(part)]
    plain = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))
    return [value] if plain else []


def _written(annotation: Any) -> str:
    """An annotation as people read it, without the modules of its names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"(?<![\w.])(?:[a-z_]+\.)+(?=[A-Za-z])", "", text.replace('"', ""))
    return text.replace("Literal", "one of ").replace("| None", "or None")


def kind_of(cls: type, name: str) -> Any:
    """The annotation of a field, `Any` where it names what cannot be found, as in a class made inside a function."""
    try:
        return _kind(cls, name)
    except (NameError, OSError, TypeError):
        return Any


def returned_kind(function: Callable[..., Any]) -> Any:
    """The annotation of what a function returns, evaluated; `Any` where there is none."""
    return _kind(function, "return")


_KINDS: dict[tuple[Any, str], Any] = {}


def _kind(owner: Any, name: str) -> Any:
    """The annotation of an argument or a field; names that only type checkers import are imported now."""
    if (owner, name) in _KINDS:
        return _KINDS[owner, name]
    kind, module = _annotation(owner, name)
    names = _Names(module)
    while isinstance(kind, str):  # twice where quotes stand in a module of postponed annotations
        kind = eval(kind, {}, names)
    if not names.absent:
        _KINDS[owner, name] = kind
    return kind


def _annotation(owner: Any, name: str) -> tuple[Any, str]:
    """The annotation as it is written, and the module whose names it uses: a base class's, for a field of it."""
    for home in owner.__mro__ if inspect.isclass(owner) else (inspect.unwrap(owner),):
        written = inspect.get_annotations(home)
        if name in written:
            return written[name], home.__module__
    return Any, owner.__module__


class _Absent:
    """A package that is not imported, of whose classes nothing can be."""

    def __getattr__(self, name: str) -> type:
        return type(name, (), {})


class _Names(dict):
    """The names of a module, those behind `if TYPE_CHECKING` included."""

    def __init__(self, module: str):
        super().__init__(vars(sys.modules[module]))
        self._module = module
        self.absent = False

    def __missing__(self, name: str) -> Any:
        home = _type_checking_imports(self._module).get(name)
        if home is None:
            raise KeyError(name)
        module, attribute = home
        if module.split(".")[0] not in sys.modules:  # then nothing that was given can be of it: it is not imported here
            self.absent = True
            return type(name, (), {}) if attribute else _Absent()
        return getattr(import_module(module), attribute) if attribute else import_module(module)


@cache
def _type_checking_imports(module: str) -> dict[str, tuple[str, str | None]]:
    """Name -> module and attribute of what the module imports for type checkers alone."""
    homes: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            homes |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
    return homes
