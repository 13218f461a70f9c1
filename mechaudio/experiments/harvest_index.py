"""Which positions of a batch a harvest keeps, and what each of them is.

Conventions: rows are prompts of a batch, positions count from 0 in the padded prompt here, and without padding in what
is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mechaudio.analyses.audio_attention import ROLES
from mechaudio.experiments.harvested import INDEX
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Positions, select
from mechaudio.tracing.hook_points import HookPoint

_SOMETIMES = ("transcript", "caption", "keyword", "history", "choices", "audio_padding")
"""Spans that the questions of one batch may have, and those of another not."""
_COLUMNS = {
    "question": torch.int64, "position": torch.int32, "token": torch.int64, "role": torch.uint8, "clip": torch.int16,
    "seconds": torch.float64,
}  # fmt: skip


def real_positions(batch: PromptBatch) -> Tensor:
    """Mark the positions that are no padding, on the CPU."""
    ids = batch.inputs["input_ids"]
    return batch.inputs.get("attention_mask", torch.ones_like(ids)).bool().cpu()


def chosen_positions(batch: PromptBatch, positions: str | list[int] | None) -> Positions:
    """Per prompt, the positions to keep, in order; in a batch where no question has a span, none.

    Raises:
        KeyError: No such span.
        IndexError: A position in front of a prompt.
    """
    real = real_positions(batch)
    if positions is None:
        return tuple(tuple(row.nonzero().flatten().tolist()) for row in real)
    if isinstance(positions, str):
        parts = [part.strip() for part in positions.split("+")]
        there = [part for part in parts if part in batch.spans or part not in _SOMETIMES]
        return select(batch, "+".join(there)) if there else ((),) * batch.n_rows
    for question, length in zip(batch.questions, real.sum(1).tolist(), strict=True):
        if -min(positions) > length:
            raise IndexError(
                f"position {min(positions)} is in front of the prompt of question {question.id!r}, which has {length}"
            )
    return select(batch, positions)


def at_positions(points: Sequence[HookPoint], chosen: Positions, batch: PromptBatch) -> list[HookPoint]:
    """The hook points at what is kept of them; shorter prompts name their last one again, or the end of the prompt."""
    longest = max(1, *map(len, chosen))
    filled = [[*own, *([own[-1] if own else batch.n_positions - 1] * (longest - len(own)))] for own in chosen]
    return [point if point.point == "mass" else replace(point, positions=filled) for point in points]


def index_of(batch: PromptBatch, chosen: Positions, numbers: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Describe each entry in tensors; and the text of each token id."""
    entries = []
    lengths, ids = real_positions(batch).sum(1).tolist(), batch.inputs["input_ids"].tolist()
    texts: dict[str, str] = {}
    for row, own in enumerate(chosen):
        role = {
            p: number for number, name in enumerate(ROLES, 1) for p in batch.spans.get(name, ((),) * len(chosen))[row]
        }
        audio_positions = iter(batch.spans["audio"][row])
        timed = {
            next(audio_positions): (
                clip,
                stretches[0][0] if stretches else torch.nan,
                stretches[-1][1] if stretches else torch.nan,
            )
            for clip, clock in enumerate(batch.clocks[row])
            for stretches in map(clock.intervals, range(clock.n_tokens))
        }
        labels = batch.tokens(row)
        for position in own:
            clip, onset, offset = timed.get(position, (-1, torch.nan, torch.nan))
            token = ids[row][position]
            without_padding = position - (batch.n_positions - lengths[row])
            entries.append((numbers[row], without_padding, token, role.get(position, 0), clip, (onset, offset)))
            texts.setdefault(str(token), "♪" if token == batch.audio_token else labels[position])
    columns = zip(*entries, strict=True) if entries else [()] * len(_COLUMNS)
    index = {
        INDEX + name: torch.tensor(column, dtype=dtype)
        for (name, dtype), column in zip(_COLUMNS.items(), columns, strict=True)
    }
    index[INDEX + "seconds"] = index[INDEX + "seconds"].reshape(-1, 2)
    return index, texts
