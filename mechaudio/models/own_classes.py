"""Code that the classes of mechaudio's own share: SALMONN, TimeAudio, DeSTA2.5-Audio and Kimi-Audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from mechaudio.models.network import Network


class SoundWithThePrompt:
    """Generation whose first step alone is given sound; stands in front of transformers' `GenerationMixin`."""

    audio_inputs: ClassVar[tuple[str, ...]]

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the inputs of one step: sound comes with the prompt alone."""
        audio = {name: kwargs.pop(name) for name in self.audio_inputs if name in kwargs}
        prepare: Any = super()
        inputs = prepare.prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        return inputs | audio if is_first_iteration else inputs


class WordsOfDecoder:
    """Embeddings and unembedding that are the decoder's own; stands in front of transformers' `PreTrainedModel`."""

    @property
    def decoder(self) -> Network:
        """The language model."""
        raise NotImplementedError

    def get_input_embeddings(self) -> Network:
        """Return the embeddings of text."""
        return self.decoder.get_input_embeddings()

    def set_input_embeddings(self, value: Network) -> None:
        """Replace the embeddings of text."""
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> Network:
        """Return the unembedding."""
        return self.decoder.get_output_embeddings()

    def set_output_embeddings(self, value: Network) -> None:
        """Replace the unembedding."""
        self.decoder.set_output_embeddings(value)


def refuse_another_count(n_tokens: int, audio: Bool[Tensor, "batch position"]) -> None:
    """Refuse clips that make another number of audio tokens than prompts have placeholders.

    Raises:
        ValueError: They do.
    """
    if n_tokens != int(audio.sum()):
        raise ValueError(f"the clips make {n_tokens} audio tokens, input_ids have {int(audio.sum())}")


def with_sound(
    embedded: Float[Tensor, "batch position d_model"],
    audio: Bool[Tensor, "batch position"],
    tokens: Float[Tensor, "token d_model"],
) -> Float[Tensor, "batch position d_model"]:
    """Put audio tokens in the place of their placeholders.

    Args:
        embedded: Embeddings of the prompts.
        audio: Where the placeholders are.
        tokens: Audio tokens of all clips behind one another.

    Raises:
        ValueError: Another number of audio tokens than of placeholders.
    """
    refuse_another_count(len(tokens), audio)
    return embedded.masked_scatter(audio[..., None], tokens.to(embedded.dtype))


def clips_given(audio: Any, rate: int, return_tensors: str, options: Mapping[str, Any]) -> list[Any]:
    """List the clips that a processor was given.

    Args:
        audio: One clip as an array, several, or None.
        rate: The sampling rate that the model hears at.
        return_tensors: `pt`.
        options: What else was given; `sampling_rate` is that of the clips.

    Raises:
        ValueError: Another sampling rate, or another kind of tensors.
    """
    given = options.get("sampling_rate", rate)
    if given != rate or return_tensors != "pt":
        raise ValueError(f"clips are at {rate} Hz and tensors PyTorch's, got {given} Hz and {return_tensors!r}")
    return [] if audio is None else [audio] if isinstance(audio, np.ndarray) and audio.ndim == 1 else list(audio)
