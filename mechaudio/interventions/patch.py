"""Patching: a value from one run, put into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mechaudio.interventions.selecting import Heads, Phase, Value, check_choice, named, numbers, placed, where
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, heads_among, of_rows
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Edit
from mechaudio.tracing.hook_points import MODEL_POINTS, ROW_POINTS, HookPoint, bare, in_tower
from mechaudio.tracing.rows import row_positions

#: The axis that heads are counted along.
HEAD_AXIS = {"q": 2, "k": 2, "v": 2, "z": 2, "result": 2, "scores": 1, "pattern": 1}


@dataclass(frozen=True, repr=False, eq=False)
class Patch(Value):
    """Put a value in the place of a hook point's, whole or at some heads and positions: activation patching.

    ```python
    clean = ma.run(model, clean_batch, record=["z"]).cache
    ma.Patch("z", layer=3, value=clean["z", 3], heads=[1], positions="last")
    ```

    Attributes:
        hook_point: Short name of any hook point (`z`, `resid_post`, `pattern`, `audio.resid_post`, `embed`, …).
        value: The value, in the axes of the hook point: of all heads and positions, or of the chosen ones only.
        layer: The layer, negative ones counting from the last; left out for hook points of the model.
        heads: Heads (of `k` and `v`: key-value heads), `None` for all.
        positions: Spans or positions, query rows of `scores` and `pattern`; `None` for all. Where prompts have
            unequally many, the value is that of all positions.
        phase: While generating: `"prefill"` patches the prompt alone; `"all"` puts the value of the last position into
            new tokens too, where `positions` name it.

    Raises:
        TypeError: A value that is no array.
        ValueError: Heads of a hook point that has none, a layer missing or one too many.
    """

    hook_point: str
    value: Any
    layer: int | None = None
    heads: Heads = None
    positions: Where | None = None
    phase: Phase = "prefill"

    @property
    def _sentence(self) -> str:
        where = "" if self.layer is None else f" of layer {self.layer}"
        heads = "" if self.heads is None else f", {named('head', self.heads)}"
        value = list(self.value.shape)
        return f"Puts a value {value} in the place of {self.hook_point}{where}{heads}, at {placed(self.positions)}"

    def __post_init__(self) -> None:
        """Check everything that can be checked without a model."""
        point = HookPoint(self.hook_point, layers=None if self.layer is None else [self.layer])
        layer = point.layers[0] if point.layers else None
        self._set(
            hook_point=point.name, layer=layer, heads=numbers("heads", self.heads), positions=where(self.positions)
        )
        check_choice("phase", self.phase, ("prefill", "all"))
        if not hasattr(self.value, "shape"):
            raise TypeError(f"value= is a tensor or array, got {type(self.value).__name__}")
        if self.heads is not None and point.point not in HEAD_AXIS:
            raise ValueError(f"{self.hook_point!r} has no axis of heads; those that have are {', '.join(HEAD_AXIS)}")
        if (self.layer is None) != (point.name in MODEL_POINTS):
            raise ValueError(
                f"{self.hook_point!r} exists once in every layer: give layer="
                if self.layer is None
                else f"{self.hook_point!r} exists once in the model: leave layer= out"
            )

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[Edit]:  # noqa: ARG002
        """The replacement."""
        rows = self.hook_point in ROW_POINTS
        layers = None if self.layer is None else [self.layer]
        places = {"queries" if rows else "positions": self.positions}
        point = HookPoint(self.hook_point, layers=layers, **places)
        chosen = None if self.positions is None else row_positions(batch, self.positions, fill=True).tolist()
        return (
            Edit(
                point,
                lambda current: self._put(current, chosen, batch.n_forced),
                every_step=self.phase == "all",
                by_position=point.part == "decoder",  # the tower's axes are not those of prompts
            ),
        )

    def _put(self, current: Tensor, chosen: Sequence[Sequence[int]] | None, n_forced: int) -> Tensor:
        """Put the value where it belongs; prompts that are extended by words may have more keys than it."""
        new = torch.as_tensor(self.value).to(current)
        short = bare(self.hook_point)
        axis = 2 if short in ROW_POINTS else 1
        if new.ndim == current.ndim and len(new) == len(current) and chosen is not None:
            filled = any(len(set(row)) < len(row) for row in chosen)
            if filled or new.shape[axis] != len(chosen[0]):
                if max(max(row) for row in chosen) >= new.shape[axis]:
                    raise ValueError(self._misfit(current, new))
                index = torch.tensor([list(row) for row in chosen], device=new.device)
                new = torch.stack(
                    [part.index_select(axis - 1, positions) for part, positions in zip(new, index, strict=True)]
                )
            if current.shape[axis] < len(chosen[0]):  # a new token: the value of the last position
                newest = torch.tensor([row.index(max(row)) for row in chosen], device=new.device)
                new = torch.stack([part.narrow(axis - 1, at, 1) for part, at in zip(new, newest, strict=True)])
        if self.heads is None:
            new = self._with_later_keys(new, current, n_forced)
            if new.shape != current.shape:
                raise ValueError(self._misfit(current, new))
            return new
        head_axis = HEAD_AXIS[short]
        heads = torch.tensor(heads_among(self.heads, current.shape[head_axis]), device=new.device)
        if new.ndim == current.ndim and new.shape[head_axis] == current.shape[head_axis]:
            new = new.index_select(head_axis, heads)
        part = current.index_select(head_axis, heads)
        new = self._with_later_keys(new, part, n_forced)
        if part.shape != new.shape:
            raise ValueError(self._misfit(part, new))
        return current.index_copy(head_axis, heads, new)

    def _with_later_keys(self, new: Tensor, current: Tensor, n_forced: int) -> Tensor:
        """Give rows of the prompts what is there at the keys of words behind them, which no row of a prompt sees."""
        lacking = current.shape[-1] - new.shape[-1]
        if not n_forced or lacking != n_forced or bare(self.hook_point) not in ROW_POINTS:
            return new
        later = current[..., -n_forced:]
        return torch.cat([new, later], dim=-1) if later.shape[:-1] == new.shape[:-1] else new

    def _misfit(self, current: Tensor, new: Tensor) -> str:
        where_ = "" if self.positions is None else f" at {self.positions!r}"
        return (
            f"the value for {self.hook_point!r} in layer {self.layer}{where_} has shape {list(new.shape)}, and "
            f"{list(current.shape)} is there. Runs that are patched into one another need prompts of one length: make "
            "them from clips of one length and the same text, or give the value at the chosen positions only"
        )

    def of_rows(self, rows: Sequence[int]) -> Patch:
        """Keep the patches of some prompts of a batch."""
        if in_tower(self.hook_point) or self.hook_point == "projector_out":
            raise ValueError(
                f"{self.hook_point!r} counts windows of sound, not prompts, so a value for it cannot be shared out to "
                "prompts that run apart: patch them one by one"
            )
        return replace(self, value=self.value[list(rows)], positions=of_rows(self.positions, rows))
