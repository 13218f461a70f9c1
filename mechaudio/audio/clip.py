"""A recording in memory: samples and their rate, checked once so that nothing later has to.

Conventions: samples are float32 with full scale at 1.0, `[samples]` for one channel and `[channels, samples]` for
several; seconds count from the start of the clip.
"""

import base64
import html
import io
import operator
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from mechaudio.audio.files import read_sound

MOST_CHANNELS = 32
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
SAVED_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16"}


@dataclass(frozen=True, eq=False, repr=False)
class AudioClip:
    """A recording: never empty, never NaN, and never changed once it is made.

    Anything that `np.asarray` turns into a float array is taken (lists and torch tensors on the CPU too) and copied.

    Attributes:
        waveform: `[samples]` or `[channels, samples]`, full scale at 1.0; kept as read-only float32.
        sample_rate: samples per second.
        source: the file that it came from, None for a clip made in memory.

    Raises:
        TypeError: for a waveform of whole numbers or another kind that is not float.
        ValueError: for a waveform that is empty, not finite or of an implausible layout, and for an implausible rate.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    waveform: Float[np.ndarray, "*channels samples"]
    sample_rate: int
    source: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "sample_rate", _checked_rate(self.sample_rate))
        waveform = _as_float32(np.asarray(self.waveform))
        _check_layout(waveform.shape)
        _check_finite(waveform, self.sample_rate, self.source)
        object.__setattr__(self, "waveform", waveform)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AudioClip":
        """Read a wav, flac, mp3 or ogg file, at its own rate and with its own channels.

        Raises:
            FileNotFoundError: if there is no such file.
            IsADirectoryError: if it is a folder.
            ValueError: if the file is empty, truncated, damaged, of another format or not audio at all.
        """
        waveform, sample_rate = read_sound(path)
        return cls(waveform, sample_rate, os.fspath(path))

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.waveform.shape[-1] / self.sample_rate

    @property
    def n_channels(self) -> int:
        """1 for mono, 2 for stereo."""
        return 1 if self.waveform.ndim == 1 else self.waveform.shape[0]

    def mono(self, sample_rate: SupportsIndex | None = None) -> Float[np.ndarray, " samples"]:
        """The mean of the channels, resampled where another rate is asked for.

        Args:
            sample_rate: samples per second of what is returned; None keeps the clip's own.

        Returns:
            A new float32 array `[samples]` of the same duration to within a sample.

        Raises:
            ValueError: for an implausible rate, or a clip too short to hold one sample at the new rate.
        """
        mixed = self.waveform.copy() if self.waveform.ndim == 1 else self.waveform.mean(axis=0)
        if sample_rate is None or sample_rate == self.sample_rate:
            return mixed
        resampled = soxr.resample(mixed, self.sample_rate, _checked_rate(sample_rate), quality="HQ")
        if not resampled.size:
            raise ValueError(
                f"a clip of {len(mixed)} samples at {self.sample_rate} Hz is too short for {sample_rate} Hz: "
                "give a longer clip"
            )
        return resampled

    def silence(self) -> "AudioClip":
        """Zeros of the same length, rate and channels."""
        return AudioClip(np.zeros_like(self.waveform), self.sample_rate)

    def cut(self, onset: float | int, offset: float | int) -> "AudioClip":
        """The stretch `[onset, offset)`, in seconds, to the nearest sample.

        Raises:
            ValueError: unless 0 <= onset < offset <= duration with at least one sample between.
        """
        first, stop = (round(time * self.sample_rate) if np.isfinite(time) else -1 for time in (onset, offset))
        if not 0 <= first < stop <= self.waveform.shape[-1]:
            raise ValueError(
                f"need 0 <= onset < offset <= {self.duration:.6g} seconds, the length of the clip, "
                f"a sample or more apart; got {onset=}, {offset=}"
            )
        return AudioClip(self.waveform[..., first:stop], self.sample_rate, self.source)

    def save(self, path: str | os.PathLike) -> None:
        """Write 16-bit samples to a `.wav` or `.flac` file; what lies beyond full scale is clipped, with a warning.

        Raises:
            ValueError: for another suffix.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in SAVED_SUBTYPES:
            raise ValueError(f"can save a clip as {' or '.join(SAVED_SUBTYPES)}, got the path {os.fspath(path)!r}")
        peak = float(np.abs(self.waveform).max())
        if peak > 1:
            warnings.warn(
                f"samples beyond full scale are clipped in {os.fspath(path)!r}: the peak is {peak:.3g}, not 1",
                stacklevel=2,
            )
        soundfile.write(path, self.waveform.T, self.sample_rate, subtype=SAVED_SUBTYPES[suffix])

    def to_wav(self) -> bytes:
        """A WAV file of 32-bit floats: the very samples, and no time stamp, which libsndfile puts into such files."""
        from scipy.io import wavfile

        file = io.BytesIO()
        wavfile.write(file, self.sample_rate, self.waveform.T)
        return file.getvalue()

    def __repr__(self) -> str:
        channels = {1: "mono", 2: "stereo"}.get(self.n_channels, f"{self.n_channels} channels")
        source = "" if self.source is None else f", {Path(self.source).name!r}"
        return f"AudioClip({self.duration:.2f} s, {self.sample_rate} Hz, {channels}{source})"

    def _repr_html_(self) -> str:
        """A player, for notebooks."""
        file = io.BytesIO()
        soundfile.write(file, self.waveform.T, self.sample_rate, format="WAV", subtype="PCM_16")
        sound = base64.b64encode(file.getvalue()).decode("ascii")
        title = html.escape(repr(self), quote=True)
        player = f'<audio controls src="data:audio/wav;base64,{sound}"></audio>'
        return f"<figure>{player}<figcaption>{title}</figcaption></figure>"


