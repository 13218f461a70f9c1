"""What Kimi-Audio's prompts are made of: two streams written as one, and the frames of both encoders.

A turn is `<|im_kimia_user_msg_start|>`, what is said, `<|im_msg_end|>`; a clip stands between `<|im_media_begin|>` and
`<|im_media_end|>`, and a turn that ends with one says `<|im_kimia_speech_ct_id|>`, which asks for an answer in text.
Training put the text in front of the clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import AddedToken

from mechaudio.models.features import to_the_largest
from mechaudio.models.kimi.network import MEL_FRAMES
from mechaudio.models.own_classes import ClipProcessor

AUDIO_TOKEN = "<|mechaudio_audio|>"
BLANK, TEXT_END = "<|im_kimia_text_blank|>", "<|im_kimia_text_eos|>"
_MESSAGE_END, _BEGIN, _END = "<|im_msg_end|>", "<|im_media_begin|>", "<|im_media_end|>"
_START = {"user": "<|im_kimia_user_msg_start|>", "assistant": "<|im_kimia_assistant_msg_start|>"}
_ANSWER_IN_TEXT, _ANSWER_ALOUD = "<|im_kimia_speech_ct_id|>", "<|im_kimia_speech_ctd_id|>"
#: Control tokens that stand in the stream of audio.
IN_AUDIO = (_MESSAGE_END, _BEGIN, _END, *_START.values(), _ANSWER_IN_TEXT, _ANSWER_ALOUD)


class KimiAudioProcessor(ClipProcessor):
    """Kimi-Audio's processor: a Whisper feature extractor, which serves both encoders, and a tokenizer.

    Clips longer than 30 s are heard in windows.

    Attributes:
        audio_token: The placeholder for an audio token. Nothing that was trained has its id.
    """

    audio_token = AUDIO_TOKEN
    makes = ("input_features", "input_features_mask", "code_features")
    tokenizing: ClassVar[dict[str, Any]] = {"add_special_tokens": False}

    def __init__(self, feature_extractor: Any = None, tokenizer: Any = None, chat_template: str | None = None):
        """Put a processor together.

        Args:
            feature_extractor: Whisper's.
            tokenizer: Kimi's, as a fast one; the placeholder is added to it.
            chat_template: Not used: turns are written as released.

        Raises:
            ValueError: The tokenizer lacks control tokens.
        """
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in (*IN_AUDIO, BLANK, TEXT_END) if token not in vocabulary]
        if missing:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: is it Kimi-Audio's?")
        if AUDIO_TOKEN not in vocabulary:
            tokenizer.add_tokens([AddedToken(AUDIO_TOKEN, normalized=False, special=True)], special_tokens=True)
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]], **kwargs: Any) -> str:
        """Return a conversation as text, a placeholder for each clip.

        Args:
            conversation: Turns of user and assistant, whose content is a text or a list of parts (`audio` or `text`).
            **kwargs: `tokenize=False` and `add_generation_prompt`, as in transformers.

        Raises:
            ValueError: Another speaker, which was never trained; or the tokens are asked for.
        """
        if kwargs.get("tokenize"):
            raise ValueError("this processor renders text alone: pass tokenize=False, and the text to the processor")
        written = ""
        for turn in conversation:
            if turn["role"] not in _START:
                raise ValueError(f"turns of Kimi-Audio are the user's and the assistant's, got the {turn['role']}'s")
            content = turn["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            sounds = [part["type"] == "audio" for part in parts]
            spoken = [
                f"{_BEGIN}{self.audio_token}{_END}" if sound else part["text"]
                for part, sound in zip(parts, sounds, strict=True)
            ]
            end = _ANSWER_IN_TEXT if sounds[-1] else TEXT_END if turn["role"] == "assistant" else ""
            written += _START[turn["role"]] + "".join(spoken) + end + _MESSAGE_END
        return written + (_START["assistant"] if kwargs.get("add_generation_prompt") else "")

    def _in_place_of(self, clips: list[np.ndarray], _sound: dict[str, torch.Tensor], _words: Any) -> list[list[int]]:
        samples = self.feature_extractor.hop_length * MEL_FRAMES
        counts = [sum(-(-len(window) // samples) for window in self._windows(clip)) for clip in clips]
        return [[self.audio_token_id] * count for count in counts]

    def _windows(self, clip: np.ndarray) -> list[np.ndarray]:
        """A clip in pieces that an encoder hears at once."""
        length = self.feature_extractor.n_samples
        return [clip[start : start + length] for start in range(0, max(len(clip), 1), length)]

    def _audio(self, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Frames of both encoders: Whisper's windows are filled up to 30 s, the speech tokenizer's to whole codes."""
        extractor, rate = self.feature_extractor, self.feature_extractor.sampling_rate
        windows = [self._windows(clip) for clip in clips]
        every = [window for own in windows for window in own]
        made = extractor(every, sampling_rate=rate, return_tensors="pt", return_attention_mask=True)
        settings = {"padding": "longest", "pad_to_multiple_of": extractor.hop_length * MEL_FRAMES}
        codes = [
            extractor(own, sampling_rate=rate, return_tensors="pt", **settings)["input_features"] for own in windows
        ]
        return {
            "input_features": made["input_features"],
            "input_features_mask": made["attention_mask"],
            "code_features": to_the_largest(codes),
        }

    @property
    def _padding_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.convert_tokens_to_ids(TEXT_END) if pad is None else pad
