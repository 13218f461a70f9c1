"""Readings of every depth of one batch at its chosen positions; `logit_lens` puts batches together.

Conventions: ranks count from 0, among the whole vocabulary; probabilities are over the whole vocabulary; nats; seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechaudio.analyses.audio_attention import roles_of
from mechaudio.analyses.lenses.residual_stream import ResidualStream
from mechaudio.analyses.lenses.tuned_lens import TunedLens
from mechaudio.models.batch import PromptBatch
from mechaudio.models.targets import OTHERS
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import ChoiceColumns
from mechaudio.tracing.unembedding import read_out

#: Logits that are held at once, of one depth and of the last.
AT_ONCE = 2**24
#: What `read` gives as arrays.
ARRAYS = (
    "positions", "onset", "offset", "top_ids", "top_probability", "choice_logits", "choice_probability", "choice_rank",
    "right", "token_logits", "token_probability", "token_rank", "entropy", "kl",
)  # fmt: skip
#: What it gives as lists, with an entry for each question.
LISTS = ("labels", "roles", "letters", "right_letters", "ids", "texts")


def read(
    model: AudioLM, batch: PromptBatch, stream: ResidualStream, tokens: list[int], top: int, lens: TunedLens | None
) -> dict:
    """One batch: positions in turns, and for each the depths in turns."""
    n_rows, n_positions = stream.positions.shape
    n_choices = max((len(own) for own in batch.choice_ids), default=0)
    columns = ChoiceColumns(batch, n_choices, stream.depths[-1].device) if n_choices else None
    at_once = max(1, AT_ONCE // (n_rows * batch.vocabulary))
    parts = (slice(start, start + at_once) for start in range(0, n_positions, at_once))
    chunks = [
        [_numbers(final, logits, columns, tokens, top) for final, logits in _depths(model, stream, part, lens)]
        for part in parts
    ]
    numbers = {
        name: np.concatenate([np.stack([depth[name] for depth in chunk], axis=1) for chunk in chunks], axis=2)
        for name in chunks[0][0]
    }  # [question, depth, position, ...]
    real = stream.real.numpy()
    given = np.array([len(own) for own in batch.choice_ids] or [0] * n_rows)
    is_choice = np.arange(n_choices) < given[:, None]
    is_rest = [[ids[column : column + 1] == (OTHERS,) for column in range(n_choices)] for ids in batch.choice_ids]
    out: dict = {"positions": np.where(real, stream.positions.numpy(), -1)}
    for name, values in numbers.items():
        fill = -1 if values.dtype.kind == "i" else np.nan
        kept = np.where(real[:, None, :].reshape(n_rows, 1, n_positions, *[1] * (values.ndim - 3)), values, fill)
        if name in ("logits", "probability", "rank"):
            shown = is_choice & ~np.array(is_rest) if name == "rank" and n_choices else is_choice
            out[f"choice_{name}"] = np.where(shown[:, None, None], kept[..., :n_choices], fill)
            out[f"token_{name}"] = kept[..., n_choices:]
        else:
            out[name] = kept
    return out | _places(batch, out["positions"])


def _depths(
    model: AudioLM, stream: ResidualStream, part: slice, lens: TunedLens | None
) -> Iterator[tuple[Float[Tensor, "batch position vocab"], Float[Tensor, "batch position vocab"]]]:
    """Per depth, log-probabilities at the last depth and logits at this one."""
    with torch.no_grad():
        last = read_out(model, stream.depths[-1][:, part])
        final = last.float().log_softmax(-1)
        for depth, states in enumerate(stream.depths[:-1]):
            chunk = states[:, part]
            yield final, read_out(model, chunk if lens is None else lens.translate(depth, chunk))
        yield final, last


def _numbers(
    final: Float[Tensor, "batch position vocab"],
    logits: Float[Tensor, "batch position vocab"],
    columns: ChoiceColumns | None,
    tokens: list[int],
    top: int,
) -> dict[str, np.ndarray]:
    logits = logits.float()
    log_probability = logits.log_softmax(-1)
    wanted, wanted_log_probability = (
        torch.cat([*([columns.of(values, torch.nan)] if columns else []), values[..., tokens]], dim=-1)
        for values in (logits, log_probability)
    )
    best = log_probability.topk(min(top, logits.shape[-1]), dim=-1)
    above = [(logits > wanted[..., [column]]).sum(-1) for column in range(wanted.shape[-1])]
    numbers = {
        "logits": wanted,
        "probability": wanted_log_probability.exp(),
        "rank": torch.stack(above, dim=-1) if above else wanted.long(),
        "top_ids": best.indices,
        "top_probability": best.values.exp(),
        "entropy": -(log_probability.exp() * log_probability).nan_to_num(0.0).sum(-1),
        "kl": (final.exp() * (final - log_probability)).nan_to_num(0.0).sum(-1),
    }
    return {name: value.cpu().numpy() for name, value in numbers.items()}


def _places(batch: PromptBatch, positions: Int[np.ndarray, "question position"]) -> dict:
    """Describe the chosen positions."""
    roles = roles_of(batch)
    onset, offset = np.full(positions.shape, np.nan), np.full(positions.shape, np.nan)
    labels, names = [], []
    for row, chosen in enumerate(positions):
        tokens = batch.tokens(row)
        of_position = {position: role for role in roles for position in batch.spans[role][row]}
        shown = [int(position) for position in chosen if position >= 0]
        labels.append(tuple(tokens[position] for position in shown))
        names.append(tuple(of_position.get(position, "") for position in shown))
        clock = batch.clock[row]
        token_at = {position: token for token, position in enumerate(batch.spans["audio"][row])}
        for place, position in enumerate(shown):
            stretches = clock.intervals(token_at[position]) if clock is not None and position in token_at else ()
            if len(stretches) == 1:
                onset[row, place], offset[row, place] = stretches[0]
    questions = batch.questions
    n_rows = len(positions)
    return {
        "onset": onset,
        "offset": offset,
        "labels": labels,
        "roles": names,
        "right": np.array(
            [-1 if one.answer not in one.choices else one.choices.index(one.answer) for one in questions]
            or [-1] * n_rows
        ),
        "letters": list(batch.choice_names) or [()] * n_rows,
        "right_letters": [
            tuple(name for name, choice in zip(names, question.choices, strict=True) if choice == question.answer)
            for names, question in zip(batch.choice_names, questions, strict=True)
        ]
        or [()] * n_rows,
        "ids": [question.id for question in questions] or [str(row) for row in range(n_rows)],
        "texts": [question.text for question in questions] or [""] * n_rows,
    }
