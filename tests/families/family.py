"""What a family's file says: one small network and one processor of the real transformers classes.

Conventions: windows of `WINDOW_SECONDS` where the class lets them shrink, 128 mel bands, 16 kHz. Networks have `layers`
decoder layers of 4 heads (2 key-value heads), d_model 64, 2 encoder layers of 4 heads, and weights spread widely, so
that attention is far from uniform and an edit moves the logits clearly. A network and the processor of its family agree
on every token id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, ProcessorMixin, WhisperFeatureExtractor

WINDOW_SECONDS = 4
D_MODEL, HEADS, KEY_VALUE_HEADS, ENCODER_LAYERS, ENCODER_WIDTH = 64, 4, 2, 2, 32
SPREAD = 0.2


def unchecked_parts() -> AbstractContextManager[object]:
    """Let a processor be built of other parts than its class asks for, such as no image processor.

    No image ever reaches it, and an image processor would need torchvision.
    """
    return mock.patch.object(ProcessorMixin, "check_argument_for_proper_class")


#: The one setting of an image processor that Qwen-Omni's processors of transformers 5.20 read where there is no image.
NO_IMAGES = SimpleNamespace(merge_size=1)


@dataclass(frozen=True)
class Family:
    """One transformers class, small.

    Attributes:
        name: Its `model_type`.
        network_class: Its name in transformers.
        control: Control tokens and their ids.
        audio: The control token that stands for one audio token.
        vocab_size: Number of token ids.
        config: Decoder layers -> the network's config.
        processor: The family's real processor class, built offline.
        tokens: Audio tokens that a clip of so many samples makes, by the processor's published rule.
        clip_features: Seconds and seed -> random features of one clip, as the network takes them.
        pad: The padding token.
        end: The token that ends an answer.
        layers: Decoder layers of the network.
        train: Gives weights that every new network has alike the values of trained ones, where it matters.
        rate: Samples a second that the processor expects.
        always: Inputs beside audio and text that make the network give the same numbers every time.
        clips: Seconds of the clips in a batch; equal where plain transformers lets padding change what is heard.
        token_seconds: Seconds of sound per audio token, `None` where they have no time of their own.
        frame_seconds: Seconds of a frame in the first layer of the audio tower.
        together: Seconds that several audio tokens hear together, where they do; a clip's last such stretch is filled
            up.
        shortest: Samples of the shortest clip that its processor takes and that makes a token.
        filled_up: Samples that shorter clips are filled up to with silence.
        window: Samples that the processor cuts a clip to or splits it into.
        last: Samples of a clip -> seconds that its audio tokens hear at most, where they do not hear all of a window.
        takes_questions: Whether questions can be written out for it.
    """

    name: str
    network_class: str
    control: Mapping[str, int]
    audio: str
    vocab_size: int
    config: Callable[[int], PreTrainedConfig]
    processor: Callable[[], ProcessorMixin]
    tokens: Callable[[int], int]
    clip_features: Callable[[float, int], dict[str, Tensor]]
    pad: str = "<|endoftext|>"
    end: str = "<|im_end|>"
    layers: int = 3
    train: Callable[[nn.Module], None] = lambda _network: None
    rate: int = 16_000
    always: Mapping[str, Any] = field(default_factory=dict)
    clips: tuple[float, ...] = (3.2, 1.6)
    token_seconds: float | None = 0.04
    frame_seconds: float = 0.02
    together: float | None = None
    shortest: int = 321
    filled_up: int = 0
    window: int = 16_000 * WINDOW_SECONDS
    last: Callable[[int], float] = lambda _samples: math.inf
    takes_questions: bool = True


def text_config(
    control: Mapping[str, int], vocab_size: int, layers: int, pad: str = "<|endoftext|>", end: str = "<|im_end|>"
) -> dict[str, Any]:
    """The settings that every decoder here has."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": D_MODEL,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": D_MODEL // HEADS,
        "max_position_embeddings": 2048,
        "initializer_range": SPREAD,
        "tie_word_embeddings": False,
        "pad_token_id": control[pad],
        "bos_token_id": None,
        "eos_token_id": control[end],
    }


#: A Whisper-like encoder as the Qwen classes spell it, and as the others do.
ENCODER = {
    "d_model": ENCODER_WIDTH,
    "encoder_layers": ENCODER_LAYERS,
    "encoder_attention_heads": HEADS,
    "encoder_ffn_dim": 4 * ENCODER_WIDTH,
    "num_mel_bins": 128,
    "max_source_positions": 50 * WINDOW_SECONDS,
    "initializer_range": SPREAD,
}
RENAMED_ENCODER = {
    "hidden_size": ENCODER_WIDTH,
    "num_hidden_layers": ENCODER_LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * ENCODER_WIDTH,
    "num_mel_bins": 128,
    "max_source_positions": 50 * WINDOW_SECONDS,
    "initializer_range": SPREAD,
}


def whisper_extractor() -> WhisperFeatureExtractor:
    """A Whisper feature extractor with the small window."""
    return WhisperFeatureExtractor(feature_size=128, chunk_length=WINDOW_SECONDS, return_attention_mask=True)


def whisper_features(mask: str | None) -> Callable[[float, int], dict[str, Tensor]]:
    """Features of one window of a Whisper feature extractor, and the mask of real frames under the family's name."""

    def features(seconds: float, seed: int) -> dict[str, Tensor]:
        window = 100 * WINDOW_SECONDS
        values = torch.randn(1, 128, window, generator=torch.Generator().manual_seed(seed))
        if mask is None:
            return {"input_features": values}
        return {
            "input_features": values,
            mask: (torch.arange(window) < min(round(100 * seconds), window)).long()[None],
        }

    return features


def whisper_tokens(samples: int) -> int:
    """Two frames of 10 ms make one position, two positions one audio token."""
    frames = -(-samples // 160)
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1
