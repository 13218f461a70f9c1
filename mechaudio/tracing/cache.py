"""The hook points that a run kept."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mechaudio.arguments import check, n_of
from mechaudio.results import keep
from mechaudio.showing import NamesTheWay, Shown
from mechaudio.tracing.elsewhere import OF_CACHE
from mechaudio.tracing.hook_points import parse, stack_of

Key = tuple[str, int | None]


@dataclass(eq=False, repr=False)
class Cache(NamesTheWay, Shown, Mapping):
    """Recorded tensors by name and layer.

    `cache["pattern", 3]`, `cache["resid_post", -1]` and `cache["blocks.3.attn.hook_pattern"]` all work.
    Every tensor is a copy of its own: nothing that the network or a later edit does can change it.

    Attributes:
        depth: Number of layers of the `decoder`, the `encoder` and further towers, for layers counted from the end.
        tensors: What was kept, by name and layer.
    """

    _elsewhere = OF_CACHE

    depth: Mapping[str, int]
    tensors: dict[Key, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        """Refuse what no run keeps, as a file may hold it.

        Raises:
            TypeError: A value that is no tensor, or a key that is no name and layer.
        """
        for key, value in self.tensors.items():
            if not isinstance(value, Tensor) or not isinstance(key, tuple) or [type(part) for part in key[:1]] != [str]:
                raise TypeError(f"a cache holds tensors by name and layer, got {type(value).__name__} for {key!r}")

    def keep(self, name: str, layer: int | None, value: Tensor) -> None:
        """Keep one tensor (runs do this)."""
        self.tensors[name, layer] = value

    def extend(self, name: str, layer: int | None, value: Tensor) -> None:
        """Put one more chunk of positions behind those that are kept already."""
        kept = self.tensors.get((name, layer))
        self.tensors[name, layer] = value if kept is None else torch.cat([kept, value], dim=1)

    def __getitem__(self, key: str | tuple[str, int | None]) -> Tensor:
        """One tensor.

        Raises:
            KeyError: It was not recorded; the message says what was.
            TypeError: Something else than a name, or a name and a layer.
        """
        spelled, layer_beside = _name_and_layer(key)
        name, layer = parse(spelled)
        layer = layer_beside if layer is None else layer
        if layer is not None and layer < 0:
            layer += self.depth[stack_of(name)]
        if (name, layer) in self.tensors:
            return self.tensors[name, layer]
        layers = sorted(kept for kept_name, kept in self.tensors if kept_name == name and kept is not None)
        if layers and layer is None:
            raise KeyError(f"{name!r} was kept per layer: ask for cache[{name!r}, layer] with one of {layers}")
        if layers:
            raise KeyError(f"{name!r} was kept in layers {layers}, not in {layer}")
        raise KeyError(f"{name!r} was not recorded; this run kept {sorted({kept for kept, _ in self.tensors})}")

    def __iter__(self) -> Iterator[Key]:
        """Names and layers, in the order of computation."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self.tensors)

    def stack(self, name: str, missing: float | None = None) -> Tensor:
        """One hook point over all layers it was kept in, as `[layer, ...]`, on the device of the first of them.

        Args:
            name: The hook point.
            missing: What stands for a layer that it was not kept in, so that the first axis counts all layers; by
                default such layers are left out.

        Raises:
            KeyError: It was not recorded.
            TypeError: Something else than a name.
            RuntimeError: Its shape differs between layers.
        """
        short, _ = parse(check("name", name, str))
        layers = sorted(layer for kept, layer in self.tensors if kept == short and layer is not None)
        if not layers:
            return self[name][None]
        first = self.tensors[short, layers[0]]
        kept = {layer: self.tensors[short, layer].to(first.device) for layer in layers}
        if missing is None:
            return torch.stack(list(kept.values()))
        depth = self.depth[stack_of(short)]
        nothing = torch.full_like(first, missing)
        return torch.stack([kept.get(layer, nothing) for layer in range(depth)])

    def __repr__(self) -> str:
        """List the hook points that were kept, and how large they are."""
        if not self.tensors:
            return "Cache()"
        lines = [
            f"  {name}{'' if layer is None else f'[{layer}]'}: {list(value.shape)} {value.dtype}"
            for (name, layer), value in self.tensors.items()
        ]
        megabytes = sum(value.numel() * value.element_size() for value in self.tensors.values()) / 2**20
        return "\n".join([f"Cache of {n_of(len(self), 'tensor')}, {megabytes:.1f} MB", *lines])


def _name_and_layer(key: Any) -> tuple[str, int | None]:
    name, layer = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
    if isinstance(name, str) and (layer is None or hasattr(layer, "__index__")):
        return name, None if layer is None else operator.index(layer)
    raise TypeError(
        f"cache[...] takes a name, or a name and a layer, cache['resid_post', 3], got {key!r}: all layers of one are "
        "cache.stack('resid_post')"
    )


keep(Cache)
