"""Grids of interventions: every combination of some values of their parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.kinds import plain
from mechaudio.showing import Shown
from mechaudio.tracing.edit import Intervention

#: Parameters that take positions: a list of numbers is one value of them.
_PLACES = ("queries", "keys", "positions")
#: Parameters that take arrays: one is one value of them.
_ARRAYS = ("direction", "directions", "value")
#: What is compared with a clean run: interventions or lists of them, in a list, in a grid, or by name.
Variants = Sequence[Intervention | Sequence[Intervention]] | Mapping[str, Intervention | Sequence[Intervention]]


class Grid(Shown, Sequence):
    """Interventions that differ in some parameters, in the order of a nested loop over these.

    Attributes:
        axes: Parameter -> its values, in the order of the loops.
        shape: Number of values per axis.
    """

    def __init__(self, axes: Mapping[str, Sequence[Any]], variants: Sequence[Any]):
        self.axes = {name: tuple(values) for name, values in axes.items()}
        self._variants = tuple(variants)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values per axis."""
        return tuple(len(values) for values in self.axes.values())

    def __len__(self) -> int:
        """Count the interventions."""
        return len(self._variants)

    def __getitem__(self, index: Any) -> Any:
        """One intervention, or several."""
        return self._variants[index]

    def __repr__(self) -> str:
        """The axes, and the first of the interventions."""
        return f"<Grid of {size_of(self.axes)}: {self._variants[0]!r}{', ...' * (len(self) > 1)}>"


def size_of(axes: Mapping[str, Sequence[Any]]) -> str:
    """The lengths of axes in words: `6 layers x 1 factor`."""
    singular = {"layers": "layer", "heads": "head", "positions": "position", "queries": "query", "keys": "key"}
    return " x ".join(n_of(len(values), singular.get(name, name), name) for name, values in axes.items())


@checks_arguments
def grid(kind: Callable[..., Any], /, **parameters: Any) -> Grid:
    """Every combination of parameters: lists, ranges and arrays of numbers are axes, everything else is held.

    ```python
    ma.grid(ma.ScaleAttention, layers=range(32), factor=[0.5, 0.8, 1.2, 2.0])
    ma.grid(ma.ScaleAttention, layers=[range(0, 8), range(8, 16)], factor=[2.0], queries="keyword+last")
    ma.grid(ma.Steer, direction=direction, layers=range(32), strength=np.linspace(-4, 4, 9))
    ```

    Args:
        kind: The class of the interventions, or any function that makes one.
        **parameters: Its parameters. An array or a tensor for a parameter that takes arrays (`direction`, `value`), and
            one of several axes, is held as it is, and so are positions (`queries=[-2, -1]`). To hold another list, put
            it into a list: `layers=[[10, 11]]` is an axis of one value.

    Returns:
        The interventions.

    Raises:
        TypeError: A parameter that the kind does not have.
        ValueError: No axis at all, one without values, or a value that comes twice.
    """
    known = inspect.signature(kind).parameters
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise TypeError(f"{kind.__name__} has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    axes = {name: plain(values, list[Any]) for name, values in parameters.items() if _is_axis(name, values)}
    if not axes:
        raise ValueError(f"a grid needs at least one list or range of values; got {parameters!r}")
    for name, values in axes.items():
        if not values:
            raise ValueError(f"{name}= has no values")
        twins = [value for place, value in enumerate(values) if any(_same(value, other) for other in values[:place])]
        if twins:
            raise ValueError(
                f"{name}= lists {twins[0]!r} twice: twins run twice and count twice in every correction for many tests"
            )
    held = {name: value for name, value in parameters.items() if name not in axes}
    points = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
    return Grid(axes, [kind(**held, **point) for point in points])


def grid_axes(variants: Variants) -> dict[str, tuple[Any, ...]]:
    """The parameters of a grid and their values, the names of a mapping as the axis `variant`; none of a list."""
    if isinstance(variants, Mapping):
        return {"variant": tuple(variants)}
    return variants.axes if isinstance(variants, Grid) else {}


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    listed = [isinstance(value, (str, int, float, bool, tuple, list, range, np.generic)) for value in (one, other)]
    return all(listed) and type(one) is type(other) and bool(one == other)


def _is_axis(name: str, values: Any) -> bool:
    if name in _PLACES and isinstance(values, Iterable) and not isinstance(values, str):
        return any(isinstance(value, (str, Iterable)) for value in values)  # numbers alone are one place
    if hasattr(values, "ndim"):
        return values.ndim == 1 and name not in _ARRAYS
    return isinstance(values, Iterable) and not isinstance(values, (str, Mapping))
