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

from mechaudio.kinds import evaluated, kind_of, parts_of

if TYPE_CHECKING:
    import pandas
    import xarray

#: Axes of what was asked about, of which a result has at most one; its labels are `ids`.
ASKED = ("question", "pair", "clip")
#: Lists with an entry for each of these.
OF_ASKED = ("ids", "texts", "clips", "tasks", "answers", "choices")
#: Names what a target without a foil is held against.
ANYTHING_ELSE = "anything else"
#: The longest axis that becomes columns of a table: as many as there are letters for choices.
MOST_COLUMNS = 26
#: What a list labels: an axis, or two where it is a list of lists.
Labelled = str | tuple[str, str]
_PLAIN = (str, int, float, bool, type(None))


def axes_of(kind: Any, ndim: int) -> tuple[str, ...] | None:
    """The names of an array's axes by its annotation, None where it names none.

    A name that comes twice is numbered; one such as `*place` stands for as many axes as are left.
    """
    for part in parts_of(kind):
        names = part.dim_str.split() if isinstance(part, type) and issubclass(part, AbstractArray) else []
        several = next((place for place, name in enumerate(names) if name.startswith("*")), None)
        if several is not None:
            names[several : several + 1] = [names[several][1:]] * (ndim - len(names) + 1)
        if names and len(names) == ndim and all(name.isidentifier() for name in names):
            return tuple(
                name if names.index(name) == place else f"{name}_{names[:place].count(name) + 1}"
                for place, name in enumerate(names)
            )
    return None


def sizes_of(result: Any) -> dict[str, int]:
    """The length of every named axis of a dataclass's arrays, in the order in which they first come."""
    sizes: dict[str, int] = {}
    for name in type(result).__dataclass_fields__:
        value = getattr(result, name)
        if isinstance(value, np.ndarray):
            axes = axes_of(kind_of(type(result), name), value.ndim) or ()
            sizes |= {axis: length for axis, length in zip(axes, value.shape, strict=False) if axis not in sizes}
    return sizes


def dataset_of(
    result: Any, *, labels: Mapping[str, Labelled], derived: Iterable[str] = (), attrs: Mapping[str, Any]
) -> xarray.Dataset:
    """Every array of a dataclass in one dataset, with its axes named and labelled.

    Args:
        result: The dataclass.
        labels: Lists that label an axis and have no name that says so -> that axis; lists of lists -> both axes.
        derived: Properties that belong to it.
        attrs: What is known of the whole.
    """
    import xarray

    cls = type(result)
    held = [name for name in cls.__dataclass_fields__ if isinstance(getattr(result, name), np.ndarray)]
    kinds = {name: kind_of(cls, name) for name in held}
    for name in derived:
        attribute = getattr(cls, name)
        kinds[name] = evaluated(attribute.func if isinstance(attribute, cached_property) else attribute.fget, "return")
    arrays = {name: np.asarray(getattr(result, name)) for name in kinds}
    variables, sizes = {}, dict[str, int]()
    for name, array in arrays.items():
        dims = axes_of(kinds[name], array.ndim) or tuple(f"{name}_{axis}" for axis in range(array.ndim))
        variables[name] = (dims, array)
        sizes |= dict(zip(dims, array.shape, strict=True))
    coords = {name: coord for name, coord in _coordinates(result, sizes, labels).items() if name not in variables}
    return xarray.Dataset(variables, coords, attrs)


def target_names(settings: Mapping[str, Any]) -> list[tuple[str, str] | None]:
    """Target and foil of each question, out of the settings of a result; `None` for one measured by letters."""
    targets = settings.get("targets") or ()
    return [target and (target["target"], target.get("foil", ANYTHING_ELSE)) for target in targets]


def choice_labels(settings: Mapping[str, Any], size: int) -> tuple[str, ...]:
    """Name the columns of choices: letters; target and foil in words where all questions have the same.

    Args:
        settings: Settings of the result.
        size: Number of columns.
    """
    names = target_names(settings)
    if not names or None in names or size != 2:
        return tuple(ascii_uppercase[:size])
    return names[0] if len(set(names)) == 1 else ("target", "foil")  # type: ignore[return-value]