def _checked_rate(sample_rate: Any) -> int:
    try:
        rate = operator.index(sample_rate)
    except TypeError:
        raise TypeError(
            f"sample_rate is a whole number of samples per second, such as 16000; got {sample_rate!r}"
        ) from None
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"sample_rate is in samples per second, between {LOWEST_RATE} and {HIGHEST_RATE}, such as 16000; got {rate}"
        )
    return rate


def _as_float32(waveform: np.ndarray) -> np.ndarray:
    if waveform.dtype.kind in "iu":
        scale = {"int16": "waveform / 32768", "int32": "waveform / 2**31", "uint8": "(waveform - 128.0) / 128"}
        how = scale.get(waveform.dtype.name, "divide it by its full scale")
        raise TypeError(
            f"a waveform holds floats with full scale at 1.0, got {waveform.dtype}: convert it first, {how}"
        )
    if waveform.dtype.kind != "f":
        raise TypeError(f"a waveform holds floats with full scale at 1.0, got an array of {waveform.dtype}")
    if waveform.dtype == np.float32 and not waveform.flags.writeable and waveform.flags.owndata:
        return waveform  # nobody else can change it
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which is refused by name
        kept = np.array(waveform, dtype=np.float32, order="C")
    kept.flags.writeable = False
    return kept


def _check_layout(shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 2):
        raise ValueError(
            f"a waveform is [samples] or [channels, samples], got {len(shape)} dimensions, shape {shape}: one clip each"
        )
    if 0 in shape:
        raise ValueError(f"a waveform needs at least one sample, got shape {shape}")
    channels, samples = shape if len(shape) == 2 else (1, shape[0])
    if channels > samples:
        raise ValueError(
            f"a waveform is [channels, samples], and shape {shape} looks like [samples, channels]: "
            "transpose it, waveform.T"
        )
    if channels > MOST_CHANNELS:
        raise ValueError(
            f"a waveform has at most {MOST_CHANNELS} channels, and shape {shape} has {channels}: give the sound "
            "itself, not a spectrogram or a batch of clips"
        )


def _check_finite(waveform: np.ndarray, sample_rate: int, source: str | None) -> None:
    bad = ~np.isfinite(waveform)
    if bad.any():
        first = int(np.flatnonzero(bad.reshape(-1, bad.shape[-1]).any(axis=0))[0])
        where = "" if source is None else f" of {source!r}"
        raise ValueError(
            f"the waveform{where} has {int(bad.sum())} of {bad.size} samples that are NaN or infinite, "
            f"the first at {first / sample_rate:.4f} s: mend or cut them out first"
        )
