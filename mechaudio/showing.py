"""What values show in a notebook, what completion offers of them, and what they say to words of other libraries."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, NoReturn

__all__ = ["NamesTheWay", "Shown"]


class Shown:
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
            told = f": here it is {way}" if way else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{told}", name=name, obj=self)
