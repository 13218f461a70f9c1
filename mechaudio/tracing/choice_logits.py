"""Logits of the choices' letters, out of those of the whole vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch


def choice_logits(batch: PromptBatch, logits: Float[Tensor, "batch vocab"]) -> Float[np.ndarray, "batch choice"]:
    """Logits of the choices' letters; NaN where a question has fewer choices."""
    size = max(map(len, batch.choice_ids))
    return choices_reader(batch, size, logits.device)(logits).double().numpy()


def choices_reader(batch: PromptBatch, size: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Gives of logits over the vocabulary those of each question's choices; all of them, where there are no questions.

    What it needs is on the device before the model runs, so that nothing waits for a GPU before all is under way.
    """
    ids = torch.tensor([[*own, *[0] * (size - len(own))] for own in batch.choice_ids]).to(device)
    given = torch.tensor([[column < len(own) for column in range(size)] for own in batch.choice_ids]).to(device)

    def of_choices(logits: Float[Tensor, "batch *variant vocab"]) -> Tensor:
        if not size:
            return logits
        shape = (len(ids), *[1] * (logits.ndim - 2), size)
        chosen = logits.gather(-1, ids.view(shape).to(logits.device).expand(*logits.shape[:-1], size)).cpu()
        exact = chosen.float() if chosen.dtype.itemsize < 4 else chosen
        return exact.masked_fill(~given.view(shape).cpu(), torch.nan)

    return of_choices
