"""How tokens are chosen while generating: always the likeliest, so that the same prompt gives the same text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from mechaudio.models.hearing import past_prompt
from mechaudio.models.network import Network

#: Generation settings that would change which token is the likeliest, draw it, make several continuations of a prompt,
#: cut it into parts, run it anew for every token (without the edits of the prompt), compile the network (without any)
#: or keep keys and values in another shape or precision; and what switches them off.
_PLAIN = {
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "min_p": None,
    "typical_p": None,
    "repetition_penalty": 1.0,
    "penalty_alpha": None,
    "dola_layers": None,
    "guidance_scale": None,
    "prompt_lookup_num_tokens": None,
    "prefill_chunk_size": None,
    "disable_compile": True,
    "use_cache": True,
    "cache_implementation": "dynamic",
}


def greedy(network: Network) -> dict[str, Any]:
    """Options that make `generate` take the likeliest token, whatever the checkpoint's own generation settings are."""
    settings = getattr(network, "generation_config", None)
    switched_off = {name: off for name, off in _PLAIN.items() if getattr(settings, name, None) is not None}
    return {"do_sample": False, "num_beams": 1, **switched_off}


def sound_with_the_prompt(features: str) -> Callable[[Any], Any]:
    """Make an edit of the network's arguments that gives it sound with the prompt alone.

    A network that is given the features at every new token as well would put the whole clip where it writes the
    placeholder of audio: that token is text, as in every class whose features end with the prompt.
    """

    def edit(served: Any) -> Any:
        positional, arguments = served
        if arguments.get(features) is None or not past_prompt(arguments):
            return served
        return positional, {**arguments, features: None}

    return edit


#: Stands for a token where there is none, as logits are NaN or overflow.
NO_TOKEN = -1


class Unclear(LogitsProcessor):
    """A note of the new token from which on logits do not tell a row's likeliest (as `metrics.choices.likeliest`).

    transformers would write the token that a NaN stands at.

    Args:
        ends: Ids of the tokens that end an answer: what follows them is not looked at.
    """

    def __init__(self, ends: int | Sequence[int]):
        self._ends = torch.tensor([ends] if isinstance(ends, int) else list(ends))
        self._n_before, self._first = 0, torch.empty(0)

    def __call__(
        self, input_ids: Int[Tensor, "row position"], scores: Float[Tensor, "row vocab"]
    ) -> Float[Tensor, "row vocab"]:
        """Look at the logits of one step, and end the rows that they tell nothing of."""
        if not len(self._first):
            self._n_before = input_ids.shape[1]
            self._first = torch.full(scores.shape[:1], torch.inf, device=scores.device)
            self._ends = self._ends.to(scores.device)
        written, highest = input_ids[:, self._n_before :], scores.amax(-1, keepdim=True)
        several = ((scores == highest).sum(-1) > 1) & highest[:, 0].isposinf()
        unclear = (highest.isnan() | highest.isneginf())[:, 0] | several
        ended = torch.isin(written, self._ends.to(written)).any(-1).to(unclear.device)
        self._first = torch.where(unclear & ~ended, self._first.clamp(max=written.shape[1]), self._first)
        if not len(self._ends) or not unclear.any():
            return scores
        is_end = torch.arange(scores.shape[1], device=scores.device) == self._ends[0]
        return torch.where(unclear[:, None], torch.where(is_end, 0.0, -torch.inf), scores)

    def mark(self, tokens: Int[Tensor, "row new_token"]) -> Int[Tensor, "row new_token"]:
        """Put `NO_TOKEN` in the place of tokens that were written behind logits that tell none."""
        if not self._first.isfinite().any():
            return tokens
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        return tokens.masked_fill(steps >= self._first.to(tokens.device)[:, None], NO_TOKEN)


def new_tokens(generated: Any, n_positions: int) -> Int[Tensor, "batch new_token"]:
    """The tokens that `generate` put behind prompts of so many positions, out of what it returned."""
    sequences = generated if isinstance(generated, Tensor) else generated.sequences
    return sequences[:, n_positions:]


def end_tokens(network: Network) -> list[int]:
    """Ids of the tokens that end an answer."""
    ends = network.generation_config.eos_token_id
    if ends is None:
        return []
    return [ends] if isinstance(ends, int) else list(ends)


def padding_token(network: Network) -> int:
    """Id of the token behind the end of an answer, as `generate` chooses it; 0 where answers have no end."""
    padding = network.generation_config.pad_token_id
    return [*end_tokens(network), 0][0] if padding is None else padding
