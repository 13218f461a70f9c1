"""Steering: a direction that is added to the residual stream, or taken out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import check_fields, n_of
from mechaudio.interventions.selecting import (
    Layers,
    Phase,
    Value,
    check_choice,
    check_number,
    named,
    numbers,
    placed,
    where,
)
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, of_rows
from mechaudio.results import as_numpy
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Add, Edit
from mechaudio.tracing.hook_points import MODEL_POINTS, HookPoint

_POINTS = ("resid_pre", "attn_out", "resid_mid", "mlp_post", "mlp_out", "resid_post", "final_norm")


@dataclass(frozen=True, repr=False, eq=False)
class Steer(Value):
    """Add a direction to the residual stream, or project it out.

    `mode="add"`: h' = h + strength d. `mode="project_out"`: h' = h - strength (h . d / d . d) d, which leaves nothing
    of d at strength 1. With `keep_norm`, h' is then brought back to the length of h.

    ```python
    ma.Steer(direction, strength=2.0, layers=[20])
    ma.Steer(per_question, layers=[-1], per="question")       # another direction for every prompt of the batch
    ```

    Attributes:
        direction: `[d_model]`; with `per="layer"` `[layer, d_model]`, one for each of `layers`; with `per="question"`
            `[batch, d_model]`. At `mlp_post` it is as wide as the neurons, `d_mlp`.
        strength: What it is multiplied with.
        mode: `"add"` or `"project_out"`.
        keep_norm: Whether the residual stream keeps its length.
        per: What the first axis of the directions counts, `None` for one direction.
        layers: Layers, negative ones counting from the last; `None` for all. Left out for `final_norm`.
        hook_point: Where: `resid_pre`, `attn_out`, `resid_mid`, `mlp_post`, `mlp_out`, `resid_post` or `final_norm`.
        positions: Spans or positions; `None` for all.
        phase: While generating: `"all"` steers new tokens too, where `positions` name the last one (or all);
            `"prefill"` steers the prompt alone.

    Raises:
        TypeError: A direction that is no array, or a strength that is not one number.
        ValueError: A direction of the wrong number of axes, or `per="layer"` for another number of layers.
    """

    direction: Any
    strength: int | float = 1.0
    mode: Literal["add", "project_out"] = "add"
    keep_norm: bool = False
    per: Literal["layer", "question"] | None = None
    layers: Layers = None
    hook_point: str = "resid_post"
    positions: Where | None = "last"
    phase: Phase = "all"

    @property
    def _sentence(self) -> str:
        direction = {None: "a direction", "layer": "each layer's direction", "question": "each question's direction"}
        where = f"{self.hook_point} at {placed(self.positions)}, in {named('layer', self.layers)}"
        kept = ", keeping its length" if self.keep_norm else ""
        if self.mode == "project_out":
            return f"Takes {self.strength:g} of {direction[self.per]} out of {where}{kept}"
        return f"Adds {self.strength:g} times {direction[self.per]} to {where}{kept}"

    def __post_init__(self) -> None:
        """Check everything that can be checked without a model."""
        self._set(layers=numbers("layers", self.layers), positions=where(self.positions))
        self._set(strength=check_number("strength", self.strength))
        check_fields(self)
        check_choice("mode", self.mode, ("add", "project_out"))
        check_choice("per", self.per, (None, "layer", "question"))
        check_choice("hook_point", self.hook_point, _POINTS)
        check_choice("phase", self.phase, ("prefill", "all"))
        check_array("direction", self.direction, "[d_model]" if self.per is None else f"[{self.per}, d_model]")
        if self.hook_point in MODEL_POINTS and (self.layers is not None or self.per == "layer"):
            raise ValueError(f"{self.hook_point!r} exists once in the model: leave layers= and per='layer' out")
        if self.per == "layer" and (self.layers is None or len(self.layers) != len(self.direction)):
            raise ValueError(
                f"per='layer' needs one direction for each of layers=: got {n_of(len(self.direction), 'direction')} "
                f"and layers={self.layers}"
            )

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[Edit, ...]:
        """One change for all layers, or one per layer."""
        directions = torch.as_tensor(self.direction)
        point = HookPoint(self.hook_point, layers=self.layers, positions=self.positions)
        for where_, width in _widths(model, point).items():
            if directions.shape[-1] != width:
                raise ValueError(
                    f"the direction has {n_of(directions.shape[-1], 'number')}, and {where_} of this model has {width}"
                )
        if self.per == "question" and len(directions) != batch.n_rows:
            raise ValueError(
                f"got {n_of(len(directions), 'direction')}, one per question, and {n_of(batch.n_rows, 'prompt')}"
            )
        if self.mode == "project_out" and bool((directions == 0).all(-1).any()):
            raise ValueError("a direction of zeros cannot be projected out: it points nowhere")
        if self.strength == 0:
            return ()
        if self.per == "layer":
            places = [
                (replace(point, layers=[layer]), vectors)
                for layer, vectors in zip(self.layers, directions, strict=True)
            ]
        else:
            places = [(point, directions if self.per is None else directions[:, None])]
        every = self.phase == "all"
        return tuple(Edit(place, self._change(added), every_step=every, by_position=True) for place, added in places)

    def _change(self, direction: Float[Tensor, "*#batch_position d_model"]) -> Callable[[Tensor], Tensor]:
        if self.mode == "add" and not self.keep_norm:
            return Add(direction, self.strength)

        def change(resid: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
            if self.mode == "add":
                moved = resid + self.strength * direction.to(resid)
            else:
                unit = (direction.float() / direction.float().norm(dim=-1, keepdim=True)).to(resid)
                moved = resid - self.strength * (resid * unit).sum(-1, keepdim=True) * unit
            if not self.keep_norm:
                return moved
            before, after = (part.norm(dim=-1, keepdim=True) for part in (resid, moved))
            return moved * torch.where(after > 0, before / after, 0.0)  # zero stays zero: padding, rows that see no key

        return change

    def of_rows(self, rows: Sequence[int]) -> Steer:
        """Keep the directions of some prompts of a batch."""
        direction = self.direction[list(rows)] if self.per == "question" else self.direction
        return replace(self, direction=direction, positions=of_rows(self.positions, rows))


def _widths(model: AudioLM, point: HookPoint) -> dict[str, int]:
    """The width of every place that a direction is added at; the residual stream has one."""
    if point.point != "mlp_post":
        return {"the residual stream": model.d_model}
    widths = {}
    for site in model.site_map.find(point):
        stack = model.site_map.stacks["decoder"][site.layer]
        down = model.network.get_submodule(f"{stack.path(site.layer)}.{stack.projecting_down}")
        widths[site.address] = down.in_features
    return widths


def check_array(name: str, given: Any, axes: str) -> None:
    """Refuse what is no array of these axes.

    Raises:
        TypeError: No array.
        ValueError: Another number of axes, or NaN or infinity.
    """
    if not hasattr(given, "shape"):
        raise TypeError(f"{name}= is a tensor or array {axes}, got {type(given).__name__}")
    if len(given.shape) != axes.count(",") + 1:
        raise ValueError(f"{name}= must be {axes}, got shape {list(given.shape)}")
    if not bool(np.isfinite(as_numpy(given)).all()):
        raise ValueError(f"{name}= must be finite, and holds NaN or infinity: every answer would be NaN")
