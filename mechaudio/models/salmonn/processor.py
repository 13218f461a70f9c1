"""What SALMONN's and TimeAudio's prompts are made of: released wording and tokens, and the frames of both encoders.

A prompt is `USER: <Speech>…</Speech> question` and, in a new line, `ASSISTANT:`. What stands before the audio and what
stands behind it are tokenised apart, each as a text of its own with a space in front, as the released code does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, normalizers

from mechaudio.models.own_classes import ClipProcessor
from mechaudio.models.salmonn.beats import BeatsConfig
from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.fbank import HOP, RATE, filterbank, frames_of_samples

AUDIO_TOKEN = "<SpeechHere>"
#: One turn of the user, as in training: the audio in front of the text. Other turns were never trained.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role != 'user' or not loop.first %}"
    "{{ raise_exception('a prompt of this model is one turn of the user') }}{% endif %}"
    "USER: {% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if item.type == 'audio' %}<Speech>" + AUDIO_TOKEN + "</Speech> {% else %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '\nASSISTANT:' }}{% endfor %}"
)  # fmt: skip


class SalmonnProcessor(ClipProcessor):
    """SALMONN's processor: a Whisper feature extractor, BEATs' filterbank and a Llama tokenizer.

    Of clips together in one call, shorter ones are filled up to the longest, as the release does, and BEATs hears some
    of the filling. Clips longer than `max_audio_len` are refused.

    Attributes:
        audio_token: The placeholder for audio. It lies behind the vocabulary, so that no text is written with it.
        sizes: Stretches, windows and tokens of clips.
    """

    audio_token = AUDIO_TOKEN
    saved = ("chat_template", "sizes")
    makes = ("input_features", "filterbank_features", "input_features_mask", "audio_samples")
    config_class: type[SalmonnConfig] = SalmonnConfig
    #: Tokens that lie between the vocabulary of Llama and the placeholder, in order.
    added: tuple[str, ...] = ("[PAD]",)

    def __init__(
        self, feature_extractor: Any = None, tokenizer: Any = None, chat_template: str | None = None, sizes: Any = None
    ):
        """Put a processor together.

        Args:
            feature_extractor: Whisper's.
            tokenizer: Llama's; it is made to write tokens as the released code's did.
            chat_template: By default the released wording.
            sizes: Settings of the config that say how many audio tokens a clip makes, by default the released ones.
        """
        self.sizes: dict[str, Any] = dict(sizes or {})
        positions = 1500 if feature_extractor is None else feature_extractor.nb_max_frames // 2
        self._config = self.config_class(
            audio_config={"max_source_positions": positions}, beats_config=BeatsConfig(), **self.sizes
        )
        _write_tokens_as_released(tokenizer, self.added)
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template or TEMPLATE)

    @property
    def max_audio_len(self) -> float:
        """Length of the longest clip that is taken, in seconds."""
        return self._config.max_seconds

    @property
    def _rate(self) -> int:
        return RATE

    def _in_place_of(self, _clips: list[np.ndarray], sound: dict[str, torch.Tensor], _words: Any) -> list[list[int]]:
        frames = sound["input_features_mask"].sum(-1).tolist() if sound else []
        return [[self.audio_token_id] * self._config.n_audio_tokens(count) for count in frames]

    def _audio(self, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
        """Frames of both encoders; clips of less than a second are filled up to one."""
        for clip in clips:
            if len(clip) > self.max_audio_len * RATE:
                raise ValueError(
                    f"a clip of {len(clip) / RATE:.1f} s is longer than the {self.max_audio_len:g} s that are heard"
                )
        longest = max(RATE, *(len(clip) for clip in clips))
        waves = [np.pad(clip, (0, longest - len(clip))) for clip in clips]
        frames, stretch = frames_of_samples(longest), self._config.stretch
        mel = torch.stack([self._mel(wave, self._config.stretches(frames), stretch * HOP) for wave in waves])
        width = max(frames, mel.shape[-1])
        bank = torch.zeros(len(clips), self._config.beats_config.num_mel_bins, width)
        mask = torch.zeros(len(clips), width, dtype=torch.long)
        for row, (clip, wave) in enumerate(zip(clips, waves, strict=True)):
            bank[row, :, :frames] = filterbank(wave, bank.shape[1]).T
            # The mask of samples is shared out evenly among frames, as released: a frame with one real sample is real.
            each = longest // frames
            mask[row, : min(-(-max(len(clip), RATE) // each), frames)] = 1
        samples = torch.tensor([len(clip) for clip in clips])
        return {
            "input_features": mel,
            "filterbank_features": bank,
            "input_features_mask": mask,
            "audio_samples": samples,
        }

    def _mel(self, wave: np.ndarray, n_stretches: int, length: int) -> torch.Tensor:
        stretches = [wave[number * length : (number + 1) * length] for number in range(n_stretches)]
        made = self.feature_extractor(stretches, sampling_rate=RATE, return_tensors="pt")["input_features"]
        return torch.cat(list(made), dim=-1)


class TimeAudioProcessor(SalmonnProcessor):
    """TimeAudio's processor, whose vocabulary has marker tokens for times."""

    config_class = TimeAudioConfig
    added = ("[PAD]", *(f"<a_{digit}>" for digit in range(10)), *(f"<f_{digit}>" for digit in range(10)))


def _write_tokens_as_released(tokenizer: Any, added: Sequence[str]) -> None:
    """Make a Llama tokenizer write what the released code's slow one wrote.

    Every text between added tokens begins with a space of its own, which today's tokenizers leave out behind one.
    """
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = None
    pad, *markers = added
    if tokenizer.pad_token != pad:
        tokenizer.add_special_tokens({"pad_token": AddedToken(pad, normalized=False, special=True)})
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])
    tokenizer.add_tokens([AddedToken(AUDIO_TOKEN, normalized=False, special=True)], special_tokens=True)
