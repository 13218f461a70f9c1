"""Clips as a model hears them: how much of one, at the least how much, and when each audio token is.

Conventions: mono samples at the adapter's sampling rate; seconds in messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mechaudio.arguments import n_of
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.clock import ScatteredClock, TokenClock
from mechaudio.models.adapter import Adapter, TokenTiming

if TYPE_CHECKING:
    from mechaudio.models.chat import Sound


def longest_clip(processor: Any, adapter: Adapter) -> int | None:
    """Samples that the model hears of a clip, `None` where it hears all."""
    if adapter.timing.long_clips == "refused":
        return adapter.timing.window
    if adapter.timing.long_clips == "cut":
        return getattr(processor.feature_extractor, "n_samples", adapter.timing.window)
    seconds = getattr(processor, "max_audio_len", None)
    return None if seconds is None else int(seconds * adapter.sampling_rate)


def tokens_of_features(adapter: Adapter, features: Tensor, mask: Tensor | None) -> int:
    """Audio tokens that the tower makes from features, `[window, ...]`."""
    if mask is not None and adapter.mask_counts == "tokens":
        return int(mask.sum())
    return sum(map(adapter.timing.tokens_of_frames, frames_counted(adapter, features, mask)))


def frames_counted(adapter: Adapter, features: Tensor, mask: Tensor | None) -> list[int]:
    """Count the frames of each window, by a mask of frames or of samples; all that there are without one."""
    if mask is None:
        return [features.shape[adapter.frames_axis]] * len(features)
    if adapter.mask_counts == "samples":
        return [-(-int(samples) // adapter.timing.hop) for samples in mask.tolist()]
    return [int(frames) for frames in mask.sum(-1).tolist()]


def shortest_clip(adapter: Adapter) -> int:
    """Samples that a clip must have to give one audio token."""
    timing = adapter.timing
    if timing.shortest is not None:
        return timing.shortest
    if timing.pads_to_window or timing.pads_to:
        return 1
    return (next(frames for frames in count(1) if timing.tokens_of_frames(frames)) - 1) * timing.hop + 1


def audio_tower(network: nn.Module, adapter: Adapter) -> nn.Module:
    """The module that holds the encoder's layers."""
    return network.get_submodule(adapter.encoder.layers.rpartition(".")[0])


def bands_of(network: nn.Module, adapter: Adapter) -> int:
    """Return how many numbers a frame of a network's features has."""
    if adapter.bands is None:
        return 1
    bands = getattr(adapter.encoder.own_config(network.config), adapter.bands)
    return bands if isinstance(bands, int) else bands[0]


def by_frame(adapter: Adapter, features: Shaped[Tensor, "window ..."]) -> Shaped[Tensor, "window frame band"]:
    """Return features with the numbers of each frame along the last axis."""
    frames_first = features.movedim(adapter.frames_axis, 1)
    return frames_first.reshape(*frames_first.shape[:2], -1)


def samples_of(
    clip: AudioClip, owner: str, processor: Any, adapter: Adapter, *, allow_cut: bool
) -> tuple[Float[np.ndarray, " samples"], float]:
    """A clip as the processor takes it, and the seconds of it that the model will not hear.

    Args:
        clip: The clip.
        owner: What messages call the question that it belongs to.
        processor: The family's processor.
        adapter: The facts about the family.
        allow_cut: Take the beginning of a clip that is longer than the model hears.

    Raises:
        ValueError: The clip is longer than the model hears and `allow_cut` is off; or it is so short that the processor
            fails.
    """
    samples = clip.mono(adapter.sampling_rate)
    if len(samples) < (adapter.timing.shortest or 0):
        raise too_short(owner, len(samples), adapter)
    kept = longest_clip(processor, adapter)
    if kept is None or len(samples) <= kept:
        return samples, 0.0
    lost = (len(samples) - kept) / adapter.sampling_rate
    if not allow_cut:
        raise ValueError(
            f"{owner}: its clip lasts {len(samples) / adapter.sampling_rate:.1f} s and "
            f"{adapter.network_class} hears {kept / adapter.sampling_rate:.1f} s: the last {lost:.1f} s would be lost. "
            "Cut the clip yourself (AudioClip.cut), or pass allow_cut=True to drop the end"
        )
    return samples[:kept], lost


