"""Log-probabilities of whole texts behind prompts, with the model given each word before the next (teacher forcing).

A text of `n` tokens takes `n` passes, of prompts extended by none of them up to all but the last; each gives the
log-probability of the token that comes next. Positions of the prompts stay what they are, and so do interventions on
them; what names no positions acts on the words, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.models.targets import forced
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import run

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

#: Gives of prompts the logits of what their rows choose among.
Measure = Callable[[PromptBatch], Tensor]


def is_whole(batch: PromptBatch) -> bool:
    """Return whether all tokens of some target count."""
    return any(aim is not None and aim.whole for aim in batch.aims)


def whole_logits(batch: PromptBatch, measure: Measure) -> Float[Tensor, "*variant question choice"]:
    """The summed log-probabilities of target and foil; without a foil, of the target and of all other texts.

    Of rows of which the first tokens count, or letters, their logits.

    Args:
        batch: Prompts with whole targets.
        measure: How logits are read, `[..., question, choice]`.
    """
    lacking = [row for row, aim in enumerate(batch.aims) if aim is None or not aim.whole]
    letters = measure(batch) if lacking else None
    target, foil = (_log_probability(batch, text, measure) for text in (0, 1))
    assert target is not None, "some row has a target"
    other = torch.log(-torch.expm1(target.clamp(max=-torch.finfo(target.dtype).tiny)))
    if foil is not None:
        has_foil = torch.tensor([aim is not None and aim.foil is not None for aim in batch.aims])
        other = torch.where(has_foil, foil, other)
    logits = torch.stack([target, other], dim=-1)
    if letters is not None:
        missing = letters.shape[-1] - 2
        logits = torch.nn.functional.pad(logits, (0, missing), value=torch.nan)
        logits[..., lacking, :] = letters[..., lacking, :].to(logits.dtype)
    return logits


def _log_probability(batch: PromptBatch, text: int, measure: Measure) -> Float[Tensor, "*variant question"] | None:
    """Sum the log-probability of all targets (0) or foils (1); 0 where a row has none, `None` if no row has."""
    lengths = torch.tensor(
        [len((aim.target_ids, aim.foil_ids)[text]) if aim and aim.whole else 0 for aim in batch.aims]
    )
    total = None
    for n in range(int(lengths.max())):
        logits = measure(forced(batch, text, n)).double()
        log_probability = torch.nn.functional.logsigmoid(logits[..., 0] - logits[..., 1])
        counted = torch.where(lengths > n, log_probability, 0.0)
        total = counted if total is None else total + counted
    return total


def measured_logits(
    model: AudioLM, batch: PromptBatch, interventions: Sequence[Intervention] = ()
) -> Float[np.ndarray, "question choice"]:
    """Run the rows by themselves for what they choose among: letters, first tokens, or whole texts."""

    def measure(prompts: PromptBatch) -> Tensor:
        logits = run(model, prompts, interventions=interventions, logits="last").logits[:, -1]
        return torch.from_numpy(choice_logits(prompts, logits))

    return (whole_logits(batch, measure) if is_whole(batch) else measure(batch)).numpy()
