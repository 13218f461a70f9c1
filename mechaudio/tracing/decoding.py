"""How tokens are chosen while generating: always the likeliest, so that the same prompt gives the same text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Int
from torch import Tensor

from mechaudio.models.hearing import past_prompt
from mechaudio.models.network import Network

#: Generation settings that would change which token is the likeliest, draw it, make several continuations of a prompt,
#: cut it into parts, run it anew for every token (without the edits of the prompt) or compile the network (without
#: any); and what switches them off.
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

    Args:
        features: Name of the argument that holds the audio features.
    """

    def edit(served: Any) -> Any:
        positional, arguments = served
        if arguments.get(features) is None or not past_prompt(arguments):
            return served
        return positional, {**arguments, features: None}

    return edit


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
