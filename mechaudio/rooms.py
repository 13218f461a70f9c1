"""Attributes of packages: the same ones in every session, whatever was imported before.

Python makes a submodule an attribute of its package when somebody imports it, so `package.name` would be an error or a
module by what ran before. A room has its submodules from the start. Where a room exports a function of the same name
as the module that holds it, the room's `__init__` decides: the attribute is the function, always.
"""

import ast
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any


class Room(ModuleType):
    """A package that imports what it has when it is first asked for, and completes to its public names."""

    _homes: Mapping[str, str]
    _elsewhere: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        """Import a public name from its home, or a submodule."""
        if name in self._homes:
            value = getattr(import_module(self._homes[name]), name)
            setattr(self, name, value)
            return value
        if name.startswith("_"):  # asked for by tools that look at objects; no room has one
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in self._submodules():
            return import_module(f"{self.__name__}.{name}")
        way = self._elsewhere.get(name) or self._inside(name)
        hint = f": here it is {way}" if way else f"; it has {', '.join(dir(self))}"
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}{hint}")

    @property
    def save(self) -> Any:
        """Nothing of a package: nnsight gives every object of Python a `save`, which would mark the package itself."""
        return self.__getattr__("save")

    def __dir__(self) -> list[str]:
        """The public names; of a package that lists none, its submodules."""
        return sorted(vars(self).get("__all__", self._submodules()))

    def _inside(self, name: str) -> str | None:
        """Find a name that this room lacks: in the first of its own rooms that lists it."""
        if name.startswith("_") or "." in self.__name__:
            return None
        rooms = [room for room in vars(self).get("__all__", ()) if room in self._submodules()]
        lists = (room for room in rooms if name in vars(import_module(f"{self.__name__}.{room}")).get("__all__", ()))
        return next((f"{self.__name__}.{room}.{name}" for room in lists), None)

    def _submodules(self) -> set[str]:
        return {module.name for module in pkgutil.iter_modules(self.__path__) if not module.name.startswith("_")}


def imports_in(source: str) -> Iterator[tuple[str | None, ast.alias]]:
    """All that a module's source imports, for type checkers alone too: from where, None for a module, and as what."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module):
            yield from ((getattr(node, "module", None), name) for name in node.names)


def as_room(package: str, elsewhere: Mapping[str, str] = MappingProxyType({})) -> None:
    """Make a package a room: the last statement of its `__init__`.

    What the `__init__` imports as itself (`from home import name as name`, which type checkers take for public, too) is
    public; behind `if TYPE_CHECKING` it is imported when it is first asked for.

    Args:
        package: Its name, `__name__`.
        elsewhere: Word of other libraries -> what does it here.

    Raises:
        ImportError: Its source is not there, as where modules are compiled alone.
    """
    module = sys.modules[package]
    loader = vars(module)["__spec__"].loader  # `inspect` reads sources, too, but takes as long as all else here
    if (source := loader.get_source(package)) is None:
        raise ImportError(f"{package} has no source, where its public names stand: install it with its .py files")
    public = {name.name: home for home, name in imports_in(source) if name.asname == name.name}
    module.__class__ = Room
    module._homes = {name: home for name, home in public.items() if home != package}
    module._elsewhere = elsewhere
    if public:
        names = {*public, "__version__"} if hasattr(module, "__version__") else public
        module.__all__ = sorted(names, key=lambda name: (not name.isupper(), name))
