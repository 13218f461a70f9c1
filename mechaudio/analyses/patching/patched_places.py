"""The places that a patching map goes over, and the patches of each of them.

Labels of axes are layers, heads, positions in the prompt, roles, the seconds at which windows begin, or what sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mechaudio.analyses.patching.effect_map import DIRECTIONS, Direction
from mechaudio.analyses.patching.joined import MeasuredPairs, join_labels
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.analyses.patching.places import ALONG, Ground, Places, frame_windows, places
from mechaudio.interventions.patch import HEAD_AXIS, Patch
from mechaudio.interventions.selecting import check_choice, check_number, numbers
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Positions, Where, heads_among, select
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import MODEL_POINTS, ROW_POINTS, HookPoint, bare, stack_of
from mechaudio.tracing.record import Edit, Intervention
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import NoSuchHookPoint
from mechaudio.tracing.tower_frames import tower_frames

Axis = Literal["layer", "head", "position", "role", "second", "event"]
#: Hook points that exist once and can be patched at positions of the prompt.
_ONCE = ("embed", "final_norm")
#: Layer and head -> the patch; `None` for a hook point of the model, and for all heads.
Make = Callable[[int | None, int | None], Intervention]


@dataclass(frozen=True, eq=False)
class Patches:
    """The patches of one place.

    Attributes:
        has: Per prompt, whether it has such a place; one that has not stays as it is.
        make: Makes the patch in a layer and head.
    """

    has: list[bool]
    make: Make


class PatchedPlaces:
    """The places that are patched, in a given model.

    Attributes:
        name: Short name of the hook point.
        in_tower: Whether it has frames of an audio tower, not positions of the prompt.
        along: How prompts are divided, `None` if they are not.
        layers: Layers, or `[None]` for a hook point of the model.
        heads: Heads, or `[None]` if the map does not go over heads.
        heads_given: Heads that were asked for.
    """

    #: Names of axes, in the order of a map; and what `heads` are called among them.
    AXES: ClassVar[tuple[str, ...]] = ("layer", "head", *ALONG)
    HEADS: ClassVar[str] = "head"

    direction: Direction
    layers: Sequence[int | None]

    def __init__(
        self,
        model: AudioLM,
        over: Axis | Sequence[Axis],
        hook_point: str | None,
        direction: Direction,
        layers: int | Iterable[int] | None,
        heads: int | Iterable[int] | None,
        positions: Where | None,
        window_seconds: float | int,
    ):
        self._begin(model, over, direction, positions, window_seconds)
        unknown = [axis for axis in self.over if axis not in self.AXES]
        divided = [axis for axis in self.over if axis in ALONG]
        if not self.over or unknown or len(set(self.over)) < len(self.over) or len(divided) > 1:
            raise ValueError(
                f"over= names axes, each once and at most one of {', '.join(ALONG)}; there are {', '.join(self.AXES)}; "
                f"got {over!r}"
            )
        self.along = divided[0] if divided else None
        point = HookPoint(hook_point or ("z" if "head" in self.over else "resid_pre"))
        self.name, self.in_tower = point.name, point.part == "encoder"
        self.layers = self._layers(point, numbers("layers", layers))
        self.heads_given = numbers("heads", heads)
        self._check_axes(point)

    def _begin(
        self,
        model: AudioLM,
        over: Sequence[str],
        direction: Direction,
        positions: Where | None,
        window_seconds: float | int,
    ) -> None:
        self.model, self.direction, self.positions = model, direction, positions
        self.window_seconds = check_number("window_seconds", window_seconds)
        check_choice("direction", direction, DIRECTIONS)
        self.over = (over,) if isinstance(over, str) else tuple(over)
        self.heads: list[int | None] = [None]

    def _layers(self, point: HookPoint, layers: tuple[int, ...] | None) -> list[int | None]:
        if point.name in MODEL_POINTS:
            if point.name not in _ONCE:
                raise ValueError(f"{point.name!r} cannot be patched at places; of those outside layers {_ONCE} can")
            return [None]
        if point.point == "mass":
            raise ValueError("mass is what attention did, not something it uses: patch pattern or z")
        chosen = layers if layers is not None else point.layers
        sites = self.model.site_map.find(HookPoint(point.name, layers=chosen))
        if len({site.layer for site in sites}) < len(sites):
            raise ValueError(f"layers={list(layers or ())} name one layer twice: name each once")
        if not sites:
            raise NoSuchHookPoint(self.model.site_map.layers[point.stack][0].absent[point.name])
        return [site.layer for site in sites]

    def _check_axes(self, point: HookPoint) -> None:
        if ("layer" in self.over) == (self.layers == [None]):
            raise ValueError(
                f"{self.name!r} exists once in the model: leave 'layer' out of over="
                if self.layers == [None]
                else f"{self.name!r} exists in every layer: over= has to name 'layer'"
            )
        if self.window_seconds != 1.0 and self.along != "second":
            raise ValueError(
                f"window_seconds={self.window_seconds:g} is the length of a window of seconds, and over= has no "
                "'second': add it, or leave window_seconds= out"
            )
        if point.point not in HEAD_AXIS and ("head" in self.over or self.heads_given is not None):
            raise ValueError(f"{self.name!r} has no axis of heads; those that have are {', '.join(HEAD_AXIS)}")
        if self.in_tower and (self.along not in (None, "second") or self.positions is not None):
            raise ValueError(
                f"{self.name!r} has frames of the audio tower, not positions of the prompt: go over 'second', and "
                "leave positions= out"
            )

    def joined(self, parts: Sequence[MeasuredPairs]) -> tuple[list[Any], dict[str, tuple[Any, ...]]]:
        """Return the labels of the places of all batches, and with these the axes of the map, in its order."""
        if parts[0].heads is not None:
            self.take_heads(parts[0].heads)  # a run that is taken up has counted none
        labels = join_labels([part.labels for part in parts], self.along)
        have = {"layer": tuple(self.layers), self.HEADS: tuple(self.heads), self.along: tuple(labels)}
        return labels, {name: have[name] for name in self.AXES if name in self.over}

    @property
    def together(self) -> tuple[int, ...] | None:
        """Heads that are patched together; `None` for all of them, and for a map that goes over heads."""
        return self.heads_given if self.heads == [None] else None

    @property
    def counted(self) -> tuple[int, ...] | None:
        """The heads of the map, or those that are patched together, once they are counted; `None` without any."""
        return self.heads_given if self.heads == [None] else tuple(self.heads)

    @property
    def point(self) -> HookPoint:
        """The hook point in all layers of the map."""
        return HookPoint(self.name, layers=None if self.layers == [None] else self.layers)

    def count_heads(self, cache: Cache) -> None:
        """Find the heads of the map in what was recorded.

        Raises:
            IndexError: A head that there is not.
            ValueError: A head named twice, or layers with unequally many heads.
        """
        short = bare(self.name)
        if "head" not in self.over and self.heads_given is None:
            return
        sizes = {layer: cache[self.name, layer].shape[HEAD_AXIS[short]] for layer in self.layers}
        n = max(sizes.values())
        if min(sizes.values()) < n:
            raise ValueError(
                f"layers have unequally many heads at {self.name!r}, {sizes}: name layers= with one number of them"
            )
        self.take_heads(range(n) if self.heads_given is None else heads_among(self.heads_given, n))

    def take_heads(self, heads: Iterable[int]) -> None:
        """Take heads that there are as those of the map, or as those that are patched together."""
        if self.HEADS in self.over:
            self.heads = list(heads)
        else:
            self.heads_given = tuple(heads)

    def ground(self, pair: Contrast, size: Sequence[int]) -> Ground:
        """Find the places in a tensor whose first two axes, clips and frames or prompts and positions, are so long."""
        if self.in_tower:
            frames = tower_frames(self.model, pair.clean, (size[0], size[1]), stack_of(self.name))
            windows = (None, None) if self.along is None else (frames.middle, self.window_seconds)
            return Ground(frames.row, frame_windows(frames.row, *windows))
        masks = {}
        for label, rows in self.places_of(pair).items():
            masks[label] = np.zeros(size, dtype=bool)
            for row, positions in enumerate(rows):
                masks[label][row, list(positions)] = True
        return Ground(np.arange(size[0])[:, None].repeat(size[1], axis=1), masks)

    def patches(self, pair: Contrast, cache: Cache, base: PromptBatch) -> dict[int | None, dict[Any, Patches]]:
        """Make the patches of each place of every layer, of what was recorded at `point`, for the base."""
        if self.in_tower:
            return {layer: self._frames(pair, cache[self.name, layer]) for layer in self.layers}
        return self._in_decoder(pair, cache, base)

    def _in_decoder(self, pair: Contrast, cache: Cache, base: PromptBatch) -> dict[int | None, dict[Any, Patches]]:
        places = self.places_of(pair)
        lacking = any(not positions for prompts in places.values() for positions in prompts)
        axis, short = (2, "queries") if self.name in ROW_POINTS else (1, "positions")
        ends = replace(self.point, **{short: "last"})
        theirs = run(self.model, base, record=[ends], logits=None).cache if lacking else None
        name, last = self.name, base.n_positions - 1
        mixed: dict[tuple[int | None, tuple[bool, ...]], Tensor] = {}

        def with_ends(layer: int | None, given: tuple[bool, ...]) -> Tensor:
            """The values, at the last position only of the prompts that are given theirs there."""
            if (layer, given) not in mixed:
                values = cache[name, layer].clone()
                end = values.select(axis, -1)
                keep = torch.tensor(given, device=end.device).view(-1, *[1] * (end.ndim - 1))
                end.copy_(torch.where(keep, end, theirs[name, layer].select(axis, -1)))
                mixed[layer, given] = values
            return mixed[layer, given]

        def making(where: Positions, has: list[bool]) -> Make:
            """A prompt without this place is given at its last position what it has there."""
            filled = [list(positions) or [last] for positions in where]
            given = tuple(last in positions for positions in where)

            def make(layer: int | None, head: int | None) -> Patch:
                values = cache[name, layer] if all(has) else with_ends(layer, given)
                chosen = self.heads_given if head is None else [head]
                return Patch(name, values, layer, heads=chosen, positions=filled)

            return make

        made = {}
        for label, where in places.items():
            has = [bool(positions) for positions in where]
            made[label] = Patches(has, making(where, has))
        return dict.fromkeys(self.layers, made)

    def places_of(self, pair: Contrast) -> Places:
        """The positions of every place of the decoder, in each pair.

        Raises:
            ValueError: No place is left of the positions asked for, or a prompt of a map that does not divide them has
                none of them.
        """
        if self.positions is not None:
            within = select(pair.clean, self.positions)
        else:
            within = tuple(tuple(range(first, pair.clean.n_positions)) for first in pair.first.tolist())
        if self.along is None:
            self._check_within(pair.clean, within)
            return {"": within}
        divided = places(pair.clean, self.along, self.window_seconds, within)
        if not divided:
            raise ValueError(f"no {self.along} has any of the positions {self.positions!r}")
        return divided

    def _check_within(self, batch: PromptBatch, within: Positions) -> None:
        """Refuse a prompt in which there would be nothing to patch."""
        for row, positions in enumerate(within):
            if not positions:
                length = batch.durations[row]
                sound = "" if length is None else f" and {length:.2f} s of sound"
                spans = ", ".join(name for name, positions in batch.spans.items() if positions[row])
                raise ValueError(
                    f"positions={self.positions!r} names no position of question {batch.questions[row].id!r}, whose "
                    f"prompt has the spans {spans}{sound}: choose positions that every prompt has"
                )

    def _frames(self, pair: Contrast, values: Tensor) -> dict[Any, Patches]:
        """Places in one layer of the tower: all frames, or those of each window of seconds."""
        along = 2 if bare(self.name) in ROW_POINTS else 1
        where, made = self.ground(pair, (values.shape[0], values.shape[along])), {}
        for (label, chosen), has in zip(where.places.items(), where.there(pair.clean.n_rows).tolist(), strict=True):
            mask = torch.from_numpy(chosen).to(values.device)
            mask = mask[:, None, :, None] if along == 2 else mask.view(*mask.shape, *[1] * (values.ndim - 2))
            made[label] = Patches(has, _frames_patch(self.name, values, mask, self.heads_given))
        return made


def _frames_patch(name: str, values: Tensor, chosen: Tensor, together: tuple[int, ...] | None) -> Make:
    """Makes the edit that puts values into chosen frames of a layer of the tower."""

    def make(layer: int | None, head: int | None) -> Edit:
        heads = together if head is None else (head,)
        mask = chosen
        if heads is not None:
            axis = HEAD_AXIS[bare(name)]
            chosen_heads = torch.zeros(values.shape[axis], dtype=torch.bool, device=values.device)
            chosen_heads[list(heads)] = True
            shape = [1] * values.ndim
            shape[axis] = len(chosen_heads)
            mask = mask & chosen_heads.view(shape)
        return Edit(HookPoint(name, layers=[layer]), lambda current: torch.where(mask, values.to(current), current))

    return make
