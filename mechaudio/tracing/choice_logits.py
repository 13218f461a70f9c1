"""Logits of the choices' letters, or of target and foil, out of those of the whole vocabulary."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.models.targets import OTHERS


def choice_logits(batch: PromptBatch, logits: Float[Tensor, "batch vocab"]) -> Float[np.ndarray, "batch choice"]:
    """Logits of what each row chooses among; NaN where a question has fewer choices."""
    columns = ChoiceColumns(batch, max(map(len, batch.choice_ids)), logits.device)
    return columns.of(logits, lacking=torch.nan).double().cpu().numpy()


class ChoiceColumns:
    """The columns of the vocabulary that rows choose among.

    The logit of everything but the target is the logarithm of the sum of their exponentials: softmax over both is the
    target's probability in the whole vocabulary.

    Args:
        batch: The prompts.
        size: How many columns to give, at least as many as any row has.
        device: Where logits will be.
    """

    def __init__(self, batch: PromptBatch, size: int, device: torch.device):
        ids = torch.tensor([[*row, *[0] * (size - len(row))] for row in batch.choice_ids], dtype=torch.long)
        given = [[column < len(row) for column in range(size)] for row in batch.choice_ids]
        self._given = torch.tensor(given, dtype=torch.bool).to(device)
        self._alone = ids.eq(OTHERS).any(-1)
        self._others = ids.eq(OTHERS).to(device)
        self._ids = ids.clamp(min=0).to(device)
        self._some_alone = bool(self._alone.any())

    def of(
        self, logits: Float[Tensor, "batch *variant vocab"], lacking: float
    ) -> Float[Tensor, "batch *variant choice"]:
        """Their logits, in single precision or wider, where the logits are; gradients go through."""
        shape = (len(self._ids), *[1] * (logits.ndim - 2), self._ids.shape[1])
        ids, given, others = (each.to(logits.device).view(shape) for each in (self._ids, self._given, self._others))
        chosen = logits.gather(-1, ids.expand(*logits.shape[:-1], -1))
        chosen = chosen.float() if chosen.dtype.itemsize < 4 else chosen
        if self._some_alone:
            rest = logits[self._alone].to(chosen.dtype)
            target = ids[self._alone][..., :1].expand(*rest.shape[:-1], 1)
            sums = chosen.new_zeros(chosen.shape[:-1])
            sums[self._alone] = rest.scatter(-1, target, -torch.inf).logsumexp(-1)
            chosen = torch.where(others, sums[..., None], chosen)
        return chosen.masked_fill(~given, lacking)
