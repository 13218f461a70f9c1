"""Tensors of a run with their axes named and labelled, as one dataset.

Conventions: prompts are the axis `question`, or `row` where they were made from plain inputs. An axis that has another
length or other labels than one of its name before takes the name of its tensor too (`pattern_query`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.results import as_numpy
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import SHAPES, bare, in_tower

if TYPE_CHECKING:
    import xarray

#: What the axes of a tower's tensors are, by those of the decoder's.
_IN_TOWER = {"batch": "clip", "position": "frame", "query": "frame", "key": "key_frame"}


class LabelledTensors:
    """Tensors of one batch, put together one by one.

    Attributes:
        prompts: The name of the axis of prompts.
    """

    def __init__(self, batch: PromptBatch):
        """Args: batch: the prompts."""
        self.prompts = "question" if batch.questions else "row"
        self._batch = batch
        self._variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        self._axes: dict[str, tuple[Any, ...]] = {}

    def add(self, name: str, layers: Mapping[int | None, Tensor]) -> None:
        """Add one hook point, in the layers that it was kept in; layers of other shapes stand apart."""
        by_shape: dict[tuple[int, ...], list[int | None]] = {}
        for layer, value in layers.items():
            by_shape.setdefault(tuple(value.shape), []).append(layer)
        for shape, alike in by_shape.items():
            variable = name if len(by_shape) == 1 else f"{name}_{alike[0]}"
            axes = axis_names(name, len(shape))
            labels: list[tuple[Any, ...]] = [tuple(range(length)) for length in shape]
            value = layers[alike[0]]
            if alike != [None]:
                value = torch.stack([layers[layer].to(value.device) for layer in alike])
                axes = (f"{name.rpartition('.')[0]}_layer" if in_tower(name) else "layer", *axes)
                labels = [tuple(alike), *labels]
            dims = tuple(self._axis(variable, axis, held) for axis, held in zip(axes, labels, strict=True))
            self._variables[variable] = (dims, as_numpy(value))

    def add_cache(self, cache: Cache) -> None:
        """Add every hook point of a cache; logits that are there already come once."""
        for name in dict.fromkeys(name for name, _ in cache):
            if name not in self._variables:
                self.add(name, {layer: value for (kept, layer), value in cache.items() if kept == name})

    def axes_of_cache(self, cache: Cache) -> dict[str, str]:
        """The axes of every tensor of a run, by the name under which it is saved."""
        kept = {
            ".".join(["cache", "tensors", name, *([] if layer is None else [str(layer)])]): " ".join(
                axis_names(name, value.ndim)
            )
            for (name, layer), value in cache.items()
        }
        return {"logits": SHAPES["logits"], **kept}

    def dataset(self, attrs: Mapping[str, Any]) -> xarray.Dataset:
        """Return all of them, with the prompts' ids and the tokens at their positions."""
        import xarray

        coords: dict[str, Any] = {axis: list(labels) for axis, labels in self._axes.items() if axis.endswith("layer")}
        questions = self._batch.questions
        if questions:
            coords["question"] = [question.id for question in questions]
        if len(self._axes.get("position", ())) == self._batch.n_positions:
            tokens = [self._batch.tokens(row) for row in range(self._batch.n_rows)]
            coords["token"] = ((self.prompts, "position"), np.array(tokens))
        return xarray.Dataset(self._variables, coords, dict(attrs))

    def _axis(self, name: str, axis: str, labels: tuple[Any, ...]) -> str:
        if axis == "batch":
            return self.prompts
        if self._axes.setdefault(axis, labels) == labels:
            return axis
        return self._axis(name, f"{name}_{axis}", labels)


def axis_names(name: str, n_axes: int) -> tuple[str, ...]:
    """The names of the axes of a hook point; numbered where a tower packs its clips into fewer."""
    point = bare(name)
    names = SHAPES.get(name, SHAPES.get(point, "")).split()
    if in_tower(name) and name not in SHAPES:
        names = [_IN_TOWER.get(axis, axis) for axis in names]
    return tuple(names) if len(names) == n_axes else tuple(f"{name}_{axis}" for axis in range(n_axes))
