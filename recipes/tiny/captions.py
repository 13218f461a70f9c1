"""Captions of a batch of scenes as tokens.

`hum from 0.5 to 4.0 , siren from 3.5 to 9.0 .` Times are told to the half second, as by
`mechaudio.audio.soundscape.describe`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mechaudio.models.tiny.language import FIRST_CLASS, FIRST_TIME, MAX_SECONDS, PAD, VOCABULARY
from recipes.tiny.scenes import MAX_EVENTS, Scenes


def half_seconds(time: Tensor) -> Tensor:
    """The nearest half second, as captions give it, counted in half seconds."""
    return (2 * time + 0.5).floor().long()


def time_token(time: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The token of a time in seconds, to the half second."""
    return FIRST_TIME + half_seconds(time).clamp(0, 2 * MAX_SECONDS)


def caption_tokens(scenes: Scenes, generator: torch.Generator, *, complete: bool) -> Int[Tensor, "batch 36"]:
    """Six tokens per event in onset order; unless `complete`, three captions in ten leave out some of the events."""
    batch, device = scenes.onset.shape[0], scenes.onset.device
    keep = scenes.present.clone()
    if not complete:
        careless = torch.rand(batch, 1, generator=generator, device=device) < 0.3
        keep &= ~((torch.rand(batch, MAX_EVENTS, generator=generator, device=device) < 0.3) & careless)
        keep[:, 0] = True
    order = scenes.onset.masked_fill(~keep, 99.0).argsort(1)
    keep = keep.gather(1, order)
    more = pad(keep[:, 1:], (0, 1), value=False)
    onset, offset = (time_token(time.gather(1, order)) for time in (scenes.onset, scenes.offset))
    begin, until = (torch.full_like(order, VOCABULARY[word]) for word in ("from", "to"))
    stop = torch.where(more, VOCABULARY[","], VOCABULARY["."])
    words = [FIRST_CLASS + scenes.labels.gather(1, order), begin, onset, until, offset, stop]
    return torch.stack(words, -1).masked_fill(~keep[..., None], PAD).flatten(1)