def too_short(owner: str, n_samples: int, adapter: Adapter) -> ValueError:
    """Make the error for a clip that gives no audio token."""
    rate = adapter.sampling_rate
    return ValueError(
        f"{owner}: its clip of {n_samples / rate:.3f} s ({n_of(n_samples, 'sample')}) gives no audio token; "
        f"{adapter.network_class} needs at least {shortest_clip(adapter) / rate:.3f} s"
    )


def token_clock(
    timing: TokenTiming, n_tokens: int, sampling_rate: int, merging: Float[Tensor, "token window"] | None = None
) -> TokenClock:
    """When each of `n_tokens` audio tokens is. It runs past the end of a clip whose padding becomes tokens.

    Args:
        timing: How tokens fall in time.
        n_tokens: How many there are.
        sampling_rate: Samples a second.
        merging: Which windows each token is made of, where tokens are merged.
    """
    if timing.timeless is not None:
        return ScatteredClock.timeless(n_tokens, sampling_rate, why=timing.timeless)
    windows = None if merging is None else [row.nonzero()[:, 0].tolist() for row in merging[:n_tokens]]
    if windows is None or windows == [[number] for number in range(n_tokens)]:
        return TokenClock.from_chunks(n_tokens, timing.samples, timing.tokens, sampling_rate)
    why = "tokens of a long clip are merged"
    return ScatteredClock.from_windows(windows, timing.samples, sampling_rate, why=why)


def tokens_that_hear(
    adapter: Adapter, positions: Sequence[int], seconds: float | None, merging: Float[Tensor, "token window"] | None
) -> tuple[tuple[int, ...], tuple[int, ...], TokenClock]:
    """Find which audio tokens hear a clip, which hear what it was filled up with, and when the former are.

    Only where clips are filled up to a window whose filling becomes tokens are there others. Tokens that are made from
    a stretch together hear all of it. Tokens without a time of their own hear the clip.

    Args:
        adapter: The facts about the class.
        positions: Positions of all its audio tokens.
        seconds: Length of the clip, `None` where it is not known: then all are taken to hear it.
        merging: Which windows each token is made of, where tokens are merged.
    """
    timing, rate = adapter.timing, adapter.sampling_rate
    clock = token_clock(timing, len(positions), rate, merging)
    if seconds is None or timing.timeless is not None or not timing.pads_to_window:
        return tuple(positions), (), clock
    if clock.contiguous:
        begins = [token // timing.tokens * timing.samples for token in range(clock.n_tokens)]
    else:
        begins = [round(min(clock.intervals(token))[0] * rate) for token in range(clock.n_tokens)]
    end = round(seconds * rate)
    kept = [token for token, begin in enumerate(begins) if begin < end]
    filled = [position for position, begin in zip(positions, begins, strict=True) if begin >= end]
    audible = clock.of(kept) if isinstance(clock, ScatteredClock) else clock.first(len(kept))
    return tuple(positions[token] for token in kept), tuple(filled), audible


def audio_spans(
    adapter: Adapter, sounds: Sequence[Sound], seconds: Sequence[float], positions: Sequence[int]
) -> tuple[dict[str, tuple[int, ...]], tuple[TokenClock, ...]]:
    """Find which of a prompt's audio tokens hear its clips, and when, and which hear what those were filled up with.

    Args:
        adapter: The facts about the class.
        sounds: The clips, in order.
        seconds: Their lengths.
        positions: Positions of all their audio tokens.
    """
    clips, clocks, padding, first = list[tuple[int, ...]](), list[TokenClock](), list[int](), 0
    for sound, length in zip(sounds, seconds, strict=True):
        of_clip, first = positions[first : first + sound.n_tokens], first + sound.n_tokens
        merging = None if adapter.merging is None else sound.features.get(adapter.merging)
        hearing, filled, clock = tokens_that_hear(adapter, of_clip, length, None if merging is None else merging[0])
        clips.append(hearing)
        clocks.append(clock)
        padding += filled
    spans = {"audio": tuple(position for clip in clips for position in clip), "audio_padding": tuple(padding)}
    if len(clips) > 1:
        spans |= {f"audio.{number}": clip for number, clip in enumerate(clips)}
    return spans, tuple(clocks)


def by_name(rows: Sequence[Mapping[str, tuple[int, ...]]]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Put the spans of prompts together: by name, the positions in each; none where a prompt has no such span."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: tuple(row.get(name, ()) for row in rows) for name in names}
