"""Training scenes in bulk: events drawn, mixed and turned into log-mel features on one device.

The sounds are those of `mechaudio.audio.sounds`, made once into a bank; a scene's event is a stretch of one of them.

Training scenes may have *habits*: sirens tend to be long and late, clicks short, and so on. The benchmark has none.
This is the prior from which the model guesses when it does not listen (docs/tiny_model.md).

Conventions: seconds, 16 kHz, levels in dB as in `mechaudio.audio.soundscape`; a batch holds clips of 1 to 10 s, zeros
after the end.
"""

import functools
import math
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechaudio.audio.sounds import CLASSES, SAMPLE_RATE, background, synthesize
from mechaudio.models.tiny.language import MAX_AUDIO_TOKENS, MAX_SECONDS, build_feature_extractor

MAX_EVENTS = 6
WINDOW = MAX_SECONDS * SAMPLE_RATE
SHORTEST_EVENT, LONGEST_EVENT, LONGEST_BY_HABIT = 0.5, 6.0, 8.0
EVENT_COUNTS = (0.04, 0.08, 0.14, 0.29, 0.27, 0.18)
GAIN, NOISE, LEVEL = (-22.0, 0.0), (-30.0, -3.0), (-12.0, 0.0)

DURATION_HABIT, ONSET_HABIT = 0.9, 1.5
_LONG = dict(zip(CLASSES, (1, -0.3, 0.7, -1, -0.8, -0.5, 0.5, 1, 0.3, -1, 1, -0.7), strict=True))
_LATE = dict(zip(CLASSES, (-1, 0.4, 1, -0.2, -0.8, 0.9, 0.2, -0.9, -0.4, 0.6, -0.6, 0.8), strict=True))


@dataclass(frozen=True, eq=False)
class Scenes:
    """A batch of scenes. Each row of `labels` is a permutation of the classes; the first `count` of them sound."""

    frames: Int[Tensor, " batch"]
    """Length in 10 ms frames."""
    count: Int[Tensor, " batch"]
    labels: Int[Tensor, "batch 12"]
    onset: Float[Tensor, "batch 6"]
    offset: Float[Tensor, "batch 6"]

    @property
    def present(self) -> Bool[Tensor, "batch 6"]:
        """Which of the six event slots are used."""
        return torch.arange(MAX_EVENTS, device=self.count.device) < self.count[:, None]

    @property
    def audio_tokens(self) -> Int[Tensor, " batch"]:
        """How many audio tokens the clip gives, as the library counts them."""
        return ((self.frames - 1) // 2 + 1 - 2) // 2 + 1


@dataclass(frozen=True, eq=False)
class Bank:
    """Ten-second examples, fp16: `size` of each class in the order of the classes, and as many backgrounds."""

    sounds: Float[Tensor, "examples samples"]
    backgrounds: Float[Tensor, "size samples"]

    @property
    def size(self) -> int:
        """Examples per class."""
        return len(self.backgrounds)

    def to(self, device: str) -> "Bank":
        """The same on another device."""
        return Bank(self.sounds.to(device), self.backgrounds.to(device))


def _examples(job: tuple[str, int, int, int]) -> np.ndarray:
    label, seed, first, stop = job
    kind = CLASSES.index(label) if label in CLASSES else len(CLASSES)
    rngs = [np.random.default_rng([seed, kind, index]) for index in range(first, stop)]
    waves = [
        background(float(MAX_SECONDS), rng) if label == "background" else synthesize(label, float(MAX_SECONDS), rng)
        for rng in rngs
    ]
    return np.stack(waves).astype(np.float16)


def make_bank(size: int, seed: int, workers: int = 1) -> Bank:
    """Synthesize `size` examples per class, in `workers` processes.

    Call it before a GPU is first used: the processes are forked.
    """
    step = 16
    jobs = [(label, seed, i, min(i + step, size)) for label in (*CLASSES, "background") for i in range(0, size, step)]
    store = torch.empty((len(CLASSES) + 1) * size, WINDOW, dtype=torch.float16)
    row = 0
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for chunk in pool.imap(_examples, jobs):
            store[row : row + len(chunk)] = torch.from_numpy(chunk)
            row += len(chunk)
    return Bank(sounds=store[: len(CLASSES) * size], backgrounds=store[len(CLASSES) * size :])


@functools.cache
def on_device(values: tuple[int | float, ...], device: torch.device) -> Tensor:
    """A constant, sent to the device once: sending it at each step would make the device wait."""
    return torch.tensor(values, device=device)


def _uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, device=generator.device)


