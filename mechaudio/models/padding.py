"""Prompts of several lengths: their token ids as one tensor, and their positions without the padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mechaudio.models.keywords import inputs_of
from mechaudio.models.network import Network


def left_padded(rows: Sequence[Sequence[int]], padding: bool | str, pad: int) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask`, shorter prompts filled up on the left.

    Raises:
        ValueError: They have several lengths and are not to be padded.
    """
    width = max(map(len, rows))
    if not padding and any(len(row) < width for row in rows):
        raise ValueError("prompts of different lengths: pass padding=True")
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def padding_id(tokenizer: Any, audio_token: int) -> int:
    """Return an id for masked positions: any would do but the audio placeholder, which networks count there too.

    Raises:
        ValueError: The tokenizer has none.
    """
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None and token != audio_token:
            return token
    raise ValueError(
        f"the tokenizer {type(tokenizer).__name__} has neither a padding nor an end token (the audio placeholder does "
        "not count): set tokenizer.pad_token"
    )


def with_positions(network: Network, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs of padded prompts with `position_ids` that leave out padding, as generation counts them.

    Transformers' `generate` counts so in every class whose forward takes `position_ids`, and a forward pass that is not
    given them counts padding: rotated queries and keys of a padded prompt would be others on the two ways, and others
    than those of the prompt alone. What has no padding stays as it is; so do networks that work out positions of
    several axes from the mask themselves, and those that take none.
    """
    mask = inputs.get("attention_mask")
    counts_itself = hasattr(network, "get_rope_index") or "position_ids" not in inputs_of(network)
    if mask is None or counts_itself or inputs.get("position_ids") is not None or bool(mask.all()):
        return dict(inputs)
    return {**inputs, "position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)}
