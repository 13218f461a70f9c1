"""Kinds of values as annotations name them: whether a value is of one, what it plainly means as one, what it is called.

A whole number is no fraction and no `True`; a number is never NaN, and never larger than a float holds. A value that is
of another class and plainly means the same is taken: a number of numpy, pandas or torch for a number, anything that
lists its parts in order for a list.

These checks go through every part of what is given; where they say `no_type_check`, tests do not check them in turn.
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache
from importlib import import_module
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    no_type_check,
)

import numpy as np

from mechaudio.rooms import imports_in

#: None where something is left out that nearly always is there: type checkers ask for no check of it, which every use
#: would have to make.
if TYPE_CHECKING:
    MaybeNone: TypeAlias = Any
else:
    MaybeNone = None
#: Most parts of what is given as a list and cannot be measured before.
MOST = 10_000_000
#: What values of a kind are called: one of them, and several.
CALLED: Mapping[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "True or False each"),
    str: ("a text", "texts"),
    object: ("anything", "anything"),
    Any: ("anything", "anything"),
    np.ndarray: ("an array", "arrays"),
}


@no_type_check
def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of the kind that an annotation names."""
    if type(value) is kind:  # most values are, and taking annotations apart costs ten times as much
        return kind not in (int, float) or (value == value and not beyond_floats(value))
    origin, args = _taken_apart(kind)
    if origin is Annotated:
        return fits(value, args[0])
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
        return number and not isinstance(value, (bool, np.bool_)) and bool(value == value) and not beyond_floats(value)
    if origin is None:
        return _is_a(value, kind)
    if origin is type:
        return isinstance(value, type)
    if not isinstance(origin, type):
        return True
    if not isinstance(value, origin) or isinstance(value, (str, bytes)):  # a text is no list of its letters
        return False
    if hasattr(value, "columns") and not issubclass(origin, Mapping):  # nor a table one of the names of its columns
        return False
    if origin is tuple and args and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(map(fits, value, args))
    if issubclass(origin, Mapping):
        tensors = getattr(args[1], "__module__", "").startswith("torch")  # a network says itself what it does not know
        return all(fits(key, args[0]) and (tensors or fits(part, args[1])) for key, part in value.items())
    if args and isinstance(value, (tuple, list, range, Mapping, np.ndarray)):  # what can be gone through twice
        if args[0] in (int, float) and all_int(value):
            return True
        return all(fits(part, args[0]) for part in value)
    return True


