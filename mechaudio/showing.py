"""What values show in a notebook, and what completion offers of them."""

from importlib import import_module

__all__ = ["Shown"]


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
