"""A recording as a picture: its envelope and its log-mel spectrogram.

Conventions: mono samples between -1 and 1; seconds from the start of the clip; decibels below the loudest cell.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

FLOOR = -70.0


@dataclass(frozen=True, eq=False)
class Envelope:
    """Lowest and highest sample in each of the bins of a recording; `times` are the bins' middles in seconds."""

    times: Float[np.ndarray, " bin"]
    low: Float[np.ndarray, " bin"]
    high: Float[np.ndarray, " bin"]


@dataclass(frozen=True, eq=False)
class MelSpectrogram:
    """Level per band and frame in dB below the loudest; `times` and `edges` bound the cells in seconds and Hz."""

    times: Float[np.ndarray, " frame_plus_1"]
    edges: Float[np.ndarray, " band_plus_1"]
    level: Float[np.ndarray, "band frame"]


def envelope(samples: Float[np.ndarray, " samples"], sample_rate: int, bins: int = 700) -> Envelope:
    """The outline of a waveform, at most `bins` points long."""
    per_bin = max(1, -(-len(samples) // bins))
    starts = np.arange(0, len(samples), per_bin)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    stops = np.minimum(starts + per_bin, len(samples))
    return Envelope((starts + stops) / 2 / sample_rate, low.astype(np.float32), high.astype(np.float32))


def hz_to_mel(hz: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."] | float:
    """The mel scale, 2595 log10(1 + f / 700)."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """The inverse of `hz_to_mel`."""
    return np.asarray(700 * (10 ** (np.asarray(mel) / 2595) - 1))


def _filters(n_bands: int, n_fft: int, sample_rate: int) -> Float[np.ndarray, "band bin"]:
    """Triangles, evenly spaced in mel, each of area one so that wide bands are not louder."""
    corners = mel_to_hz(np.linspace(0, hz_to_mel(sample_rate / 2), n_bands + 2))
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return triangles / np.maximum(triangles.sum(axis=1, keepdims=True), 1e-9)


def mel_spectrogram(
    samples: Float[np.ndarray, " samples"], sample_rate: int, *, n_bands: int = 48, frames: int = 400
) -> MelSpectrogram:
    """A log-mel spectrogram fit to be drawn: 64 ms windows, at most about `frames` of them.

    Args:
        samples: Mono sound.
        sample_rate: Samples a second.
        n_bands: Mel bands from 0 to half the sample rate.
        frames: Most frames; a long clip gets a longer hop.
    """
    n_fft = 2 ** round(np.log2(0.064 * sample_rate))
    hop = max(round(0.016 * sample_rate), -(-len(samples) // frames))
    padded = np.pad(samples.astype(np.float32), (n_fft // 2, n_fft // 2 + hop))
    windows = sliding_window_view(padded, n_fft)[: len(samples) : hop]
    power = np.abs(np.fft.rfft(windows * np.hanning(n_fft).astype(np.float32), axis=1)) ** 2
    mel = _filters(n_bands, n_fft, sample_rate) @ power.T
    level = (
        10 * np.log10(np.maximum(mel, 1e-10) / max(mel.max(), 1e-10)) if mel.max() > 1e-10 else np.full_like(mel, FLOOR)
    )
    times = np.append(np.arange(len(windows)) * hop, len(samples)) / sample_rate
    edges = mel_to_hz(np.linspace(0, hz_to_mel(sample_rate / 2), n_bands + 1))
    return MelSpectrogram(times, edges, np.maximum(level, FLOOR).astype(np.float32))