@cache
def _taken_apart(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


@no_type_check
def beyond_floats(value: Any) -> bool:
    """Return whether a whole number is larger than any that can be computed with."""
    return isinstance(value, int) and abs(value) > sys.float_info.max


@no_type_check
def all_int(values: Iterable[Any]) -> bool:
    """Return whether all values are Python's own whole numbers, in the time of a set: positions come in thousands."""
    return {*map(type, values)} <= {int}


@no_type_check
def _is_a(value: Any, kind: Any) -> bool:
    if kind is Callable:
        return callable(value)
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return not isinstance(value, (str, bytes, int, float, type(None)))
    return isinstance(value, kind) if isinstance(kind, type) else True


@no_type_check
def plain(value: Any, kind: Any) -> Any:
    """A value as what it plainly means as a kind; the value itself where it means nothing plainly.

    Args:
        value: A value of any class: an enum's text, a number of numpy or a tensor of one, a generator, a column of a
            table.
        kind: An evaluated annotation.
    """
    return meant(value, kind)[0]


@no_type_check
def meant(value: Any, kind: Any) -> tuple[Any, bool]:
    """A value as `plain` gives it, and whether it is of the kind: going through its parts once tells both."""
    if isinstance(value, (str, np.generic)) and type(value) is not str:
        value = _single(value)
    if value is None or fits(value, kind):
        return value, value is not None or fits(None, kind)
    if getattr(value, "ndim", None) == 0:
        value = _single(value)
    elif kind not in (int, float, bool, str):  # what goes through a generator once has used it up
        value = _listed(value)
    form = _as(value, kind)
    return (form, True) if fits(form, kind) else (value, False)


def whole_number(value: Any) -> int:
    """A whole number as Python's own; a mask of True and False would be read as 1 and 0.

    Raises:
        TypeError: Something else, True and False of numpy and torch among it.
    """
    value = plain(value, int)
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("True and False are no numbers")
    return operator.index(value)


@no_type_check
def _as(value: Any, kind: Any) -> Any:
    """A plain Python value in the form of a kind, as far as it has one."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _as(value, args[0])
    if origin in (Union, types.UnionType):
        return next((meant for part in args if fits(meant := _as(value, part), part)), value)
    if not isinstance(value, list):
        return value
    if getattr(kind, "array_type", None) is np.ndarray:
        try:
            return np.asarray(value)
        except ValueError:  # its rows have several lengths
            return value
    if not isinstance(origin, type) or not issubclass(origin, Iterable) or issubclass(origin, Mapping):
        return value
    if origin is tuple and args[-1] is not Ellipsis:
        return tuple(map(plain, value, args)) if len(value) == len(args) else value
    return (tuple if origin is tuple else list)(plain(part, args[0]) for part in value)


@no_type_check
def _single(value: Any) -> Any:
    """A text or number without the class that it came in."""
    return str.__str__(value) if isinstance(value, str) else value.item()


@no_type_check
def _listed(value: Any) -> Any:
    """The parts of what lists them in an order of its own, or in that of their size."""
    if isinstance(value, (str, bytes, Mapping)):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Set):
        try:
            return sorted(value)
        except TypeError:  # no order of its own, and none of size
            return value
    if isinstance(value, (Iterator, Collection)):
        parts = list(islice(value, MOST + 1))
        return parts if len(parts) <= MOST else value
    return value


def parts_of(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the kind alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def in_words(kind: Any, *, several: bool = False) -> str:
    """Name values of a kind, without the names that only annotations use.

    Args:
        kind: An evaluated annotation; one that is `Annotated` with two texts is called these: one value, and several.
        several: Whether to name several of them: `texts`, not `a text`.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return kind.__metadata__[several]
    if origin in (Union, types.UnionType):
        parts = [part for part in args if part is not type(None) and not (part is int and float in args)]
        names = [*dict.fromkeys(in_words(part, several=several) for part in parts)]
        return " or ".join([*names, "None"] if type(None) in args else names)
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}" if len(args) > 1 else repr(args[0])
    if kind in CALLED:
        return CALLED[kind][several]
    if hasattr(kind, "array_type"):
        return f"{'arrays' if several else 'an array'} [{', '.join(kind.dim_str.split())}]"
    if origin is None:
        return _class_in_words(kind, several)
    if origin is tuple and args[-1] is not Ellipsis:
        if len(args) == 2 and args[0] == args[1]:
            return f"{'pairs' if several else 'a pair'} of {in_words(args[0], several=True)}"
        inside = ", ".join(map(in_words, args))
        return f"{'tuples' if several else 'a tuple'} ({inside}{',' * (len(args) == 1)})"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _class_in_words(dict, several) + ("" if args[1] is Any else f" with {in_words(args[1], several=True)}")
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"{'lists' if several else 'a list'} of {in_words(args[0], several=True)}"
    return "functions" if several else "a function"


def _class_in_words(kind: Any, several: bool) -> str:
    if not isinstance(kind, type):
        return "functions" if several else "a function"
    if issubclass(kind, os.PathLike):
        return "paths" if several else "a path"
    name = "list" if kind is Sequence else kind.__name__
    return f"{name}s" if several else f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def classes_in(kind: Any) -> Iterator[type]:
    """The classes that a kind is made of."""
    if isinstance(kind, type) and not get_args(kind):
        yield kind
    for part in get_args(kind):
        yield from classes_in(part)


def kind_of(cls: type, name: str) -> Any:
    """The annotation of a field, `Any` where it names what cannot be found, as in a class made inside a function."""
    try:
        return evaluated(cls, name)
    except (NameError, OSError, TypeError):
        return Any


_KINDS: dict[tuple[Any, str], Any] = {}


@no_type_check
def evaluated(owner: Any, name: str) -> Any:
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
    imports = imports_in(inspect.getsource(sys.modules[module]))
    return {name.asname or name.name: (home or name.name, home and name.name) for home, name in imports}