def joined_along(axis: str, parts: Mapping[str, xarray.Dataset]) -> xarray.Dataset:
    """Several datasets as one with an axis more; what one of them has no value for is NaN.

    Args:
        axis: The name of that axis.
        parts: The datasets, by their label on it.
    """
    import xarray

    labels = xarray.Variable(axis, list(parts))
    return xarray.concat(
        list(parts.values()), labels, data_vars="all", coords="different", compat="equals", join="outer"
    )


def grid_coordinates(axes: Mapping[str, Sequence[Any]], variants: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """The axes of a grid and their labels; of a list of variants one axis, labelled with what they are."""
    if axes:
        plain = (int, float, str, np.number)
        return {axis: [each if isinstance(each, plain) else str(each) for each in axes[axis]] for axis in axes}
    written = [[part if isinstance(part, str) else repr(part) for part in variant] for variant in variants]
    return {"variant": [" + ".join(parts) or "clean" for parts in written]}


def table_of(data: xarray.Dataset, rows: Sequence[str] | None = None) -> pandas.DataFrame:
    """A dataset as a tidy table.

    Args:
        data: Labelled arrays.
        rows: The axes of which each place is a row, those of the first array where there are none of `ASKED`.

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


def first_rows(data: xarray.Dataset, rows: Sequence[str] | None, n: int) -> tuple[pandas.DataFrame, int]:
    """The first rows of a table, without making it whole, and how many rows it has.

    Args:
        data: Labelled arrays.
        rows: As in `table_of`.
        n: How many rows.
    """
    axes = [axis for axis in (rows or ASKED) if axis in data.sizes]
    if not axes and data.data_vars:
        axes = [str(axis) for axis in next(iter(data.data_vars.values())).dims]
    missing, cuts = n, {}
    for axis in reversed(axes):
        cuts[axis] = slice(0, max(missing, 1))
        missing = -(-missing // max(data.sizes[axis], 1))
    return table_of(data.isel(cuts), rows).head(n), prod(data.sizes[axis] for axis in axes)


def _coordinates(result: Any, sizes: Mapping[str, int], labels: Mapping[str, Labelled]) -> dict[str, Any]:
    """The labels of every axis: by the name of a list first, then those that the class names."""
    question_axis = next((axis for axis in ASKED if axis in sizes), None)
    coords: dict[str, Any] = {}
    for name, values in _lists(result):
        singular = name.removesuffix("s")
        if len(values) == sizes.get(singular):
            coords[singular] = (singular, _as_array(values))
        elif question_axis and name in OF_ASKED and len(values) == sizes[question_axis]:
            coords[question_axis if name == "ids" else singular] = (question_axis, _as_array(values))
    for name, values in _lists(result):
        axes = labels.get(name, ())
        if isinstance(axes, tuple):
            if axes and set(axes) <= set(sizes):
                coords[name.removesuffix("s")] = (axes, _filled(values, tuple(sizes[axis] for axis in axes)))
        elif len(values) == sizes.get(axes):
            coords[name.removesuffix("s") if axes in coords else axes] = (axes, _as_array(values))
    if "choice" in sizes and "choice" not in coords:
        coords["choice"] = ("choice", np.array(choice_labels(result.provenance.settings, sizes["choice"])))
    return coords


def _lists(result: Any) -> Iterable[tuple[str, tuple[Any, ...]]]:
    values = ((name, getattr(result, name)) for name in type(result).__dataclass_fields__)
    return [(name, value) for name, value in values if isinstance(value, tuple)]


def _as_array(values: Sequence[Any]) -> np.ndarray:
    """Labels as an array of one type, of objects where None is among them; what is no plain value by its text."""
    plain = [value if isinstance(value, _PLAIN) else str(value) for value in values]
    if any(value is None for value in plain):
        array = np.empty(len(plain), dtype=object)
        array[:] = plain
        return array
    return np.array(plain)


def _filled(values: Sequence[Sequence[str]], shape: tuple[int, int]) -> np.ndarray:
    """Lists of texts, one for each row, filled up with empty texts."""
    array = np.full(shape, "", dtype=object)
    for row, texts in enumerate(values):
        array[row, : len(texts)] = texts
    return array.astype(str)
