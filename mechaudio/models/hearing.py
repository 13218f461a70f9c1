"""Audio is never lost silently: inputs whose placeholders and features do not belong together are refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from mechaudio.arguments import n_of
from mechaudio.models.adapter import Adapter
from mechaudio.models.keywords import cache_name


def audio_token_id(config: Any, adapter: Adapter) -> int:
    """The id of the placeholder that stands for one audio token: a network's config has it, or its tower's config.

    Raises:
        ValueError: Neither has it, or it is no token of the decoder's vocabulary; in classes of this package it may lie
            behind that.
    """
    holder = config if hasattr(config, "audio_token_id") else adapter.encoder.own_config(config)
    placeholder, n_tokens = getattr(holder, "audio_token_id", None), adapter.decoder.own_config(config).vocab_size
    if type(placeholder) is not int or placeholder < 0 or (placeholder >= n_tokens and adapter.network is None):
        raise ValueError(
            f"the config of this {adapter.network_class} gives audio_token_id={placeholder!r}, and the placeholder for "
            f"an audio token is one of its {n_tokens} token ids, 0 to {n_tokens - 1}: without it nothing is heard. "
            "Take config.json from the checkpoint; older ones call it audio_token_index"
        )
    return placeholder


def refuse_deaf_call(args: tuple, inputs: Mapping[str, Any], *, adapter: Adapter, config: Any) -> None:
    """Check what a network is about to receive.

    Args:
        args: Positional arguments of the network's forward, of which the first is its `input_ids`.
        inputs: Keyword arguments of the network's forward.
        adapter: The facts about its class.
        config: The network's config.

    Raises:
        ValueError: Audio placeholders without audio features, which the network would read as ordinary tokens; or audio
            features without a placeholder to put them in.
    """
    ids, features = args[0] if args else inputs.get("input_ids"), inputs.get(adapter.features)
    if not isinstance(ids, torch.Tensor) or past_prompt(inputs):
        return
    placeholder = audio_token_id(config, adapter)
    placeholders = int((ids == placeholder).sum())
    if placeholders and features is None:
        raise ValueError(
            f"the prompt has {n_of(placeholders, 'audio placeholder')} but no {adapter.features!r}: "
            f"{adapter.network_class} would read them as ordinary tokens and hear nothing. Pass the features along "
            "(ma.prompt does), or ask without audio (condition='caption')"
        )
    if features is not None and not placeholders:
        raise ValueError(
            f"{adapter.features!r} were given, but no audio placeholder (id {placeholder}) is in input_ids: the audio "
            "would be ignored. Put the placeholders in, or leave the features out"
        )


def guesses(trained: Collection[str], choices: Iterable[str]) -> tuple[str, ...]:
    """The choices that a model was not trained to tell by ear, in order, each once; numbers and times aside.

    Args:
        trained: Those that it was trained on; of a model that says nothing of them, none.
        choices: Choices of questions about a sound.
    """
    known = {choice.casefold() for choice in trained}
    others = dict.fromkeys(choice for choice in choices if known and choice.casefold().strip(" .") not in known)
    return tuple(choice for choice in others if not any(letter.isdigit() for letter in choice))


def past_prompt(inputs: Mapping[str, Any]) -> bool:
    """Return whether this is a later step of a generation, whose audio is in the key-value cache."""
    name = cache_name(inputs)
    return name is not None and bool(inputs[name].get_seq_length() > 0)  # a static cache counts in a tensor
