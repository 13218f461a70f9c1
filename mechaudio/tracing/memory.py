"""How much memory there is, and about how much a position takes."""

from __future__ import annotations

from typing import Any

import torch

from mechaudio.tracing.audio_lm import AudioLM

MOST_OF_CHUNK = {"cuda": 4e9, "cpu": 2e8}
"""Bytes of variants that run together, however large the memory: more of them at once run no faster."""


def memory_of(model: AudioLM, given: int | float | None = None) -> float:
    """Bytes that may be used beside the weights: those that the user gives, or half of what is free.

    Raises:
        ValueError: None, or fewer.
    """
    if given is not None:
        if not given > 0:
            raise ValueError(f"memory= is a number of bytes, such as 2e9, got {given}")
        return float(given)
    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0] / 2
    return 2e9


def bytes_per_position(model: AudioLM) -> int:
    """About what the keys and values of one position take in all layers of the decoder."""
    d_head = _width(model, "head_dim", model.d_model // model.n_heads)
    return 2 * model.n_layers * model.n_key_value_heads * d_head * model.network.dtype.itemsize


def widest_bytes(model: AudioLM) -> int:
    """About what one position takes where a layer is widest, in its MLP."""
    wide = 8 * model.d_model + 3 * _width(model, "intermediate_size", 4 * model.d_model)
    return wide * model.network.dtype.itemsize


def weights_bytes(model: AudioLM, n_keys: int) -> int:
    """About what attention of one position of a variant takes in one layer where a change of scores is measured.

    Products, scores, and these before and after the change are there at once, and in single precision both as patterns
    and as shares that are added up.
    """
    item = model.network.dtype.itemsize
    return model.n_heads * n_keys * (7 * item + 4 * 4)


def chunk_bytes(model: AudioLM, budget: float) -> float:
    """Bytes for variants that run together: half of the budget, and no more than makes them faster."""
    return min(budget / 2, MOST_OF_CHUNK["cuda" if model.device.type == "cuda" else "cpu"])


def _width(model: AudioLM, name: str, otherwise: int) -> int:
    """Read a width from the decoder's config; of a list of all layers the largest."""
    given: Any = vars(model.adapter.decoder.own_config(model.network.config)).get(name)
    if isinstance(given, (list, tuple)):
        return max(given)
    return given or otherwise
