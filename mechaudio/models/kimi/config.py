"""Sizes and ids of Kimi-Audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig, Qwen2Config, WhisperConfig


class SpeechTokenizerConfig(WhisperConfig):
    """Config of GLM-4-voice's speech tokenizer: Whisper's, and what comes of its frames.

    Attributes:
        quantize_position: Layers; codes are made of the last one's output.
        quantize_vocab_size: Codes that there are.
        quantize_causal_block_size: Frames that see one another; of the others, frames see those before them.
        pooling_kernel_size: Frames that a code is made of.
    """

    model_type = "whisper_vq"

    def __init__(
        self,
        *args: Any,
        quantize_position: int = 16,
        quantize_vocab_size: int = 16_384,
        quantize_causal_block_size: int = 200,
        pooling_kernel_size: int = 4,
        **kwargs: Any,
    ):
        self.quantize_position, self.quantize_vocab_size = quantize_position, quantize_vocab_size
        self.quantize_causal_block_size, self.pooling_kernel_size = quantize_causal_block_size, pooling_kernel_size
        super().__init__(*args, **kwargs)


class KimiAudioConfig(PreTrainedConfig):
    """Kimi-Audio's config.

    Attributes:
        text_config: The Qwen2 decoder's config, whose vocabulary holds the codes.
        audio_config: The Whisper encoder's.
        codes_config: The speech tokenizer's.
        audio_token_id: Id of the placeholder for one audio token, which stands for its code and its sound.
        text_blank_id: What a stream says while only the other one speaks.
        audio_stream_ids: Control tokens that stand in the stream of audio.
        codes_offset: Id of the first code.
        mimo_layers: Layers of the branch that speaks, none where it was left out.
        mimo_from: The decoder layer, from 0, whose output the branch takes.
    """

    model_type = "kimi_audio"
    sub_configs = {  # noqa: RUF012 - as transformers declares it
        "text_config": Qwen2Config,
        "audio_config": WhisperConfig,
        "codes_config": SpeechTokenizerConfig,
    }

    def __init__(
        self,
        text_config: Any = None,
        audio_config: Any = None,
        codes_config: Any = None,
        audio_token_id: int = 168_448,
        text_blank_id: int = 151_666,
        audio_stream_ids: Sequence[int] = (151_645, 151_661, 151_663, 151_670, 151_671, 151_675, 151_676),
        codes_offset: int = 152_064,
        mimo_layers: int = 0,
        mimo_from: int = 21,
        **kwargs: Any,
    ):
        given = {"text_config": text_config, "audio_config": audio_config, "codes_config": codes_config}
        for name, value in given.items():
            made = value if isinstance(value, PreTrainedConfig) else self.sub_configs[name](**(value or {}))
            setattr(self, name, made)
        self.audio_token_id, self.text_blank_id = audio_token_id, text_blank_id
        self.audio_stream_ids, self.codes_offset = list(audio_stream_ids), codes_offset
        self.mimo_layers, self.mimo_from = mimo_layers, mimo_from
        super().__init__(**kwargs)
