"""Results as labelled arrays and as tables.

Conventions: the axes of an array are the names of its annotation (`Float[np.ndarray, "question layer head"]`). A list
named after an axis (`roles` after `role`) labels it, and `ids` label the questions, pairs or clips. A table is tidy: a
row for each place along some axes, a column for each number there is of it; an axis of few labels beside them, such as
the choices, becomes a column each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import AbstractArray

from mechaudio.arguments import kind_of, parts_of, returned_kind

if TYPE_CHECKING:
    import pandas
    import xarray

#: Axes of what was asked about, of which a result has at most one; its labels are `ids`.
ASKED = ("question", "pair", "clip")
#: Lists with an entry for each of these.
OF_ASKED = ("ids", "texts", "clips", "tasks", "answers", "choices")
#: The longest axis that becomes columns of a table: as many as there are letters for choices.
MOST_COLUMNS = 26
_PLAIN = (str, int, float, bool, type(None))


def axes_of(kind: Any, ndim: int) -> tuple[str, ...] | None:
    """The names of an array's axes by its annotation, None where it names none; one that comes twice is numbered."""
    for part in parts_of(kind):
        names = part.dim_str.split() if isinstance(part, type) and issubclass(part, AbstractArray) else ()
        if names and len(names) == ndim and all(name.isidentifier() for name in names):
            return tuple(
                name if names.index(name) == place else f"{name}_{names[:place].count(name) + 1}"
                for place, name in enumerate(names)
            )
    return None


def dataset_of(
    result: Any, *, labels: Mapping[str, str], derived: Iterable[str] = (), attrs: Mapping[str, Any]
) -> xarray.Dataset:
    """Every array of a dataclass in one dataset, with its axes named and labelled.

    Args:
        result: the dataclass.
        labels: lists that label an axis and have no name that says so -> that axis.
        derived: properties that belong to it.
        attrs: what is known of the whole.
    """
    import xarray

    cls = type(result)
    kinds = {name: kind_of(cls, name) for name in cls.__dataclass_fields__ if _is_array(getattr(result, name))}
    for name in derived:
        found = getattr(cls, name)
        kinds[name] = returned_kind(found.func if isinstance(found, cached_property) else found.fget)
    arrays = {name: np.asarray(getattr(result, name)) for name in kinds}
    variables, sizes = {}, dict[str, int]()
    for name, array in arrays.items():
        dims = axes_of(kinds[name], array.ndim) or tuple(f"{name}_{axis}" for axis in range(array.ndim))
        variables[name] = (dims, array)
        sizes |= dict(zip(dims, array.shape, strict=True))
    coords = {name: coord for name, coord in _coordinates(result, sizes, labels).items() if name not in variables}
    return xarray.Dataset(variables, coords, attrs)


def table_of(data: xarray.Dataset, rows: Sequence[str] | None = None) -> pandas.DataFrame:
    """A dataset as a tidy table.

    Args:
        data: labelled arrays.
        rows: the axes of which each place is a row, those of the first array where there are none of `ASKED`.

    Returns:
        A column per axis, per label and per variable along these axes alone; and one per label of a further axis, as
        `logits_A`. Variables with longer or more axes beside them are left out.
    """
    import pandas

    sizes = dict(data.sizes)
    axes = [axis for axis in (rows or ASKED) if axis in sizes]
    if not axes and data.data_vars:
        axes = [str(axis) for axis in next(iter(data.data_vars.values())).dims]
    shape = [sizes[axis] for axis in axes]
    places = dict(zip(axes, np.indices(shape).reshape(len(axes), prod(shape)), strict=True))

    def spread(array: Any) -> np.ndarray:
        values = array.values
        return values[tuple(places[axis] for axis in array.dims)] if array.dims else np.full(prod(shape), values)

    columns: dict[str, Any] = {axis: spread(data[axis]) for axis in axes}
    for name, coordinate in data.coords.items():
        if name not in axes and coordinate.dims and set(coordinate.dims) <= set(axes):
            columns[str(name)] = spread(coordinate)
    for name, variable in data.data_vars.items():
        beside = [axis for axis in variable.dims if axis not in axes]
        if not beside:
            columns[str(name)] = spread(variable)
        elif len(beside) == 1 and sizes[beside[0]] <= MOST_COLUMNS:
            for place, label in enumerate(data[beside[0]].values):
                columns[f"{name}_{label}"] = spread(variable.isel({beside[0]: place}))
    return pandas.DataFrame(columns)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _coordinates(result: Any, sizes: Mapping[str, int], labels: Mapping[str, str]) -> dict[str, Any]:
    asked = next((axis for axis in ASKED if axis in sizes), None)
    coords: dict[str, Any] = {}
    for name in type(result).__dataclass_fields__:
        values = getattr(result, name)
        axis = labels.get(name) or (name.removesuffix("s") if name.removesuffix("s") in sizes else None)
        if axis is None and asked and name in OF_ASKED:
            axis = asked
        if axis not in sizes or not isinstance(values, tuple) or len(values) != sizes[axis]:
            continue
        own = axis if name == "ids" else name.removesuffix("s")
        if all(isinstance(value, _PLAIN) for value in values) and own not in coords:
            coords[own] = (axis, _as_array(values))
    if "choice" in sizes and "choice" not in coords:
        coords["choice"] = ("choice", np.array(list(ascii_uppercase[: sizes["choice"]])))
    return coords


def _as_array(values: Sequence[Any]) -> np.ndarray:
    """Plain values as an array of one type, of objects where None is among them."""
    if any(value is None for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    return np.array(values)
