"""Sizes of DeSTA2.5-Audio."""

from __future__ import annotations

from typing import Any

from transformers import BertConfig, LlamaConfig, PreTrainedConfig, WhisperConfig


class DestaConfig(PreTrainedConfig):
    """DeSTA2.5-Audio's config.

    Attributes:
        text_config: The Llama decoder's config.
        audio_config: Whisper's, which is a whole recogniser: its encoder hears, all of it transcribes.
        qformer_config: The Q-Former's.
        audio_token_id: Id of the placeholder for one audio token, a reserved token of Llama's.
        taps: Layers of Whisper's encoder whose outputs the Q-Former reads, from 0; by default four, evenly spaced, the
            last among them.
        n_queries: Audio tokens of every clip.
        recognition: Whisper's settings of generation, `None` for those of its config.
    """

    model_type = "desta25"
    sub_configs = {  # noqa: RUF012 - as transformers declares it
        "text_config": LlamaConfig,
        "audio_config": WhisperConfig,
        "qformer_config": BertConfig,
    }

    def __init__(
        self,
        text_config: Any = None,
        audio_config: Any = None,
        qformer_config: Any = None,
        audio_token_id: int = 128_095,
        taps: Any = None,
        n_queries: int = 64,
        recognition: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        given = {"text_config": text_config, "audio_config": audio_config, "qformer_config": qformer_config}
        for name, value in given.items():
            made = value if isinstance(value, PreTrainedConfig) else self.sub_configs[name](**(value or {}))
            setattr(self, name, made)
        depth = self.audio_config.encoder_layers
        self.taps = evenly(depth, 4) if taps is None else list(taps)
        if not self.taps or any(not 0 <= tap < depth for tap in self.taps):
            raise ValueError(f"taps are layers of Whisper's encoder, 0 to {depth - 1}, got {self.taps}")
        self.audio_token_id, self.n_queries, self.recognition = audio_token_id, n_queries, recognition
        # Of the network's own ties, which are Whisper's: Llama's config says whether its embeddings are tied.
        kwargs.setdefault("tie_word_embeddings", True)
        super().__init__(**kwargs)

    def n_audio_tokens(self, frames: int) -> int:  # noqa: ARG002 - clips of all lengths make as many
        """Return how many audio tokens a clip of so many frames makes."""
        return self.n_queries


def evenly(depth: int, count: int) -> list[int]:
    """Return so many layers of a stack, evenly spaced, the last among them."""
    return [(number + 1) * depth // count - 1 for number in range(count)]
