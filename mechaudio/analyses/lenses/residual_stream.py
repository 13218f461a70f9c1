"""The residual stream of a prompt, before the first layer and after every one, at chosen positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, select
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run


@dataclass(frozen=True, eq=False)
class ResidualStream:
    """The residual stream of one batch.

    Attributes:
        depths: What enters the first layer, then what leaves each layer, `[depth, batch, position, d_model]`.
        positions: Position in the padded prompt; rows with fewer repeat their last one.
        real: Where a position is not such a repetition.
    """

    depths: tuple[Float[Tensor, "batch position d_model"], ...]
    positions: Int[Tensor, "batch position"]
    real: Bool[Tensor, "batch position"]


def depth_names(model: AudioLM) -> tuple[str, ...]:
    """`embed` for what enters the first layer, then the number of each layer for what leaves it."""
    return ("embed", *(str(layer) for layer in range(model.n_layers)))


def residual_stream(model: AudioLM, batch: PromptBatch, positions: Where | None) -> ResidualStream:
    """Run a batch and keep its residual stream at some positions; only these are kept, in any layer.

    Positions are chosen as interventions choose them; `None` is every position but padding.

    Raises:
        ValueError: A prompt without any such position.
    """
    chosen = positions_of(batch, positions)
    longest = max(len(own) for own in chosen)
    filled = [[*own, *[own[-1]] * (longest - len(own))] for own in chosen]
    points = [
        HookPoint("resid_pre", layers=[0], positions=filled),
        HookPoint("resid_post", positions=filled),
    ]
    cache = run(model, batch, record=points, logits=None).cache
    device = cache["resid_post", model.n_layers - 1].device
    depths = [cache["resid_pre", 0], *(cache["resid_post", layer] for layer in range(model.n_layers))]
    lengths = torch.tensor([len(own) for own in chosen])
    return ResidualStream(
        depths=tuple(depth.to(device) for depth in depths),
        positions=torch.tensor(filled),
        real=torch.arange(longest) < lengths[:, None],
    )


def positions_of(batch: PromptBatch, positions: Where | None) -> Sequence[Sequence[int]]:
    """Per prompt, the chosen positions; every position but padding for `None`.

    Raises:
        ValueError: A prompt without any such position.
    """
    if positions is None:
        mask = batch.inputs.get("attention_mask", torch.ones_like(batch.inputs["input_ids"]))
        return [torch.nonzero(row).flatten().tolist() for row in mask]
    chosen = select(batch, positions)
    empty = [row for row, own in enumerate(chosen) if not own]
    if empty:
        raise ValueError(f"positions={positions!r} names no position of rows {empty} of this batch: choose others")
    return chosen
