"""Kaldi's log mel filterbank, as BEATs hears it: the numbers of `torchaudio.compliance.kaldi.fbank`, without dither.

Conventions: mono samples in [-1, 1] at 16 kHz; frames of 25 ms every 10 ms that lie whole within the clip, so a clip of
*n* samples has (*n* - 240) // 160 of them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

RATE, LENGTH, HOP, SIZE = 16_000, 400, 160, 512
#: Mean and twice the standard deviation by which BEATs normalises.
MEAN, SPREAD = 15.41663, 2 * 6.55582


def frames_of_samples(samples: int) -> int:
    """Frames of a clip of so many samples."""
    return max((samples - LENGTH) // HOP + 1, 0)


def filterbank(wave: Float[np.ndarray, " samples"] | Float[Tensor, " samples"], bands: int = 128) -> Tensor:
    """Return the normalised filterbank `[frame, band]` of a clip.

    Frames are freed of their mean, pre-emphasised by 0.97 and windowed by Povey's window (a Hann window to the power of
    0.85); power in triangles on the mel scale from 20 to 8,000 Hz, as a logarithm.
    """
    frames = (torch.as_tensor(wave, dtype=torch.float32) * 2**15).unfold(0, LENGTH, HOP)
    frames = frames - frames.mean(1, keepdim=True)
    frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    window = torch.hann_window(LENGTH, periodic=False).pow(0.85)
    padded = torch.nn.functional.pad(frames * window, (0, SIZE - LENGTH))
    power = torch.fft.rfft(padded).abs().pow(2)[:, : SIZE // 2]
    energies = (power @ _triangles(bands).T).clamp(min=torch.finfo(torch.float32).eps)
    return (energies.log() - MEAN) / SPREAD


def _triangles(bands: int) -> Float[Tensor, "band bin"]:
    low, high = _mel(20.0), _mel(RATE / 2)
    step = (high - low) / (bands + 1)
    left = low + torch.arange(bands)[:, None] * step
    frequencies = torch.arange(SIZE // 2) * (RATE / SIZE)
    mel = 1127.0 * (1 + frequencies / 700.0).log()[None]
    return torch.minimum((mel - left) / step, (left + 2 * step - mel) / step).clamp(min=0)


def _mel(frequency: float) -> float:
    return 1127.0 * math.log(1 + frequency / 700.0)