def _times(
    labels: Int[Tensor, "batch 6"],
    frames: Int[Tensor, " batch"],
    by_habit: Bool[Tensor, "batch 1"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "batch 6"], Float[Tensor, "batch 6"]]:
    seconds = frames[:, None] / 100
    long = on_device(tuple(_LONG[label] for label in CLASSES), labels.device)[labels]
    late = on_device(tuple(_LATE[label] for label in CLASSES), labels.device)[labels]
    longest = (0.95 * seconds).clamp(max=LONGEST_EVENT)
    duration = SHORTEST_EVENT * (longest / SHORTEST_EVENT) ** _uniform(generator, *labels.shape)
    duration = torch.where(by_habit, duration * torch.exp(DURATION_HABIT * long), duration).clamp(min=SHORTEST_EVENT)
    duration = duration.minimum((0.95 * seconds).clamp(max=LONGEST_BY_HABIT))
    place = _uniform(generator, *labels.shape)
    place = torch.where(by_habit, place ** torch.exp(-ONSET_HABIT * late), place)
    onset = place * (seconds - duration)
    return onset, onset + duration


def draw_scenes(batch: int, generator: torch.Generator, *, habits: float, full_length: bool = False) -> Scenes:
    """Random scenes, a share `habits` of them by the habits of the classes.

    Classes differ within a clip; short clips hold fewer events; a third of the clips last the full 10 s.
    """
    device = generator.device
    frames = (100 + 900 * _uniform(generator, batch) ** 0.7).long()
    full = _uniform(generator, batch) < (1.0 if full_length else 0.33)
    frames = torch.where(full, 100 * MAX_SECONDS, frames)
    odds = on_device((0.0, 0.0, *EVENT_COUNTS[2:]) if full_length else EVENT_COUNTS, device)
    count = 1 + torch.multinomial(odds.expand(batch, -1), 1, generator=generator)[:, 0]
    count = count.minimum((1 + frames / 150).long())
    labels = _uniform(generator, batch, len(CLASSES)).argsort(1)
    by_habit = _uniform(generator, batch, 1) < habits
    onset, offset = _times(labels[:, :MAX_EVENTS], frames, by_habit, generator)
    return Scenes(frames, count, labels, onset, offset)


def as_usual(scenes: Scenes, rows: Bool[Tensor, " batch"], generator: torch.Generator) -> Scenes:
    """In the given rows the same classes with other times, drawn by habit: what one says who never heard the clip."""
    by_habit = torch.ones_like(rows)[:, None]
    onset, offset = _times(scenes.labels[:, :MAX_EVENTS], scenes.frames, by_habit, generator)
    usual = rows[:, None]
    return replace(
        scenes, onset=torch.where(usual, onset, scenes.onset), offset=torch.where(usual, offset, scenes.offset)
    )


def mix(
    sounds: Float[Tensor, "examples samples"],
    backgrounds: Float[Tensor, "size samples"],
    rows: Int[Tensor, "batch 6"],
    background_rows: Int[Tensor, " batch"],
    start: Int[Tensor, "batch 6"],
    stop: Int[Tensor, "batch 6"],
    factors: Float[Tensor, "batch 6"],
    background_factor: Float[Tensor, " batch"],
    length: Int[Tensor, " batch"],
) -> Float[Tensor, "batch samples"]:
    """Events with 10 ms fades over a background, turned down where it would clip; times in samples."""
    t = torch.arange(WINDOW, device=rows.device)[None]
    wave = backgrounds[background_rows].float() * background_factor[:, None]
    fade = SAMPLE_RATE / 100
    for slot in range(MAX_EVENTS):
        since, left = t - start[:, slot : slot + 1], stop[:, slot : slot + 1] - t
        envelope = (since / fade).clamp(0, 1) * (left / fade).clamp(0, 1)
        sound = sounds[rows[:, slot : slot + 1], since.clamp(min=0)].float()
        wave = wave + factors[:, slot : slot + 1] * envelope * sound
    wave = torch.where(t < length[:, None], wave, 0.0)
    return wave * (0.99 / wave.abs().amax(1, keepdim=True).clamp(min=1e-9)).clamp(max=1.0)


