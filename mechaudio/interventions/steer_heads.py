"""Steering of single heads: a direction for each, added to what the head gives before the output projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mechaudio.arguments import check_fields, n_of
from mechaudio.interventions.selecting import Phase, Value, check_choice, check_number, numbers, placed, where
from mechaudio.interventions.steer import check_array
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, of_rows
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Add, Edit
from mechaudio.tracing.hook_points import HookPoint


@dataclass(frozen=True, repr=False, eq=False)
class SteerHeads(Value):
    """Add a direction to the outputs of chosen heads.

    z' = z + strength d for each head, so that the residual stream after attention gets strength W_O d of its slice of
    the output projection ("Audio-specialist heads", arXiv 2603.06854, eq. 7-9).

    ```python
    ma.SteerHeads(differences, heads=[(14, 3), (20, 7)], strength=1.0)      # differences: [2, d_head]
    ```

    Attributes:
        directions: `[head, d_head]`, in the order of `heads`; with `per_question` `[batch, head, d_head]`. Where layers
            have heads of other widths (Gemma 4), as wide as the widest, with zeros beyond a head's own.
        heads: The heads, each as (layer, head).
        strength: What directions are multiplied with.
        per_question: Whether every prompt of the batch has directions of its own.
        positions: Spans or positions; `None` for all.
        phase: While generating: `"all"` steers new tokens too, where `positions` name the last one (or all);
            `"prefill"` steers the prompt alone.

    Raises:
        TypeError: Directions that are no array, or a strength that is not one number.
        ValueError: Another number of directions than heads, or a head named twice.
    """

    directions: Any
    heads: Sequence[tuple[int, int]]
    strength: int | float = 1.0
    per_question: bool = False
    positions: Where | None = "last"
    phase: Phase = "all"

    @property
    def _sentence(self) -> str:
        heads = ", ".join(f"{layer}.{head}" for layer, head in self.heads[:8]) + ", …" * (len(self.heads) > 8)
        whose = "each question's direction" if self.per_question else "a direction"
        return f"Adds {self.strength:g} times {whose} to the outputs of heads {heads}, at {placed(self.positions)}"

    def __post_init__(self) -> None:
        """Check everything that can be checked without a model."""
        check_fields(self)
        self._set(heads=tuple(numbers("heads", head) for head in self.heads), positions=where(self.positions))
        self._set(strength=check_number("strength", self.strength))
        check_choice("phase", self.phase, ("prefill", "all"))
        axes = "[batch, head, d_head]" if self.per_question else "[head, d_head]"
        check_array("directions", self.directions, axes)
        if any(len(head) != 2 for head in self.heads) or len(set(self.heads)) != len(self.heads):
            raise ValueError(f"heads= lists (layer, head) pairs, each once; got {list(self.heads)}")
        if self.directions.shape[-2] != len(self.heads):
            raise ValueError(
                f"there are {n_of(self.directions.shape[-2], 'direction')} for {n_of(len(self.heads), 'head')}"
            )

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[Edit, ...]:  # noqa: ARG002 - any model with these heads
        """One change of `z` in every layer that has one of the heads."""
        directions = torch.as_tensor(self.directions)
        if self.per_question and len(directions) != batch.n_rows:
            raise ValueError(
                f"there are directions for {n_of(len(directions), 'question')}, and {n_of(batch.n_rows, 'prompt')}"
            )
        if self.strength == 0:
            return ()
        changes = []
        for layer in dict.fromkeys(layer for layer, _ in self.heads):
            chosen = [index for index, (of, _) in enumerate(self.heads) if of == layer]
            heads = [self.heads[index][1] for index in chosen]
            vectors = directions[..., chosen, :]
            point = HookPoint("z", layers=[layer], positions=self.positions)
            change = Add(vectors[:, None] if self.per_question else vectors, self.strength, tuple(heads))
            changes.append(Edit(point, change, every_step=self.phase == "all", by_position=True))
        return tuple(changes)

    def of_rows(self, rows: Sequence[int]) -> SteerHeads:
        """Keep the directions of some prompts of a batch."""
        directions = self.directions[list(rows)] if self.per_question else self.directions
        return replace(self, directions=directions, positions=of_rows(self.positions, rows))
