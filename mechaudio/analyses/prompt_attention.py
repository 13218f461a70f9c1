"""The whole attention pattern of one prompt, small enough for a page: every layer and head, row by row.

A row of attention is kept in a byte per key: with m its largest weight, a weight a is `round(255 sqrt(a / m))`.
What is read back differs from a by at most m (u / 255 + 1 / 260100), u = sqrt(a / m): by 0.4% of m at the largest
weight, and by 4e-6 of it at the smallest, so that the small weights of audio tokens keep their shape beside a sink.

Conventions: positions count in the padded prompt; seconds from the start of the first clip, and clips follow one
another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mechaudio.analyses.audio_attention import roles_of
from mechaudio.arguments import checks_arguments
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.edit import Intervention
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run

STEPS = 255
LARGEST = 6_000_000
"""Bytes of the rows that are kept by default: all of a 10-second prompt of 48 heads, the last 19 of one of 1,024."""
PADDING = "padding"
Intervals = tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptAttention(Result):
    """Attention of the rows of one prompt in every layer and head, a byte per weight.

    Attributes:
        cells: `round(255 sqrt(weight / largest))`.
        largest: The largest weight of each row; NaN in layers without attention.
        queries: Positions of the rows, rising.
        tokens: The prompt's tokens as they read, as `PromptBatch.tokens` gives them.
        roles: What each position is: `audio`, `question`, ..., or `padding`.
        heard: The stretches that each position hears, in seconds; none of text, and of audio tokens without a time.
        clips: Seconds of each clip that the model was given.
    """

    cells: UInt8[np.ndarray, "query layer head key"]
    largest: Float32[np.ndarray, "query layer head"]
    queries: tuple[int, ...]
    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    heard: tuple[Intervals, ...]
    clips: tuple[float, ...]

    _table_axes = ("query", "layer", "head")
    _labels = (("queries", "query"), ("tokens", "key"))

    @property
    def weights(self) -> Float32[np.ndarray, "query layer head key"]:
        """The attention weights, as far as they were kept; NaN in layers without attention."""
        return self.largest[..., None] * np.square(self.cells.astype(np.float32) / STEPS)


@checks_arguments
def prompt_attention(
    model: AudioLM,
    questions: Inputs,
    *,
    condition: str = "audio",
    queries: Sequence[int] | None = None,
    interventions: Sequence[Intervention] = (),
) -> PromptAttention:
    """Read the attention of the rows of one prompt, in every layer and head.

    Args:
        model: The opened model.
        questions: One question in a list, one prompt, or a dict of the network's own inputs.
        condition: What the model is given, where a question is asked; see `ma.prompt`.
        queries: Positions of the rows; by default all, or as many of the last ones as fit into 6 MB.
        interventions: What to change while it attends.

    Raises:
        ValueError: Several prompts, or one made in another condition.
        IndexError: A position outside the prompt.
    """
    batch = as_prompts(model, questions, condition)
    if batch.n_rows != 1:
        raise ValueError(f"the pattern of one prompt is read at a time, got {batch.n_rows}: take one, batch[0]")
    if queries is None:
        real = [position for position, role in enumerate(roles(batch)) if role != PADDING]
        queries = real[-max(1, LARGEST // (len(model.blocks) * model.n_heads * batch.n_positions)) :]
    rows = sorted({position % batch.n_positions if position < 0 else position for position in queries})
    out = run(model, batch, record=[HookPoint("pattern", queries=rows)], interventions=interventions, logits=None)
    pattern = out.cache.stack("pattern", missing=math.nan)[:, 0].float().cpu().numpy()  # [layer, head, row, key]
    cells, largest = quantised(np.moveaxis(pattern, 2, 0))
    return PromptAttention(
        cells=cells,
        largest=largest,
        queries=tuple(rows),
        tokens=tuple(batch.tokens(0)),
        roles=roles(batch),
        heard=heard(batch),
        clips=tuple(batch.given[0]),
        provenance=Provenance.collect(model, settings={"condition": batch.condition}),
    )


def quantised(
    weights: Float[np.ndarray, "*row key"],
) -> tuple[UInt8[np.ndarray, "*row key"], Float32[np.ndarray, "*row"]]:
    """Rows of attention in a byte per weight, and the largest weight of each; a row of NaN as zeros and NaN."""
    largest = weights.max(axis=-1)
    relative = np.divide(weights, largest[..., None], out=np.zeros_like(weights), where=largest[..., None] > 0)
    return np.rint(STEPS * np.sqrt(relative)).astype(np.uint8), largest.astype(np.float32)


def roles(batch: PromptBatch) -> tuple[str, ...]:
    """Return the role of each position of the first prompt of a batch."""
    role_of = {position: role for role in roles_of(batch) for position in batch.spans[role][0]}
    return tuple(role_of.get(position, PADDING) for position in range(batch.n_positions))


def heard(batch: PromptBatch) -> tuple[Intervals, ...]:
    """The stretches that each position of the first prompt hears, clips following one another."""
    stretches: dict[int, Intervals] = {}
    starts = accumulate(batch.given[0], initial=0.0)
    for number, (clock, start) in enumerate(zip(batch.clocks[0], starts, strict=False)):
        positions = batch.spans["audio" if len(batch.clocks[0]) == 1 else f"audio.{number}"][0]
        for token, position in enumerate(positions):
            stretches[position] = tuple((start + onset, start + offset) for onset, offset in clock.intervals(token))
    return tuple(stretches.get(position, ()) for position in range(batch.n_positions))
