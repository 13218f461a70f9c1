"""A recording in memory: samples and their rate, checked once so that nothing later has to.

Conventions: samples are float32 with full scale at 1.0, `[samples]` for one channel and `[channels, samples]` for
several; seconds count from the start of the clip.
"""

import io
import numbers
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from mechaudio.arguments import checks_arguments, n_of, shown
from mechaudio.audio.files import decode_sound, read_sound
from mechaudio.audio.player import player
from mechaudio.notices import warn, withheld
from mechaudio.showing import Shown

MOST_CHANNELS = 32
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
LOUD, LOUDEST = 16.0, 2.0**32
"""Peaks of floats that look like whole numbers that nobody divided, and that nothing has."""
QUIET = 2.0**-15
"""Peak below which samples of 16 bits would be zeros; whole numbers that were divided twice have at most this."""
OFFSET, SWINGS, ENOUGH = 0.3, 20, 400
"""Mean of samples without a sign, how often they cross it, and how many are looked at: a few may well be soft."""
CANCELLED = 0.1
"""The mix of channels, against that of as many that have nothing in common, below which they cancel one another."""
SAVED_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16"}


@dataclass(frozen=True, eq=False, repr=False)
class AudioClip(Shown):
    """A recording: never empty, never NaN, and never changed once it is made.

    Anything that `np.asarray` turns into a float array is taken and copied, lists too, and torch tensors of any float
    type, on any device. A peak above 16 is warned of: whole numbers that were cast and not divided look so.

    Attributes:
        waveform: `[samples]` or `[channels, samples]`, full scale at 1.0; kept as read-only float32.
        sample_rate: Samples per second.
        source: The file that it came from, None for a clip made in memory.

    Raises:
        TypeError: For a waveform of whole numbers or another kind that is not float.
        ValueError: For a waveform that is empty, not finite, masked, beyond any scale or of an implausible layout, and
            for an implausible rate.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    waveform: Float[np.ndarray, "*channels samples"]
    sample_rate: int
    source: str | None = None

    if TYPE_CHECKING:  # what it takes, beside what it keeps

        def __init__(self, waveform: Any, sample_rate: SupportsIndex | float, source: str | None = None) -> None: ...

    def __post_init__(self):
        owner = "the waveform" if self.source is None else f"the waveform of {self.source!r}"
        object.__setattr__(self, "sample_rate", _checked_rate(self.sample_rate, self.source))
        waveform = _as_float32(_as_array(self.waveform))
        _check_layout(waveform.shape)
        _check_finite(waveform, self.sample_rate, owner)
        _check_scale(waveform, owner)
        object.__setattr__(self, "waveform", waveform)

    @classmethod
    def load(cls, sound: Any) -> "AudioClip":
        """Take a recording in any form in which people have one; of a file, at its own rate and with its own channels.

        Sound that holds nothing but one value is warned of.

        Args:
            sound: The path of a file; a file that is open for reading bytes, or the bytes themselves, of any kind that
                FFmpeg reads; `(samples, rate)`; `{"array": samples, "sampling_rate": rate}`, `{"bytes": ..., "path":
                ...}` and the decoders of `datasets`; or a clip.

        Raises:
            FileNotFoundError: If there is no such file.
            IsADirectoryError: If it is a folder.
            TypeError: For anything else, samples without a rate among them, and for samples that are not floats.
            ValueError: If the file is a pipe, empty, truncated, damaged or not audio, or the samples cannot be sound.
        """
        if isinstance(sound, AudioClip):
            return sound
        clip = cls(*_read(sound))
        if clip.waveform.size > 1 and clip.waveform.max() == clip.waveform.min():
            name = "the recording" if clip.source is None else repr(clip.source)
            warn(f"{name} is silent: all of its {clip.duration:.2f} s hold the value {clip.waveform.max():g}")
        return clip

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
            sample_rate: Samples per second of what is returned; None keeps the clip's own.

        Returns:
            A new float32 array `[samples]` of the same duration to within a sample. Channels that cancel one another,
            as when one of them is upside down, are warned of.

        Raises:
            ValueError: For an implausible rate, or a clip too short to hold one sample at the new rate.
        """
        mixed = self.waveform.copy() if self.waveform.ndim == 1 else self._mixed()
        if sample_rate is None or sample_rate == self.sample_rate:
            return mixed
        resampled = soxr.resample(mixed, self.sample_rate, _checked_rate(sample_rate), quality="HQ")
        if not resampled.size:
            raise ValueError(
                f"a clip of {n_of(len(mixed), 'sample')} at {self.sample_rate} Hz is too short for {sample_rate} Hz: "
                "give a longer clip"
            )
        return resampled

    def _mixed(self) -> Float[np.ndarray, " samples"]:
        mixed = self.waveform.mean(axis=0)
        alone = np.sqrt(np.square(self.waveform, dtype=np.float64).sum(axis=0).mean()) / len(self.waveform)
        if np.sqrt(np.square(mixed, dtype=np.float64).mean()) < CANCELLED * alone:
            name = "the clip" if self.source is None else repr(self.source)
            warn(
                f"the {len(self.waveform)} channels of {name} cancel one another, so that next to nothing of them is "
                "left in their mean: is one upside down? Give one channel, AudioClip(clip.waveform[0], "
                "clip.sample_rate)"
            )
        return mixed

    def silence(self) -> "AudioClip":
        """Zeros of the same length, rate and channels."""
        return AudioClip(np.zeros_like(self.waveform), self.sample_rate)

    def cut(self, onset: float | int, offset: float | int) -> "AudioClip":
        """The stretch `[onset, offset)`, in seconds, to the nearest sample.

        Raises:
            ValueError: Unless 0 <= onset < offset <= duration with at least one sample between.
        """
        near = self.duration + 1
        first, stop = (round(time * self.sample_rate) if -1 <= time <= near else -1 for time in (onset, offset))
        if not 0 <= first < stop <= self.waveform.shape[-1]:
            raise ValueError(
                f"need 0 <= onset < offset <= {self.duration:.6g} seconds, the length of the clip, "
                f"a sample or more apart; got onset={shown(onset)}, offset={shown(offset)}"
            )
        with withheld("the waveform"):  # a part may well be soft
            return AudioClip(self.waveform[..., first:stop], self.sample_rate, self.source)

    @checks_arguments
    def save(self, path: str | os.PathLike) -> None:
        """Write 16-bit samples to a `.wav` or `.flac` file; what lies beyond full scale is clipped, with a warning.

        Raises:
            ValueError: For another suffix.
            TypeError: For something else than a path.
            FileNotFoundError: The folder is not there.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SAVED_SUBTYPES:
            raise ValueError(f"can save a clip as {' or '.join(SAVED_SUBTYPES)}, got the path {os.fspath(path)!r}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to save the clip in: make it first")
        peak = float(np.abs(self.waveform).max())
        if peak > 1:
            warn(f"samples beyond full scale are clipped in {os.fspath(path)!r}: the peak is {peak:.3g}, not 1")
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
        """A player, for notebooks; of a long recording the beginning."""
        return player(self)


def is_samples_and_rate(sound: Any) -> bool:
    """True for a pair of samples and their rate, which a list of two recordings is not."""
    return (
        isinstance(sound, (tuple, list))
        and len(sound) == 2
        and isinstance(sound[1], numbers.Real)
        and hasattr(sound[0], "__len__")
        and not isinstance(sound[0], (str, bytes, Mapping))
    )


def _read(sound: Any) -> tuple[Any, Any, str | None]:
    if isinstance(sound, (str, os.PathLike)):
        return *read_sound(sound), os.fsdecode(sound)
    if isinstance(sound, (bytes, bytearray, memoryview)):
        return *decode_sound(io.BytesIO(sound), "the recording"), None
    if hasattr(sound, "read"):
        return _read_open(sound)
    if hasattr(sound, "get_all_samples"):  # the decoders of torchcodec and datasets
        decoded = sound.get_all_samples()
        return decoded.data, decoded.sample_rate, None
    if isinstance(sound, Mapping):
        return _read_mapping(sound)
    if is_samples_and_rate(sound):
        return sound[0], _whole(sound[1]), None
    raise TypeError(
        "a recording is a path, an AudioClip, (samples, rate), {'array': samples, 'sampling_rate': rate}, or the bytes "
        f"of a file; got {_described(sound)}. For samples write AudioClip(samples, sample_rate)"
    )


def _read_open(file: Any) -> tuple[Any, Any, str | None]:
    name = getattr(file, "name", None)
    source = name if isinstance(name, str) else None
    if getattr(file, "closed", False):
        raise ValueError(f"{source or 'the file'} is closed: give it while it is open, or its path")
    read = file.tell() if hasattr(file, "seekable") and file.seekable() else 0
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError(f"{source or 'the file'} is open for reading text: open it for reading bytes, open(path, 'rb')")
    if read:
        how_far = "to its end" if not content else f"up to byte {read}"
        raise ValueError(
            f"{source or 'the open file'} was read {how_far} before: go back to its beginning, seek(0); of a recording "
            "that begins there, give the bytes, file.read()"
        )
    return *decode_sound(io.BytesIO(content), "the open file" if source is None else repr(source)), source


def _read_mapping(sound: Mapping) -> tuple[Any, Any, str | None]:
    path = sound.get("path")
    source = os.fsdecode(path) if isinstance(path, (str, os.PathLike)) else None
    rate = sound.get("sampling_rate", sound.get("sample_rate"))
    if sound.get("array") is not None and rate is not None:
        return sound["array"], _whole(rate), source
    if isinstance(sound.get("bytes"), (bytes, bytearray)):
        return *decode_sound(io.BytesIO(sound["bytes"]), repr(source or "the recording")), source
    if source is not None and sound.get("array") is None:
        return *read_sound(source), source
    raise TypeError(
        "a recording in a mapping has 'array' and 'sampling_rate', or 'bytes', or a 'path'; got one with "
        f"{', '.join(repr(key) for key, value in list(sound.items())[:8] if value is not None) or 'nothing'}"
    )


def _described(sound: Any) -> str:
    shape = getattr(sound, "shape", None)
    return f"a {type(sound).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}, whose rate is not said")


def _whole(rate: Any) -> Any:
    """A rate that tables and JSON made a float, as the whole number that it is."""
    return int(rate) if isinstance(rate, (float, np.floating)) and float(rate).is_integer() else rate


def _checked_rate(sample_rate: Any, source: str | None = None) -> int:
    owner = "" if source is None else f" of {source!r}"
    try:
        rate = operator.index(sample_rate)
    except TypeError:
        raise TypeError(
            f"sample_rate{owner} is a whole number of samples per second, such as 16000; got {sample_rate!r}"
        ) from None
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"sample_rate{owner} is in samples per second, between {LOWEST_RATE} and {HIGHEST_RATE}, such as 16000; "
            f"got {rate}"
        )
    return rate


def _as_array(waveform: Any) -> np.ndarray:
    if hasattr(waveform, "detach"):  # a tensor, maybe on another device, with a gradient, or in bfloat16
        waveform = waveform.detach().cpu()
        waveform = waveform.float() if waveform.is_floating_point() else waveform
    if np.ma.is_masked(waveform):
        raise ValueError("a waveform has a value for every sample, and some of these are masked: fill or cut them out")
    try:
        return np.asarray(waveform)
    except ValueError as error:
        raise ValueError(f"a waveform is [samples] or [channels, samples], all channels as long: {error}") from error


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


def _check_finite(waveform: np.ndarray, sample_rate: int, owner: str) -> None:
    bad = ~np.isfinite(waveform)
    if bad.any():
        first = int(np.flatnonzero(bad.reshape(-1, bad.shape[-1]).any(axis=0))[0])
        raise ValueError(
            f"{owner} has {int(bad.sum())} of {bad.size} samples that are NaN or infinite, "
            f"the first at {first / sample_rate:.4f} s: mend or cut them out first"
        )


def _check_scale(waveform: np.ndarray, owner: str) -> None:
    peak = float(np.abs(waveform).max())
    if peak > LOUDEST:
        raise ValueError(f"{owner} has a peak of {peak:.3g}, and full scale is 1.0: these are no samples of sound")
    if peak > LOUD:
        warn(
            f"{owner} has a peak of {peak:.6g}, and full scale is 1.0: divide whole numbers by theirs when you make "
            "them floats, 32768 for 16 bits"
        )
    if waveform.shape[-1] < ENOUGH:
        return
    if 0 < peak < QUIET:
        warn(
            f"{owner} has a peak of {peak:.3g}, less than the smallest step of 16 bits ({QUIET:.3g}): was it divided "
            "by full scale twice?"
        )
    if waveform.min() >= 0 and (middle := float(waveform.mean())) > OFFSET and _swings(waveform, middle):
        warn(
            f"{owner} goes from {waveform.min():.3g} to {peak:.3g} about {middle:.3g}, and never below 0: of "
            "unsigned whole numbers subtract the middle before you divide, (waveform - 128.0) / 128 of 8 bits"
        )


def _swings(waveform: np.ndarray, middle: float) -> bool:
    """Return whether samples go to and fro about a value, as sound does and ramps do not."""
    return int(np.diff(waveform > middle).sum()) >= SWINGS
