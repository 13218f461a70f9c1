"""Token ids of several prompts as one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def left_padded(rows: Sequence[Sequence[int]], padding: bool | str, pad: int) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask`, shorter prompts filled up on the left.

    Args:
        rows: The ids of each prompt.
        padding: False where they must have one length.
        pad: The id that fills up.

    Raises:
        ValueError: They have several lengths and are not to be padded.
    """
    width = max(map(len, rows))
    if not padding and any(len(row) < width for row in rows):
        raise ValueError("prompts of different lengths: pass padding=True")
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
