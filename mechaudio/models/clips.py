"""What a model hears of a clip: how much of it, at the least how much, and when each audio token is.

Conventions: mono samples at the adapter's sampling rate; seconds in messages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechaudio.audio.clock import TokenClock
from mechaudio.models.adapter import Adapter, TokenTiming
from mechaudio.question import AudioQuestion

#: Samples from one mel frame to the next, in every Whisper-like feature extractor.
HOP = 160


def longest_clip(processor: Any, adapter: Adapter) -> int | None:
    """Samples that the processor keeps of a clip, `None` where it keeps all."""
    if adapter.timing.long_clips == "cut":
        return processor.feature_extractor.n_samples
    seconds = getattr(processor, "max_audio_len", None)
    return None if seconds is None else int(seconds * adapter.sampling_rate)


def tokens_of_features(
    network: nn.Module, adapter: Adapter, features: Float[Tensor, "window mel frame"], mask: Tensor | None
) -> int:
    """Audio tokens that the network makes from features, by its own rule."""
    if mask is None:
        return features.shape[0] * (features.shape[-1] * HOP * adapter.timing.tokens // adapter.timing.samples)
    return int(audio_tower(network, adapter)._get_feat_extract_output_lengths(mask.sum(-1).cpu().long())[1].sum())


def shortest_clip(network: nn.Module, adapter: Adapter) -> int:
    """Samples that a clip must have to give one audio token."""
    if adapter.timing.pads_to_window:
        return 1
    lengths = audio_tower(network, adapter)._get_feat_extract_output_lengths
    frames = torch.arange(1, 1000)
    return (int(frames[lengths(frames)[1] >= 1][0]) - 1) * HOP + 1


def audio_tower(network: nn.Module, adapter: Adapter) -> nn.Module:
    """The module that holds the encoder's layers."""
    return network.get_submodule(adapter.encoder.layers.rpartition(".")[0])


def samples_of(
    question: AudioQuestion, processor: Any, adapter: Adapter, *, allow_cut: bool
) -> tuple[Float[np.ndarray, " samples"], float]:
    """A question's clip as the processor takes it, and the seconds of it that the model will not hear.

    Raises:
        ValueError: The question has no audio; or the clip is longer than the model hears and `allow_cut` is off.
    """
    if question.audio is None:
        raise ValueError(
            f"question {question.id!r} has no audio: a prompt without audio is condition='caption'. Give the question "
            "a clip, or ask it so"
        )
    samples = question.clip().mono(adapter.sampling_rate)
    kept = longest_clip(processor, adapter)
    if kept is None or len(samples) <= kept:
        return samples, 0.0
    lost = (len(samples) - kept) / adapter.sampling_rate
    if not allow_cut:
        raise ValueError(
            f"question {question.id!r}: its clip lasts {len(samples) / adapter.sampling_rate:.1f} s and "
            f"{adapter.network_class} hears {kept / adapter.sampling_rate:.1f} s: the last {lost:.1f} s would be lost. "
            "Cut the clip yourself (AudioClip.cut), or pass allow_cut=True to drop the end"
        )
    return samples[:kept], lost


def token_clock(timing: TokenTiming, n_tokens: int, sampling_rate: int) -> TokenClock:
    """When each of `n_tokens` audio tokens is. It runs past the end of a clip whose padding becomes tokens."""
    return TokenClock.from_chunks(n_tokens, timing.samples, timing.tokens, sampling_rate)
