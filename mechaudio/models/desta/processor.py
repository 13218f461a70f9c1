"""What DeSTA2.5-Audio's prompts are made of: Llama's chat template, Whisper's frames, and transcripts.

In the place of a clip stands `<start_audio>`, 64 placeholders, its transcript, `<end_audio>`; the two marks are words
to the tokenizer, and the transcript is tokenised as a text of its own, as in training. Text follows after an empty
line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import BatchFeature

from mechaudio.arguments import n_of
from mechaudio.models.desta.speech import Silero
from mechaudio.models.own_classes import ClipProcessor

AUDIO_TOKEN = "<|reserved_special_token_87|>"
_BEFORE, _BEHIND = "<start_audio>", "<end_audio>"


class DestaProcessor(ClipProcessor):
    """DeSTA2.5-Audio's processor: a Whisper feature extractor, Llama's tokenizer, and Whisper's for transcripts.

    Attributes:
        audio_token: The placeholder for audio, a reserved token of Llama's.
        n_queries: Audio tokens of a clip.
        recogniser: Writes the transcript of samples at 16 kHz; `None` for the network's own Whisper.
        finds_speech: Says of samples at 16 kHz whether somebody speaks, by default `Silero()` where the package
            silero-vad is installed; `None` to transcribe every clip.
    """

    audio_token = AUDIO_TOKEN
    saved = ("chat_template", "n_queries")
    makes = ("input_features",)
    whisper_tokenizer: Any
    chat_template: str | None

    def __init__(
        self,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        whisper_tokenizer: Any = None,
        chat_template: str | None = None,
        n_queries: int = 64,
    ):
        """Put a processor together.

        Args:
            feature_extractor: Whisper's.
            tokenizer: Llama's, with its chat template.
            whisper_tokenizer: Whisper's, to read what it transcribes.
            chat_template: By default the tokenizer's.
            n_queries: Audio tokens of a clip.

        Raises:
            ValueError: The tokenizer has no token for audio.
        """
        if self.audio_token not in tokenizer.get_vocab():
            raise ValueError(f"the tokenizer has no token {self.audio_token!r}: is it Llama 3.1's?")
        self.n_queries = n_queries
        self.recogniser: Callable[[np.ndarray], str] | None = None
        self.finds_speech: Callable[[np.ndarray], bool] | None = Silero() if Silero.installed() else None
        super().__init__(
            feature_extractor, tokenizer, whisper_tokenizer, chat_template=chat_template or tokenizer.chat_template
        )

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **kwargs: Any) -> Any:
        """Return a conversation as text, a placeholder for each clip.

        Args:
            conversation: Turns, whose content is a text or a list of parts (`audio` or `text`).
            **kwargs: `tokenize=False` and `add_generation_prompt`, as in transformers.
        """
        if kwargs.pop("tokenize", False):
            raise ValueError("this processor renders text alone: pass tokenize=False, and the text to the processor")
        turns = [{"role": turn["role"], "content": self._written(turn["content"])} for turn in conversation]
        text = self.tokenizer.apply_chat_template(turns, chat_template=self.chat_template, tokenize=False, **kwargs)
        start = self.tokenizer.bos_token
        # Llama's template begins with a token that its tokenizer puts in front by itself.
        twice = start is not None and self.tokenizer("")["input_ids"] == [self.tokenizer.bos_token_id]
        return text.removeprefix(start) if twice else text

    def _written(self, content: str | Sequence[Mapping[str, Any]]) -> str:
        """A turn's content as text: an empty line keeps clips that it begins with apart from what is said of them."""
        if isinstance(content, str):
            return content
        written, text_yet = "", False
        for number, part in enumerate(content):
            if part["type"] == "audio":
                written += f"{_BEFORE}{self.audio_token}{_BEHIND}"
            else:
                written += ("\n\n" if number and not text_yet else "") + part["text"]
                text_yet = True
        return written

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        transcripts: Sequence[str] | None = None,
        *,
        audio_kwargs: dict[str, Any] | None = None,
        padding: bool | str = False,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the network's inputs.

        Args:
            text: Prompts, one placeholder for each clip.
            audio: Clips in the order of their placeholders, mono samples at 16 kHz; 30 s of each are heard.
            transcripts: The words of each clip, by default none.
            audio_kwargs: `sampling_rate`.
            padding: Fill shorter prompts up on the left.
            return_tensors: `pt`.
            **kwargs: `sampling_rate`.

        Raises:
            ValueError: Another sampling rate or kind of tensors, or other numbers of clips, transcripts and
                placeholders.
        """
        options: dict[str, Any] = {
            "audio_kwargs": audio_kwargs,
            "padding": padding,
            "return_tensors": return_tensors,
            **kwargs,
        }
        return super().__call__(text, audio, transcripts=transcripts, **options)

    def _audio(self, clips: list[np.ndarray]) -> dict[str, Tensor]:
        made = self.feature_extractor(clips, sampling_rate=self._rate, return_tensors="pt")
        return {"input_features": made["input_features"]}

    def _in_place_of(self, clips: list[np.ndarray], _sound: dict[str, Tensor], words: Any) -> list[list[int]]:
        """Audio tokens, and the transcript, tokenised apart."""
        words = [" "] * len(clips) if words is None else list(words)
        if len(words) != len(clips):
            raise ValueError(
                f"there are {n_of(len(clips), 'clip')} and {n_of(len(words), 'transcript')}: give one for each"
            )
        sound = [self.audio_token_id] * self.n_queries
        return [sound + self.tokenizer(each, add_special_tokens=False)["input_ids"] for each in words]