def render(
    scenes: Scenes, bank: Bank, generator: torch.Generator, mixer: Callable[..., Tensor] = mix
) -> Float[Tensor, "batch samples"]:
    """The scenes' sound, each clip at another overall level; one in twenty has no background."""
    batch = len(scenes.count)
    rows = scenes.labels[:, :MAX_EVENTS] * bank.size + (_uniform(generator, batch, MAX_EVENTS) * bank.size).long()
    level = 10 ** (_uniform(generator, batch, 1, low=LEVEL[0], high=LEVEL[1]) / 20)
    factors = 10 ** (_uniform(generator, batch, MAX_EVENTS, low=GAIN[0], high=GAIN[1]) / 20) * scenes.present
    background_factor = 10 ** (_uniform(generator, batch, low=NOISE[0], high=NOISE[1]) / 20)
    background_factor = background_factor * (_uniform(generator, batch) > 0.05)
    background_rows = (_uniform(generator, batch) * bank.size).long()
    start, stop = ((SAMPLE_RATE * time).round().long() for time in (scenes.onset, scenes.offset))
    length = scenes.frames * (SAMPLE_RATE // 100)
    return level * mixer(
        bank.sounds, bank.backgrounds, rows, background_rows, start, stop, factors, background_factor, length
    )


class LogMel:
    """The features of `WhisperFeatureExtractor`, for a batch, on a device."""

    def __init__(self, device: str) -> None:
        filters = torch.from_numpy(build_feature_extractor().mel_filters)
        self._filters = filters.to(device, torch.float32).T.contiguous()
        self._window = torch.hann_window(400, device=device)

    def __call__(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 128 1000"]:
        """Log-mel features in the library's scaling."""
        spectrum = torch.stft(wave, 400, 160, window=self._window, return_complex=True)[..., :-1]
        power = self._filters @ (spectrum.real**2 + spectrum.imag**2)
        logs = power.clamp(min=1e-10).log10()
        return (logs.maximum(logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def frame_targets(scenes: Scenes) -> Float[Tensor, "batch 250 36"]:
    """Per audio token and class: does it sound, does it begin near here, does it end near here (an aid in training)."""
    t = (torch.arange(MAX_AUDIO_TOKENS, device=scenes.onset.device) + 0.5) * (MAX_SECONDS / MAX_AUDIO_TOKENS)
    onset, offset, present = scenes.onset[..., None], scenes.offset[..., None], scenes.present[..., None]
    near = 0.07
    states = [(t >= onset) & (t < offset), (t - onset).abs() < near, (t - offset).abs() < near]
    classes = torch.nn.functional.one_hot(scenes.labels[:, :MAX_EVENTS], len(CLASSES)).float()
    per_class = [torch.einsum("bet,bec->btc", (state & present).float(), classes) for state in states]
    return torch.cat(per_class, -1)


def describe_law() -> dict[str, object]:
    """What the data are, in words and numbers, for the weights' metadata."""
    return {
        "classes": list(CLASSES),
        "seconds": "1 to 10; one third exactly 10",
        "events": f"1 to {MAX_EVENTS}, classes distinct, odds {EVENT_COUNTS}",
        "event_seconds": [SHORTEST_EVENT, LONGEST_EVENT],
        "gain_db": list(GAIN),
        "noise_db": list(NOISE),
        "level_db": list(LEVEL),
        "habits": {
            "log_duration": {k: round(DURATION_HABIT * v, 3) for k, v in _LONG.items()},
            "onset_power": {k: round(math.exp(-ONSET_HABIT * v), 3) for k, v in _LATE.items()},
        },
    }
