"""Refuses processors that do not belong to a network: their settings say what the network contradicts.

A processor of another checkpoint, or one whose settings were changed, makes features that the tower takes for another
sound: the answers look like those of a model that hears badly.

Conventions: `hop_length` and `n_samples` are samples at the adapter's rate; `feature_size` are numbers in a frame.
"""

from __future__ import annotations

import inspect
from typing import Any

from mechaudio.models.adapter import Adapter
from mechaudio.models.clips import bands_of
from mechaudio.models.hearing import audio_token_id
from mechaudio.models.network import Network
from mechaudio.notices import warn

#: Settings of feature extractors that change every feature; a class has its own values, which towers were trained on.
_TRAINED_ON = (
    "n_fft", "win_length", "padding_value", "preemphasis", "preemphasis_htk_flavor", "fft_overdrive", "mel_floor",
    "min_frequency", "max_frequency", "mel_min_frequency", "mel_max_frequency", "input_scale_factor",
)  # fmt: skip


def refuse_foreign_processor(processor: Any, network: Network, adapter: Adapter) -> None:
    """Refuse a processor whose settings are not those that a network's audio tower takes.

    Raises:
        ValueError: The processor and the network name two placeholders for audio; or the feature extractor has another
            rate, number of bands, hop or window than the tower, fills up clips in front, or adds noise at random
            (`dither`). The message names each.
    """
    extractor, timing = extractor_of(processor), adapter.timing
    bands, rate = bands_of(network, adapter), adapter.sampling_rate
    positions = getattr(adapter.encoder.own_config(network.config), "max_source_positions", None)
    window = timing.window if positions is None else 2 * positions * timing.hop

    wrong = list[str]()
    given = getattr(extractor, "sampling_rate", rate)
    if given != rate:
        wrong.append(f"sampling_rate={given!r}, and the tower hears {rate} samples a second")
    given = getattr(extractor, "feature_size", bands)
    if not given or bands % given:  # some put several frames together
        wrong.append(f"feature_size={given!r}, and the tower takes {bands} numbers in a frame")
    given = getattr(extractor, "hop_length", timing.hop)
    if given != timing.hop:
        wrong.append(f"hop_length={given!r}, and the tower takes a frame every {timing.hop} samples")
    given = getattr(extractor, "n_samples", None)
    if given and window and adapter.encoder.layout == "batch" and (given > window or (positions and given < window)):
        wrong.append(f"n_samples={given!r}, and the tower hears windows of {window} samples ({window / rate:g} s)")
    elif given and type(given) is not int:
        wrong.append(f"n_samples={given!r}, and a window is a whole number of samples")
    elif given and not positions and adapter.encoder.layout == "batch" and given % timing.samples:
        wrong.append(
            f"n_samples={given!r}, and a window is filled up to whole audio tokens of {timing.samples} samples"
        )
    given = getattr(extractor, "padding_side", "right")
    if given != "right":
        wrong.append(f"padding_side={given!r}, and the tower takes what fills up a clip behind it")
    if given := getattr(extractor, "dither", 0):
        wrong.append(
            f"dither={given!r}, which adds noise at random: the same call twice gives two answers. Set it to 0"
        )
    placeholder, token = audio_token_id(network.config, adapter), getattr(processor, "audio_token", None)
    number = getattr(getattr(processor, "tokenizer", None), "convert_tokens_to_ids", None)
    if token and number and number(token) != placeholder:
        wrong.append(
            f"audio_token={token!r}, which is token {number(token)}, and the placeholder in the network's config "
            f"(audio_token_id) is {placeholder}"
        )
    if wrong:
        raise ValueError(
            f"this {type(processor).__name__} does not belong to this {type(network).__name__}, which would take its "
            f"features for another sound. It has {'; '.join(wrong)}. Give the processor that was saved with the network"
        )


def warn_of_changed_features(processor: Any) -> None:
    """Name settings of a feature extractor that are not those of its class: of them a network knows nothing."""
    extractor = extractor_of(processor)
    usual = inspect.signature(type(extractor)).parameters
    changed = [
        f"{name}={getattr(extractor, name)!r} ({usual[name].default!r})"
        for name in _TRAINED_ON
        if name in usual and getattr(extractor, name, usual[name].default) != usual[name].default
    ]
    if changed:
        warn(
            f"the feature extractor of this {type(processor).__name__} has other settings than a "
            f"{type(extractor).__name__} has (in brackets): {', '.join(changed)}. Features are others than those that "
            "its towers are trained on, unless this one was trained on these"
        )


def extractor_of(processor: Any) -> Any:
    """The part of a processor that makes features of sound, None where it has none."""
    return getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
