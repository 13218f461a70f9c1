"""Code that the classes of mechaudio's own share: SALMONN, TimeAudio, DeSTA2.5-Audio and Kimi-Audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from mechaudio.arguments import n_of
from mechaudio.models.network import Network
from mechaudio.models.padding import left_padded


class SoundWithThePrompt:
    """Generation whose sound comes with the prompt; stands in front of transformers' `GenerationMixin`."""

    audio_inputs: ClassVar[tuple[str, ...]]
    config: Any

    def tokens_of(self, **audio: Tensor) -> list[int]:
        """Return how many audio tokens each clip, or window of a clip, makes, from the audio inputs."""
        raise NotImplementedError

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,  # named, so that transformers generates from embeddings too
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the inputs of one step: sound comes with the prompt, so with every step where nothing is cached."""
        audio = {name: kwargs.pop(name) for name in self.audio_inputs if name in kwargs}
        prepare: Any = super()
        inputs = prepare.prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        reads_the_prompt = is_first_iteration or not kwargs.get("use_cache", True)
        return inputs | audio if reads_the_prompt else inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Repeat prompts for beams, each with all of its clips: transformers would repeat clip by clip."""
        audio = {name: kwargs.pop(name) for name in self.audio_inputs if kwargs.get(name) is not None}
        expand: Any = super()
        repeated, others = expand._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )
        if audio and input_ids is not None and expand_size > 1:
            behind = (input_ids == self.config.audio_token_id).sum(-1).cumsum(0)
            made = torch.tensor(self.tokens_of(**audio), device=behind.device)
            prompt_of = torch.searchsorted(behind, made.cumsum(0) - made, right=True)
            order = torch.cat([(prompt_of == row).nonzero()[:, 0].repeat(expand_size) for row in range(len(input_ids))])
            audio = {name: value[order.to(value.device)] for name, value in audio.items()}
        return repeated, others | audio


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


def prompt_given(input_ids: Tensor | None, **sound: Tensor | None) -> Tensor:
    """Return the prompt of a call, or refuse one without, or with some only of the tensors that a clip is heard from.

    Raises:
        ValueError: There is no prompt, or some of the sound is missing.
    """
    if input_ids is None:
        raise ValueError("there is nothing to read: pass input_ids or inputs_embeds")
    missing = [name for name, value in sound.items() if value is None]
    if missing and len(missing) < len(sound):
        given = [name for name in sound if name not in missing]
        raise ValueError(f"{', '.join(given)} came without {', '.join(missing)}: pass all that the processor gives")
    return input_ids


def refuse_another_count(n_tokens: int, audio: Bool[Tensor, "batch position"]) -> None:
    """Refuse clips that make another number of audio tokens than prompts have placeholders.

    Raises:
        ValueError: They do.
    """
    if n_tokens != int(audio.sum()):
        raise ValueError(
            f"the clips make {n_of(n_tokens, 'audio token')}, input_ids have {int(audio.sum())}: either ids were "
            "changed, or the processor counts otherwise than the network; one that takes sizes= needs those of the "
            "network's config, such as its merging"
        )


def with_sound(
    embedded: Float[Tensor, "batch position d_model"],
    audio: Bool[Tensor, "batch position"],
    tokens: Float[Tensor, "token d_model"],
) -> Float[Tensor, "batch position d_model"]:
    """Put audio tokens in the place of their placeholders.

    Raises:
        ValueError: Another number of audio tokens than of placeholders.
    """
    refuse_another_count(len(tokens), audio)
    return embedded.masked_scatter(audio[..., None].to(embedded.device), tokens.to(embedded))


class ClipProcessor(ProcessorMixin):
    """The common part of these classes' processors: keeps settings, and puts clips in the place of placeholders.

    Attributes:
        audio_token: The placeholder for audio.
    """

    audio_token: str
    feature_extractor: Any
    tokenizer: Any
    #: Arguments of the constructor that are saved beside its parts.
    saved: ClassVar[tuple[str, ...]] = ()
    #: The network's inputs that it makes of clips.
    makes: ClassVar[tuple[str, ...]] = ()
    #: Settings of the tokenizer for prompts.
    tokenizing: ClassVar[dict[str, Any]] = {}

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Put a processor together from its parts and its saved settings.

        transformers reads from the constructor's code which settings it takes, and would drop them without a word where
        the constructor is wrapped, as by a type checker.
        """
        given = {**processor_dict, **kwargs}
        made = cls(*args, **{name: given[name] for name in cls.saved if name in given})
        return (made, {}) if kwargs.get("return_unused_kwargs") else made

    @property
    def audio_token_id(self) -> int:
        """The placeholder's id."""
        return self.tokenizer.convert_tokens_to_ids(self.audio_token)

    @property
    def model_input_names(self) -> list[str]:
        """The inputs that it makes."""
        return ["input_ids", "attention_mask", *self.makes]

    @property
    def _rate(self) -> int:
        return self.feature_extractor.sampling_rate

    @property
    def _padding_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad is None else pad

    def _audio(self, clips: list[np.ndarray]) -> dict[str, Tensor]:
        """The network's inputs of some clips."""
        raise NotImplementedError

    def _in_place_of(self, clips: list[np.ndarray], sound: dict[str, Tensor], words: Any) -> list[list[int]]:
        """The ids that stand for each clip, from its inputs and its transcript."""
        raise NotImplementedError

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        *,
        audio_kwargs: dict[str, Any] | None = None,
        padding: bool | str = False,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the network's inputs.

        Args:
            text: Prompts, one placeholder for each clip.
            audio: Clips in the order of their placeholders, mono samples at 16 kHz.
            audio_kwargs: `sampling_rate`.
            padding: Fill shorter prompts up on the left.
            return_tensors: `pt`.
            **kwargs: `sampling_rate`.

        Raises:
            ValueError: Another sampling rate or kind of tensors, a clip longer than is heard, or another number of
                clips than of placeholders.
        """
        rate = {**(audio_kwargs or {}), **kwargs}.get("sampling_rate", self._rate)
        if rate != self._rate or return_tensors != "pt":
            raise ValueError(
                f"clips are at {self._rate} Hz and tensors PyTorch's, got {rate} Hz and {return_tensors!r}"
            )
        single = isinstance(audio, np.ndarray) and audio.ndim == 1
        clips = [np.asarray(clip, dtype=np.float32) for clip in ([audio] if single else () if audio is None else audio)]
        sound = self._audio(clips) if clips else {}
        if text is None:
            return BatchFeature(sound)
        ids = self._with_clips(text, self._in_place_of(clips, sound, kwargs.get("transcripts")))
        return BatchFeature({**left_padded(ids, padding, self._padding_id), **sound})

    def _with_clips(self, text: str | Sequence[str], clips: Sequence[list[int]]) -> list[list[int]]:
        texts = [text] if isinstance(text, str) else list(text)
        wanted = sum(each.count(self.audio_token) for each in texts)
        if wanted != len(clips):
            raise ValueError(
                f"the texts have {wanted} placeholders {self.audio_token!r} for {n_of(len(clips), 'clip')}"
            )
        placeholder, following = self.audio_token_id, iter(clips)
        return [
            [token for i in ids for token in (next(following) if i == placeholder else [i])]
            for ids in self.tokenizer(texts, **self.tokenizing)["input_ids"]
        ]
