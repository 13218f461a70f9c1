"""Keywords that are passed on to transformers: those that are honoured, and a refusal of all others.

The classes of transformers take any keyword and drop what they do not know, so that a misspelt one changes nothing,
without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mechaudio.arguments import check
from mechaudio.models.keywords import inputs_of, refuse_unknown

#: Keywords of `generate` under which a prompt still has one continuation, made of the likeliest tokens.
_GENERATING = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_config",
    "cache_implementation",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "logits_processor",
    "max_time",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "pad_token_id",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "sequence_bias",
    "stop_strings",
    "stopping_criteria",
    "streamer",
    "suppress_tokens",
    "tokenizer",
)
#: What a traced generation can return beside the tokens.
_RETURNING = ("output_logits", "output_scores", "return_dict_in_generate")
#: Keywords of a forward pass that all classes take.
_FORWARD = ("output_hidden_states", "return_dict")
#: Kinds of the values of keywords that fail late, or in silence, with another.
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("use_cache", *_FORWARD, *_RETURNING), bool),
    "cache_config": Mapping,
    "cache_implementation": str,
    "labels": Tensor,
    "min_new_tokens": int,
    "min_length": int,
    "repetition_penalty": float,
    "stop_strings": str | list[str],
}
#: Keywords that would do something else than they say here, and what to do instead.
_INSTEAD = {
    "cache": "positions are counted from the beginning of a prompt: give the whole prompt",
    "max_length": "give max_new_tokens=",
    "num_beams": "a prompt has one continuation here, so that rows of the batch are prompts at every step",
    "num_return_sequences": "a prompt has one continuation here, so that rows of the batch are prompts at every step",
    "output_attentions": "fused attention has no weights to return: ask for the hook point 'pattern'",
    "past_key_values": "positions are counted from the beginning of a prompt: give the whole prompt",
    "prefill_chunk_size": "hook points are of whole prompts",
}
#: The same for generation alone.
_NOT_GENERATING = {
    "use_cache": "without a cache the prompt would run anew for every token, and edits of it would be lost"
}
#: Keywords that ask for what is done in any case.
_AS_USUAL = (("num_beams", 1), ("num_return_sequences", 1), ("use_cache", True))
_DRAWN = ("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")


def refuse_generating(call: str, options: Mapping[str, Any], *, returning: bool = False) -> None:
    """Refuse keywords of `generate` that it would drop, or under which generation is no longer greedy.

    Args:
        call: What the message calls this.
        options: The keywords.
        returning: Whether what `generate` returns beside tokens can be had.

    Raises:
        ValueError: Tokens would be drawn, a prompt would have several continuations, or run in parts.
        TypeError: A keyword that `generate` does not know, or a value of another kind.
    """
    for option, value in options.items():
        if option in _DRAWN and not value:
            continue
        if option in _DRAWN:
            raise ValueError(
                f"{option}={value!r}: {call} takes the likeliest token, so that the same prompt gives the same text; "
                "leave it out"
            )
        if (option, value) in _AS_USUAL:
            continue
        instead = _INSTEAD | _NOT_GENERATING
        if option in instead:
            raise ValueError(f"{option}={value!r}: {instead[option]}; leave it out")
        refuse_unknown(call, option, ("max_new_tokens", *_GENERATING, *(_RETURNING if returning else ())))
        _refuse_another_kind(option, value)
    _refuse_cache(options.get("cache_implementation"), options.get("cache_config"))


def _refuse_cache(kind: str | None, settings: Any) -> None:
    """Refuse kinds of the cache of keys and values that write no tokens, or cannot be had here."""
    if kind == "paged":
        raise ValueError(
            "cache_implementation='paged' runs the network in a thread of its own, out of reach of hook points and "
            "edits: leave it out"
        )
    if kind is not None and kind.startswith("offloaded") and not torch.accelerator.is_available():
        raise ValueError(
            f"cache_implementation={kind!r} moves keys and values off an accelerator, and there is none here: leave it "
            "out"
        )
    if settings is not None and kind != "quantized":
        raise ValueError(
            f"cache_config={settings!r} is read with cache_implementation='quantized' alone, got {kind!r}: leave it "
            "out, or give both"
        )


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `generate` without those that ask for what is done in any case, such as `do_sample=False`."""
    usual = {name for name, value in options.items() if name in _DRAWN or (name, value) in _AS_USUAL}
    return {name: value for name, value in options.items() if name not in usual}


def refuse_forward(call: str, network: nn.Module, options: Mapping[str, Any], given: Iterable[str]) -> None:
    """Refuse keywords of a network's forward pass that it would drop, or that the prompts bring themselves.

    Raises:
        ValueError: A keyword that would do something else than it says.
        TypeError: A keyword that the class does not know, a value of another kind, or an input that the prompts have.
    """
    for option, value in options.items():
        if option in given:
            raise TypeError(f"{call} takes {option!r} from the prompts: put it into the dict of inputs")
        if option in _INSTEAD:
            raise ValueError(f"{option}={value!r}: {_INSTEAD[option]}; leave it out")
        refuse_unknown(call, option, ("max_new_tokens", *_FORWARD, *inputs_of(network)))
        _refuse_another_kind(option, value)


def _refuse_another_kind(option: str, value: Any) -> None:
    if value is not None and option in _KINDS:
        check(option, value, _KINDS[option])
