"""Log-probabilities of whole texts behind prompts, with the model given each word before the next (teacher forcing).

A text of `n` tokens takes `n` passes, of prompts extended by none of them up to all but the last; each gives the
log-probability of the token that comes next. Positions of the prompts stay what they are, and so do interventions on
them; what names no positions acts on the words, too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import part_of
from mechaudio.models.targets import extended, filled_tokens, forced
from mechaudio.tracing.choice_logits import ChoiceColumns

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
    letters = None if all(aim is not None and aim.whole for aim in batch.aims) else measure(batch)
    target, foil = (_log_probability(batch, text, measure) for text in (0, 1))
    assert target is not None, "some row has a target"
    return _compared(batch, target, foil, letters, torch.nan)


def with_texts(adapter: Adapter, batch: PromptBatch) -> PromptBatch:
    """Put all words of their targets behind prompts; and once more, where some have foils, those of their foils.

    One pass of these gives what `whole_logits` takes a pass per token for, as no position sees the ones behind it.
    """
    lengths = [_lengths(batch, text) for text in (0, 1)]
    texts = [text for text in (0, 1) if lengths[text].any()]
    longest = int(torch.stack(lengths).max())
    repeated = part_of(adapter, batch, [*range(batch.n_rows)] * len(texts))
    # nothing is read behind a text's last token
    return extended(repeated, torch.cat([filled_tokens(batch, text, longest)[:, :-1] for text in texts]))


def logits_of_texts(
    batch: PromptBatch, logits: Float[Tensor, "row word vocab"], *, lacking: float
) -> Float[Tensor, "question choice"]:
    """Compute `whole_logits` from one pass of `with_texts`; gradients go through.

    Args:
        batch: The prompts themselves.
        logits: At the prompts' ends, and behind each of their words.
        lacking: Stands where a question has fewer choices.
    """
    sums = []
    n_words = logits.shape[1]
    for text, text_logits in enumerate(logits.split(batch.n_rows)):
        ids = filled_tokens(batch, text, n_words).to(logits.device)
        log_probabilities = text_logits.gather(-1, ids[..., None])[..., 0] - text_logits.logsumexp(-1)
        behind = torch.arange(n_words) >= _lengths(batch, text)[:, None]
        sums.append(log_probabilities.masked_fill(behind.to(logits.device), 0.0).sum(-1))
    size = max(map(len, batch.choice_ids))
    letters = ChoiceColumns(batch, size, logits.device).of(logits[: batch.n_rows, 0], lacking)
    return _compared(batch, sums[0], sums[1] if len(sums) > 1 else None, letters, lacking)


def _compared(
    batch: PromptBatch,
    target: Float[Tensor, "*variant question"],
    foil: Float[Tensor, "*variant question"] | None,
    letters: Float[Tensor, "*variant question choice"] | None,
    lacking: float,
) -> Float[Tensor, "*variant question choice"]:
    """Stack targets and what they are held against; of rows without a whole target, letters or first tokens."""
    other = torch.log(-torch.expm1(target.clamp(max=-torch.finfo(target.dtype).tiny)))
    if foil is not None:
        has_foil = torch.tensor([aim is not None and aim.foil is not None for aim in batch.aims])
        other = torch.where(has_foil.to(foil.device), foil, other)
    logits = torch.stack([target, other], dim=-1)
    if letters is None:
        return logits
    whole = torch.tensor([aim is not None and aim.whole for aim in batch.aims]).to(logits.device)
    logits = torch.nn.functional.pad(logits, (0, letters.shape[-1] - 2), value=lacking)
    return torch.where(whole[:, None], logits, letters.to(logits.dtype))


def _lengths(batch: PromptBatch, text: int) -> Int[Tensor, " question"]:
    """Count the tokens of targets (0) or foils (1) that count as a whole; 0 where a row has none."""
    return torch.tensor([len((aim.target_ids, aim.foil_ids)[text]) if aim and aim.whole else 0 for aim in batch.aims])


def _log_probability(batch: PromptBatch, text: int, measure: Measure) -> Float[Tensor, "*variant question"] | None:
    """Sum the log-probability of all targets (0) or foils (1); 0 where a row has none, `None` if no row has."""
    lengths = _lengths(batch, text)
    total = None
    for n in range(int(lengths.max())):
        logits = measure(forced(batch, text, n)).double()
        log_probability = torch.nn.functional.logsigmoid(logits[..., 0] - logits[..., 1])
        counted = torch.where(lengths > n, log_probability, 0.0)
        total = counted if total is None else total + counted
    return total
