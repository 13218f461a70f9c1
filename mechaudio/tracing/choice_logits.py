"""Logits of the choices' letters, out of those of the whole vocabulary."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.run import answers_in


def choice_logits(batch: PromptBatch, logits: Float[Tensor, "batch vocab"]) -> Float[np.ndarray, "batch choice"]:
    """Logits of the choices' letters; NaN where a question has fewer choices."""
    own = [answer.choice_logits for answer in answers_in(batch, logits)]
    wide = np.full((len(own), max(map(len, own))), np.nan)
    for row, values in enumerate(own):
        wide[row, : len(values)] = values
    return wide
