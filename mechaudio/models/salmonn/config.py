"""Sizes of SALMONN and TimeAudio, and how many audio tokens a clip makes.

Conventions: frames are those of the filterbank, 10 ms apart; a window is `frames_per_window` encoder frames of 20 ms,
the sound of one query of the Q-Former; a stretch is what Whisper hears at once, 30 s.
"""

from __future__ import annotations

from typing import Any

from transformers import BertConfig, LlamaConfig, PreTrainedConfig, WhisperConfig

from mechaudio.models.salmonn.beats import BeatsConfig
from mechaudio.timeaudio.merging import merged_count
from mechaudio.timeaudio.time_encoding import N_ROWS

_MODES = (None, "paper", "released")


class SalmonnConfig(PreTrainedConfig):
    """SALMONN's config.

    Attributes:
        text_config: The Llama decoder's config.
        audio_config: The Whisper encoder's.
        beats_config: BEATs'.
        qformer_config: The window Q-Former's.
        audio_token_id: Id of the placeholder for one audio token. It lies behind the vocabulary: no text is written
            with it.
        frames_per_window: Encoder frames that one query reads.
        lora: `r` and `lora_alpha` of the adapters in the decoder, `None` for none.
        max_seconds: Length of the longest clip; the release hears 30 s.
        shortest_tail: Frames behind the last whole stretch that Whisper hears; it is left out where there are fewer.
            BEATs hears it all the same.
        beats_per_stretch: Run BEATs on every stretch by itself instead of on the whole clip as released: it takes a
            fraction of the memory, and gives other numbers.
    """

    model_type = "salmonn"
    sub_configs = {  # noqa: RUF012 - as transformers declares it
        "text_config": LlamaConfig,
        "audio_config": WhisperConfig,
        "beats_config": BeatsConfig,
        "qformer_config": BertConfig,
    }

    def __init__(
        self,
        text_config: Any = None,
        audio_config: Any = None,
        beats_config: Any = None,
        qformer_config: Any = None,
        audio_token_id: int = 32_001,
        frames_per_window: int = 17,
        lora: dict[str, Any] | None = None,
        max_seconds: float = 30.0,
        shortest_tail: int = 498,
        beats_per_stretch: bool = False,
        **kwargs,
    ):
        given = {
            "text_config": text_config,
            "audio_config": audio_config,
            "beats_config": beats_config,
            "qformer_config": {"num_hidden_layers": 2} if qformer_config is None else qformer_config,
        }
        for name, value in given.items():
            made = value if isinstance(value, PreTrainedConfig) else self.sub_configs[name](**(value or {}))
            setattr(self, name, made)
        self.audio_token_id, self.frames_per_window = audio_token_id, frames_per_window
        self.lora, self.max_seconds = lora, max_seconds
        self.shortest_tail, self.beats_per_stretch = shortest_tail, beats_per_stretch
        super().__init__(**kwargs)

    @property
    def stretch(self) -> int:
        """Frames that Whisper hears at once."""
        return 2 * self.audio_config.max_source_positions

    def stretches(self, frames: int) -> int:
        """Return how many stretches of a clip of so many frames Whisper hears."""
        whole, rest = divmod(frames, self.stretch)
        return max(whole + (rest >= self.shortest_tail), 1)

    def n_windows(self, frames: int) -> int:
        """Return how many windows a clip of so many frames makes, filling included."""
        whisper = self.stretches(frames) * self.audio_config.max_source_positions
        return max(whisper, self.beats_config.tokens_of_frames(frames)) // self.frames_per_window

    def n_audio_tokens(self, frames: int) -> int:
        """Return how many audio tokens a clip of so many frames makes."""
        return self.n_windows(frames)


class TimeAudioConfig(SalmonnConfig):
    """TimeAudio's config: SALMONN's, and what it adds.

    Attributes:
        time_encoding: How windows find their row of the table of times; see `mechaudio.timeaudio.window_rows`. `None`
            for no times.
        n_times: Rows of the table.
        merging: How the tokens of clips of more than one stretch are merged; see `mechaudio.timeaudio.merge`. `None`
            for not at all, as in the first stage of training and in the released command line.
        kept: Tokens that stay in each segment.
    """

    model_type = "timeaudio"

    def __init__(
        self,
        *args: Any,
        audio_token_id: int = 32_021,
        max_seconds: float = 120.0,
        time_encoding: str | None = "released",
        n_times: int = N_ROWS,
        merging: str | None = "released",
        kept: int = 22,
        **kwargs,
    ):
        if time_encoding not in _MODES or merging not in _MODES:
            raise ValueError(f"time_encoding and merging are each one of {_MODES}, got {time_encoding=}, {merging=}")
        self.time_encoding, self.n_times, self.merging, self.kept = time_encoding, n_times, merging, kept
        super().__init__(*args, audio_token_id=audio_token_id, max_seconds=max_seconds, **kwargs)

    @property
    def windows_of_a_stretch(self) -> int:
        """Windows of one stretch; the tokens of clips that make no more are not merged."""
        return self.audio_config.max_source_positions // self.frames_per_window

    def n_audio_tokens(self, frames: int) -> int:
        """Return how many audio tokens a clip of so many frames makes."""
        windows = self.n_windows(frames)
        if self.merging is None:
            return windows
        return merged_count(windows, self.merging, window=self.windows_of_a_stretch, kept=self.kept)
