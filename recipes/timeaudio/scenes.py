"""Scenes of 20 to 60 seconds in bulk: drawn, mixed and turned into Whisper's features on one device.

A class sounds in up to three stretches of a scene, at least half a second apart, so that a question has several
intervals. All times are whole tenths of a second.

Conventions: seconds, 16 kHz, levels in dB; a short scene lasts 20 to 30 s, one stretch of Whisper's, a long one 35 to
60 s, two of them (Whisper is not given what is left of less than 5 s); silence behind the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from transformers import WhisperFeatureExtractor

from mechaudio.audio.sounds import CLASSES, SAMPLE_RATE
from recipes.tiny.scenes import Bank, make_bank

STRETCH = 30
SHORT, LONG = (20.0, 30.0), (35.0, 60.0)
PRESENT = 0.45
COUNTS = (0.5, 0.3, 0.2)
SHORTEST, LONGEST, APART = 0.8, 6.0, 0.5
GAIN, NOISE = (-15.0, 0.0), (-30.0, -10.0)
FRAMES = 50
"""Frames of the encoder in a second."""
NEAR = 0.06
"""Seconds around an onset or offset that count as near it."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """A batch of scenes: `[scene, class, stretch]`, absent stretches zero and behind the others."""

    seconds: Tensor
    onset: Tensor
    offset: Tensor

    @property
    def present(self) -> Tensor:
        """Stretches in which something sounds."""
        return self.offset > 0

    def __len__(self) -> int:
        return len(self.seconds)

    def intervals(self, scene: int, kind: int) -> list[tuple[float, float]]:
        """When a class sounds in a scene."""
        pairs = zip(self.onset[scene, kind].tolist(), self.offset[scene, kind].tolist(), strict=True)
        return [(round(a, 1), round(b, 1)) for a, b in pairs if b > 0]


def _uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, device=generator.device)


def draw(n: int, length: tuple[float, float], generator: torch.Generator) -> Scenes:
    """Draw scenes; at least one class sounds in each."""
    device, kinds = generator.device, len(CLASSES)
    seconds = (_uniform(generator, n, low=length[0], high=length[1]) * 10).round() / 10
    there = torch.rand(n, kinds, generator=generator, device=device) < PRESENT
    there[torch.arange(n, device=device), torch.randint(kinds, (n,), generator=generator, device=device)] = True
    odds = torch.tensor(COUNTS, device=device).expand(n * kinds, -1)
    count = 1 + torch.multinomial(odds, 1, generator=generator).view(n, kinds, 1)
    used = (torch.arange(3, device=device) < count) & there[..., None]
    span = SHORTEST * (LONGEST / SHORTEST) ** _uniform(generator, n, kinds, 3)
    span = (span * 10).round() / 10 * used
    # What is left over is dealt out in front of the stretches, in order, so that they never overlap.
    free = seconds[:, None, None] - span.sum(-1, keepdim=True) - APART * (used.sum(-1, keepdim=True) - 1)
    cuts = torch.where(used, _uniform(generator, n, kinds, 3), 2.0).sort(-1).values
    onset = (cuts.clamp(max=1.0) * free * 10).floor() / 10 + span.cumsum(-1) - span
    onset = onset + APART * torch.arange(3, device=device)
    return Scenes(seconds, onset * used, (onset + span) * used)


def render(scenes: Scenes, bank: Bank, generator: torch.Generator, stretches: int) -> Tensor:
    """Mix scenes: `[scene, sample]`, whole stretches of 30 s."""
    n, total, longest = len(scenes), stretches * STRETCH * SAMPLE_RATE, round(LONGEST * SAMPLE_RATE)
    device = generator.device
    t = torch.arange(longest, device=device)[None]
    wave = torch.zeros(n, total + longest, device=device)
    source = bank.sounds.shape[1]
    for kind in range(len(CLASSES)):
        for slot in range(3):
            row = kind * bank.size + (_uniform(generator, n) * bank.size).long()
            begin = (_uniform(generator, n) * (source - longest)).long()
            gain = 10 ** (_uniform(generator, n, low=GAIN[0], high=GAIN[1]) / 20)
            start = (scenes.onset[:, kind, slot] * SAMPLE_RATE).round().long()
            left = (scenes.offset[:, kind, slot] * SAMPLE_RATE).round().long()[:, None] - start[:, None] - t
            envelope = (t / 160).clamp(max=1) * (left / 160).clamp(0, 1)
            sound = bank.sounds[row[:, None], begin[:, None] + t].float() * envelope * gain[:, None]
            wave.scatter_add_(1, start[:, None] + t, sound)
    wave = wave[:, :total]
    behind = bank.backgrounds[(_uniform(generator, n) * bank.size).long()].float()
    behind = behind.repeat(1, -(-total // behind.shape[1]))[:, :total]
    wave = wave + behind * 10 ** (_uniform(generator, n, 1, low=NOISE[0], high=NOISE[1]) / 20)
    wave = wave * (torch.arange(total, device=device) < (scenes.seconds * SAMPLE_RATE).round()[:, None])
    return wave * (0.99 / wave.abs().amax(1, keepdim=True).clamp(min=1e-9)).clamp(max=1.0)


class LogMel:
    """The features of Whisper's extractor for stretches of 30 s, on a device."""

    def __init__(self, device: str) -> None:
        self._filters = torch.from_numpy(extractor().mel_filters).to(device, torch.float32).T.contiguous()
        self._window = torch.hann_window(400, device=device)

    def __call__(self, wave: Tensor) -> Tensor:
        """Turn `[scene, sample]` into `[stretch, band, frame]`."""
        cut = rearrange(wave, "scene (stretch sample) -> (scene stretch) sample", sample=STRETCH * SAMPLE_RATE)
        spectrum = torch.stft(cut, 400, 160, window=self._window, return_complex=True)[..., :-1]
        logs = (self._filters @ (spectrum.real**2 + spectrum.imag**2)).clamp(min=1e-10).log10()
        return (logs.maximum(logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def extractor() -> WhisperFeatureExtractor:
    """Whisper's extractor with 80 bands."""
    return WhisperFeatureExtractor(feature_size=80)


def frame_targets(scenes: Scenes, stretches: int) -> Tensor:
    """Say of each frame and class if it sounds, begins near and ends near: `[stretch, frame, 3 classes]`."""
    t = (torch.arange(stretches * STRETCH * FRAMES, device=scenes.onset.device) + 0.5) / FRAMES
    onset, offset, present = scenes.onset[..., None], scenes.offset[..., None], scenes.present[..., None]
    states = [(t >= onset) & (t < offset), (t - onset).abs() < NEAR, (t - offset).abs() < NEAR]
    per_class = torch.cat([(state & present).any(2) for state in states], dim=1).float()
    return rearrange(per_class, "scene kind (stretch frame) -> (scene stretch) frame kind", stretch=stretches)


def coverage(scenes: Scenes, n_windows: int, seconds: float) -> Tensor:
    """Give the share of every window in which each class sounds: `[scene, window, class]`."""
    edges = torch.arange(n_windows + 1, device=scenes.onset.device) * seconds
    onset, offset = scenes.onset[..., None], scenes.offset[..., None]
    inside = torch.minimum(offset, edges[1:]) - torch.maximum(onset, edges[:-1])
    return rearrange(inside.clamp(min=0).sum(2) / seconds, "scene kind window -> scene window kind")


def describe() -> dict[str, object]:
    """Say what the scenes are, for the record."""
    return {
        "classes": list(CLASSES),
        "seconds": {"short": SHORT, "long": LONG},
        "share_of_classes_that_sound": PRESENT,
        "odds_of_1_2_3_stretches": COUNTS,
        "stretch_seconds": [SHORTEST, LONGEST],
        "apart_seconds": APART,
        "gain_db": GAIN,
        "noise_db": NOISE,
    }


__all__ = [
    "Bank",
    "LogMel",
    "Scenes",
    "coverage",
    "describe",
    "draw",
    "extractor",
    "frame_targets",
    "make_bank",
    "render",
]
