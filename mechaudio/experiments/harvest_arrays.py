"""Hook points of a harvest as arrays that read from its files what is indexed of them, for xarray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core.indexing import IndexingSupport, explicit_indexing_adapter

from mechaudio.experiments.harvested import Harvest
from mechaudio.results import as_numpy
from mechaudio.tracing.hook_points import SHAPES


class StoredArray(BackendArray):
    """A hook point in some layers, `[layer, entry, ...]`; `[entry, ...]` of one that is once in the model.

    Its numbers are float32 where bfloat16 is kept.
    """

    def __init__(self, harvest: Harvest, name: str, layers: Sequence[int | None]):
        self._harvest, self._name, self._layers = harvest, name, list(layers)
        sample = as_numpy(harvest.read(name, layers[0], entries=[]))
        per_layer = () if self._layers == [None] else (len(self._layers),)
        self.shape = (*per_layer, len(harvest), *sample.shape[1:])
        self.dtype = sample.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read what a key of xarray names."""
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        layers, (entry, *rest) = (None, key) if self._layers == [None] else (key[0], key[1:])
        entries = np.atleast_1d(np.arange(len(self._harvest))[entry])
        of_layers = np.atleast_1d(np.arange(len(self._layers))[0 if layers is None else layers])
        values = np.stack(
            [as_numpy(self._harvest.read(self._name, self._layers[number], entries=entries)) for number in of_layers]
        )
        single = [
            axis for axis, own in enumerate((0 if layers is None else layers, entry)) if np.ndim(_plain(own)) == 0
        ]
        for axis, own in enumerate(rest, start=2):
            index = np.arange(values.shape[axis])[own]
            values = values.take(np.atleast_1d(index), axis)
            single += [axis] if np.ndim(index) == 0 else []
        return values.squeeze(tuple(single))


def _plain(index: Any) -> Any:
    """An index whose number of axes can be asked for."""
    return [0] if isinstance(index, slice) else index


def arrays_of(
    harvest: Harvest, name: str, layers: Sequence[int | None]
) -> Iterator[tuple[str, list[int | None], StoredArray]]:
    """A hook point as arrays, each with its name and layers; layers of other shapes stand apart."""
    by_shape: dict[tuple[int, ...], list[int | None]] = {}
    for layer in layers:
        by_shape.setdefault(StoredArray(harvest, name, [layer]).shape[2:], []).append(layer)
    for alike in by_shape.values():
        variable = name if len(by_shape) == 1 else f"{name}_{alike[0]}"
        yield variable, alike, StoredArray(harvest, name, alike)


def axes_of(name: str) -> list[str]:
    """The axes of a hook point behind its position."""
    return [axis for axis in SHAPES[name].split() if axis not in ("batch", "position", "query")]
