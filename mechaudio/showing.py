"""Values in a notebook: what they show, what completion offers, and their answers to words of other libraries."""

import inspect
from abc import ABCMeta
from collections.abc import Mapping
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from mechaudio.arguments import bound, names_arguments

__all__ = ["NamesTheWay", "Shown"]


class _NamesArguments(ABCMeta):
    """Classes that say what they and their methods take, where they are called with something else."""

    if not TYPE_CHECKING:  # a type checker reads the constructors and methods themselves

        def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any):
            super().__init__(name, bases, namespace, **kwargs)
            for method, own in namespace.items():
                if isinstance(own, FunctionType) and not method.startswith("_"):
                    setattr(cls, method, names_arguments(own))
                elif isinstance(own, (classmethod, staticmethod)) and not method.startswith("_"):
                    setattr(cls, method, type(own)(names_arguments(own.__func__)))

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().__call__(*args, **kwargs)
            except TypeError:
                bound(cls.__name__, cls.__signature__, args, kwargs)
                raise

        @property
        def __signature__(cls) -> inspect.Signature:
            signature = inspect.signature(cls.__init__)
            return signature.replace(parameters=list(signature.parameters.values())[1:])


class Shown(metaclass=_NamesArguments):
    """The base of values that show themselves in a notebook.

    nnsight gives every object of Python a method `save`, which marks a value inside a trace block; completion offers it
    only where a class has one of its own.
    """

    def _repr_html_(self) -> str | None:
        """The value as a notebook shows it, None where that is its `repr`."""
        return import_module("mechaudio.notebook").html_of(self)  # what shows values is above them, and finds them

    def __dir__(self) -> list[str]:
        """The names that there are, for completion."""
        owned = any("save" in vars(cls) for cls in type(self).__mro__[:-1])
        return [name for name in super().__dir__() if name != "save" or owned]


class NamesTheWay:
    """The base of values that have another name here than elsewhere, or whose parts have."""

    #: What the value is asked for by people who know other libraries, and what does it here.
    _elsewhere: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker knows that these attributes are not there

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse an attribute that is not there.

            Raises:
                AttributeError: Always; where it is a word of other libraries, with what it is called here.
            """
            way = type(self)._elsewhere.get(name)
            hint = f": here it is {way}" if way else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)
