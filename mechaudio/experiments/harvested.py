"""A harvest on the disk, read back a hook point, a shard or a few entries at a time.

Conventions: an entry is one stored position of one question, the axis `entry`; behind it come the axes of the hook
point: `[entry, d_model]`, `[entry, head, d_head]`. Seconds count from the beginning of the clip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechaudio.arguments import checks_arguments, followed_home, n_of
from mechaudio.experiments.harvest_log import LOG_NAME, Harvested, Shard, read_logs, refuse_damaged
from mechaudio.kinds import MaybeNone
from mechaudio.provenance import Provenance
from mechaudio.showing import Shown
from mechaudio.tracing.hook_points import parse

if TYPE_CHECKING:
    import pandas
    import xarray
    from torch import Tensor

INDEX = "index."
"""First part of the names of tensors that describe the entries."""


class Harvest(Shown):
    """Hook points of many questions, as `ma.harvest` wrote them; nothing is read until it is asked for.

    ```python
    kept = ma.Harvest.load("runs/harvest")
    kept["resid_post", 3]                         # [entry, d_model], a tensor of torch
    heard = kept.positions(role="audio")          # a table: question, position, token, seconds
    kept.read("resid_post", 3, entries=heard.index)
    for values in kept.shards("resid_post", 3):   # a batch after the other, in constant memory
        ...
    ```

    Attributes:
        folder: Where it is.
        provenance: Checkpoint, settings and versions that made it.
        hook_points: What is kept: name and layer, None for what is once in the model.
        questions: Those that were run.
        failures: Those that could not be run, with their errors.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(followed_home(folder))
        log = self.folder / LOG_NAME
        if not log.is_file():
            raise FileNotFoundError(f"there is no harvest in {os.fspath(folder)!r}: ma.harvest(..., out=) writes one")
        header, shards = read_logs(self.folder)
        run = header["run"]
        self._settings = run["settings"]
        self.provenance = Provenance(
            run["checkpoint"], run["revision"], run["seed"], self._settings, run["versions"], header["created"]
        )
        self.hook_points: tuple[tuple[str, int | None], ...] = tuple(map(_key, self._settings["hook_points"]))
        self._shards = [shard for shard in shards if shard.file]
        each = sorted((one for shard in shards for one in shard.questions), key=lambda one: (one.index, not one.error))
        known = {one.index: one for one in each}  # what could not be run once may have been run since, or elsewhere
        self.questions: tuple[Harvested, ...] = tuple(one for one in known.values() if not one.error)
        self.failures: tuple[Harvested, ...] = tuple(one for one in known.values() if one.error)
        self._tokens = {int(token): text for shard in shards for token, text in shard.tokens.items()}
        self._ends = np.array([0, *accumulate(shard.n_entries for shard in self._shards)])
        self._verified: set[str] = set()

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Harvest:
        """Open a harvest, finished or not.

        Args:
            folder: The `out=` that it was written to.

        Raises:
            FileNotFoundError: There is none.
            ValueError: Its log is damaged.
            TypeError: Something else than a folder.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"folder= takes a path, got {folder!r}")
        return cls(folder)

    def __len__(self) -> int:
        """Count the entries."""
        return int(self._ends[-1])

    def __getitem__(self, key: str | tuple[str, int | None]) -> Tensor:
        """A hook point at every entry, such as `kept["resid_post", 3]` or `kept["final_norm"]`.

        Raises:
            KeyError: It was not harvested.
            TypeError: Neither a name nor a name with a layer.
            ValueError: A shard is damaged.
        """
        if not isinstance(key, str) and not (isinstance(key, tuple) and len(key) == 2):
            raise TypeError(f'a hook point is named as kept["resid_post", 3] or kept["final_norm"]; got {key!r}')
        name, layer = (key, None) if isinstance(key, str) else key
        return self.read(name, layer)

    @checks_arguments
    def read(self, hook_point: str, layer: int | None = None, *, entries: Sequence[int] | Any = None) -> Tensor:
        """A hook point at some entries, in the order given; of the files, these alone are read.

        Args:
            hook_point: Its name, such as `resid_post`.
            layer: Its layer; negative ones count from the last of the model.
            entries: Numbers of entries, such as the index of `positions(...)`; by default all of them.

        Returns:
            `[entry, ...]`, in the type that it was written in.

        Raises:
            KeyError: It was not harvested.
            IndexError: An entry that there is not.
            ValueError: A shard is damaged.
        """
        import torch

        name = self._name(hook_point, layer)
        if entries is None:
            return torch.cat([self._whole(shard, name) for shard in self._shards])
        wanted = self._entries(entries)
        of_shard = np.searchsorted(self._ends[1:], wanted, side="right")
        parts, order = [], []  # tensors, and where their entries are among those wanted
        for number in np.unique(of_shard) if len(wanted) else [0]:
            here = np.flatnonzero(of_shard == number)
            with self._opened(self._shards[number], "pt") as file:
                kept = file.get_slice(name)
                rows = wanted[here] - self._ends[number]
                first, end = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
                parts.append(kept[first:end][torch.from_numpy(rows - first)])
                order.append(here)
        return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(order)))]

    @checks_arguments
    def shards(self, hook_point: str, layer: int | None = None) -> Iterator[Tensor]:
        """A hook point, a shard after the other, each as large as the batch that it was made in.

        Args:
            hook_point: Its name.
            layer: Its layer.

        Raises:
            KeyError: It was not harvested.
            ValueError: A shard is damaged.
        """
        name = self._name(hook_point, layer)
        return (self._whole(shard, name) for shard in self._shards)

    @checks_arguments
    def positions(self, *, role: str | None = None, question: str | None = None) -> pandas.DataFrame:
        """Describe each entry in a table whose index is its number; torch is not needed for it.

        Args:
            role: Take the positions of this role only, such as `audio` or `question`; `last` takes the last of each
                prompt.
            question: Take those of the question with this id only.

        Returns:
            A row per entry: `question`, the id; `index`, its place in the stream; `position` in the prompt, from 0,
            padding not counted; `token_id` and `token`; `role`; `clip`, and `onset` and `offset` in seconds of what an
            audio token hears of it (of several stretches, from the first to the last; missing where it hears none).

        Raises:
            ValueError: A role or a question that no entry has, or a damaged shard.
        """
        table = self._table
        lengths = {one.index: one.n_positions for one in self.questions}
        ends = np.array([lengths[number] - 1 for number in table["index"].tolist()], dtype=int)
        known = [*table["role"].cat.categories, "last"]
        if role not in (None, *known):
            raise ValueError(f"role= is one of {', '.join(map(repr, known))}, got {role!r}")
        if question is not None and question not in {one.id for one in self.questions}:
            raise ValueError(f"no question {question!r} was harvested")
        chosen = np.ones(len(table), dtype=bool)
        if role is not None:
            chosen &= table["position"] == ends if role == "last" else table["role"] == role
        if question is not None:
            chosen &= table["question"] == question
        return table.loc[chosen].copy()

    def to_xarray(self) -> xarray.Dataset:
        """Return every hook point with named axes, read from the files where it is indexed, layers together.

        Values of a variable are read when it is sliced or computed with; bfloat16 comes as float32. The axis `entry`
        has the columns of `positions()` as coordinates.
        """
        import xarray
        from xarray.core.indexing import LazilyIndexedArray

        from mechaudio.experiments.harvest_arrays import arrays_of, axes_of

        names = {name: [layer for kept, layer in self.hook_points if kept == name] for name, _ in self.hook_points}
        same = len({tuple(layers) for layers in names.values() if layers != [None]}) <= 1
        data, sizes = dict[str, xarray.Variable](), dict[str, int]()
        coords: dict[str, Any] = {"entry": np.arange(len(self))}
        for name, layers in names.items():
            for variable, own, array in arrays_of(self, name, layers):
                per_layer = ["layer" if same and variable == name else f"{variable}_layer"] if own != [None] else []
                dims = [*per_layer, "entry", *axes_of(name)]
                dims = [
                    axis if sizes.setdefault(axis, size) == size else f"{variable}_{axis}"
                    for axis, size in zip(dims, array.shape, strict=True)
                ]
                data[variable] = xarray.Variable(dims, LazilyIndexedArray(array))
                coords |= {axis: np.array(own) for axis in per_layer}
        for column, values in self._table.items():
            coords[str(column)] = ("entry", np.asarray(values.astype(object) if values.dtype == "category" else values))
        attrs = {"checkpoint": str(self.provenance.checkpoint), "created": self.provenance.created}
        return xarray.Dataset(data, coords, attrs)

    def __repr__(self) -> str:
        """Count questions, layers of each hook point, and positions."""
        layers: dict[str, int] = {}
        for name, layer in self.hook_points:
            layers[name] = layers.get(name, 0) + (layer is not None)
        said = ", ".join(f"{name} in {n_of(n, 'layer')}" if n else name for name, n in layers.items())
        failed = f", {len(self.failures)} could not be run" if self.failures else ""
        return f"<Harvest of {n_of(len(self.questions), 'question')}: {said} at {n_of(len(self), 'position')}{failed}>"

    @cached_property
    def _table(self) -> pandas.DataFrame:
        import pandas

        index = [self._index_of(shard) for shard in self._shards]
        held = {name: np.concatenate([part[name] for part in index]) for name in index[0]} if index else _NOTHING
        ids = {one.index: one.id for one in self.questions}
        roles = ["", *self._settings["roles"]]
        return pandas.DataFrame(
            {
                "question": [ids[number] for number in held["question"].tolist()],
                "index": held["question"],
                "position": held["position"],
                "token_id": held["token"],
                "token": [self._tokens[token] for token in held["token"].tolist()],
                "role": pandas.Categorical.from_codes(held["role"].astype(int), roles),
                "clip": pandas.Series(held["clip"]).where(held["clip"] >= 0).astype("Int64").array,
                "onset": held["seconds"][:, 0],
                "offset": held["seconds"][:, 1],
            },
            index=pandas.RangeIndex(len(self), name="entry"),
        )

    def _index_of(self, shard: Shard) -> dict[str, np.ndarray]:
        with self._opened(shard, "np") as file:
            return {name.removeprefix(INDEX): file.get_tensor(name) for name in file.keys() if name.startswith(INDEX)}  # noqa: SIM118 - no mapping

    def _whole(self, shard: Shard, name: str) -> Tensor:
        with self._opened(shard, "pt") as file:
            return file.get_tensor(name)

    def _opened(self, shard: Shard, framework: str) -> Any:
        """A shard's file; when it is first read, its digest is that of the log."""
        if shard.file not in self._verified:
            refuse_damaged(self.folder, shard)
            self._verified.add(shard.file)
        return import_module("safetensors").safe_open(self.folder / shard.file, framework=framework)

    def _entries(self, entries: Any) -> np.ndarray:
        wanted = np.asarray(entries)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise TypeError(f"entries= takes numbers of entries, such as the index of positions(); got {entries!r:.80}")
        outside = wanted[(wanted < 0) | (wanted >= len(self))]
        if outside.size:
            raise IndexError(f"entry {outside[0]} is outside this harvest of {n_of(len(self), 'entry')}")
        return wanted.astype(np.int64)

    def _name(self, hook_point: str, layer: int | None) -> str:
        """The name of a hook point in the files.

        Raises:
            KeyError: It was not harvested.
            ValueError: Nothing was, yet.
        """
        if not self._shards:
            raise ValueError(f"there is nothing in {os.fspath(self.folder)!r} yet: take the harvest up")
        name, own = parse(hook_point)
        layer = layer if own is None else own
        if layer is not None and layer < 0:
            layer += self._settings["n_layers"]
        if (name, layer) not in self.hook_points:
            raise KeyError(
                f"{stored_name(name, layer)!r} was not harvested; there is "
                f"{', '.join(stored_name(*kept) for kept in self.hook_points)}"
            )
        return stored_name(name, layer)


_NOTHING = {
    **{name: np.zeros(0, dtype=int) for name in ("question", "position", "token", "role", "clip")},
    "seconds": np.zeros((0, 2)),
}


def stored_name(name: str, layer: int | MaybeNone) -> str:
    """Name a hook point as the files do: `resid_post.3`."""
    return name if layer is None else f"{name}.{layer}"


def _key(stored: str) -> tuple[str, int | None]:
    name, _, layer = stored.partition(".")
    return name, int(layer) if layer else None
