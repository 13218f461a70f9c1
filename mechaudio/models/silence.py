"""Silence in the place of clips: zeros of the same length, and as many audio tokens."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor

from mechaudio.arguments import n_of
from mechaudio.models.adapter import Adapter, OpenedModel
from mechaudio.models.batch import PromptBatch
from mechaudio.models.chat import Sound, encode_alone
from mechaudio.models.clips import audio_spans, by_name
from mechaudio.models.features import refuse_changed_torch, stack_features
from mechaudio.models.hearing import audio_token_id
from mechaudio.models.inputs import merged, place

#: How many lengths of silence are kept for each processor.
_KEPT = 4
_known: WeakKeyDictionary[Any, OrderedDict[int, Sound]] = WeakKeyDictionary()


def silence(model: OpenedModel, n_samples: int) -> Sound:
    """Return the processor's features of so many zeros; it is asked once for a length.

    Args:
        model: An opened model with a processor.
        n_samples: Length at the adapter's rate.
    """
    kept = _known.setdefault(model.processor, OrderedDict())
    if n_samples not in kept:
        refuse_changed_torch()  # they are kept
        zeros = np.zeros(n_samples, dtype=np.float32)
        kept[n_samples] = encode_alone(model.processor, model.adapter, zeros)
        if len(kept) > _KEPT:
            kept.popitem(last=False)
    kept.move_to_end(n_samples)
    return kept[n_samples]


def silenced(model: OpenedModel, batch: PromptBatch) -> PromptBatch:
    """Put zeros of the same lengths in the place of the prompts' clips, which are not read again.

    It is what `prompt(model, batch.questions, condition="silence")` makes.

    Raises:
        ValueError: Prompts of another condition, or a class that makes tokens by content.
    """
    if batch.condition != "audio":
        raise ValueError(f"silence takes the place of the clips of condition 'audio', got {batch.condition!r}")
    adapter = model.adapter
    audio_token = audio_token_id(model.network.config, adapter)
    sounds, spans, clocks = list[Sound](), list[dict[str, tuple[int, ...]]](), []
    for row, (question, given) in enumerate(zip(batch.questions, batch.given, strict=True)):
        lengths = [round(length * adapter.sampling_rate) for length in given]
        silences = [silence(model, length) for length in lengths]
        n_tokens = int((batch.inputs["input_ids"][row] == audio_token).sum())
        n_silent = sum(sound.n_tokens for sound in silences)
        _refuse_another_count(adapter, f"question {question.id!r}", n_tokens, n_silent)
        silences = [replace(sound, features=merged(model, sound.features)) for sound in silences]
        sounds += silences
        positions, timed = audio_spans(adapter, silences, given, batch.audio_positions[row])
        spans.append(positions)
        clocks.append(timed)
    placed = place(model.network, adapter, stack_features(adapter, [sound.features for sound in sounds]))
    return replace(
        batch,
        inputs=batch.inputs | placed,
        spans={**batch.spans, **by_name(spans)},
        clocks=tuple(clocks),
        condition="silence",
    )


def silent_features(model: OpenedModel, owner: str, n_samples: int, n_tokens: int) -> dict[str, Tensor]:
    """Features of zeros in a clip's place. That as many tokens come out is counted, not assumed."""
    silent = silence(model, n_samples)
    _refuse_another_count(model.adapter, owner, n_tokens, silent.n_tokens)
    return silent.features


def _refuse_another_count(adapter: Adapter, owner: str, n_tokens: int, n_silent: int) -> None:
    if n_silent != n_tokens:
        raise ValueError(
            f"{owner}: the clip gives {n_of(n_tokens, 'audio token')}, silence of the same length {n_silent}: the "
            f"processor of {adapter.network_class} makes tokens by content, and positions could not be compared"
        )
