"""Twelve synthetic sounds, each a steady texture that can be cut anywhere.

Every class is a small recipe with a few drawn parameters (pitch, rate, phase), so that no two examples are alike while
every example is told apart from the other classes by ear and in a spectrogram.

Conventions: durations in seconds, frequencies in hertz, 16 kHz, float32, root mean square `REFERENCE_RMS`; the same
label, duration and seed give the same samples. numpy alone.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mechaudio.arguments import names_arguments

SAMPLE_RATE = 16_000
"""Samples per second of all that is made here."""
REFERENCE_RMS = 0.05
TAU = 2 * np.pi

Wave = Float[np.ndarray, " samples"]


def _filtered_noise(t: Wave, rng: np.random.Generator, response: Callable[[Wave], Wave]) -> Wave:
    frequencies = np.fft.rfftfreq(len(t), 1 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(len(t))) * response(frequencies), n=len(t))


def _step(x: Wave) -> Wave:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def _hum(t: Wave, rng: np.random.Generator) -> Wave:
    pitch = rng.uniform(90, 180)
    return sum(np.sin(TAU * k * pitch * t + rng.uniform(0, TAU)) / k for k in range(1, 5))


def _whistle(t: Wave, rng: np.random.Generator) -> Wave:
    pitch, vibrato = rng.uniform(1500, 3200), rng.uniform(4, 7)
    return np.sin(TAU * pitch * t + 0.01 * pitch / vibrato * np.sin(TAU * vibrato * t))


def _siren(t: Wave, rng: np.random.Generator) -> Wave:
    pitch, rate = rng.uniform(700, 1100), rng.uniform(0.4, 0.9)
    phase = TAU * pitch * t - 0.35 * pitch / rate * np.cos(TAU * rate * t + rng.uniform(0, TAU))
    return np.sin(phase) + 0.3 * np.sin(3 * phase)


def _beep(t: Wave, rng: np.random.Generator) -> Wave:
    period, pitch = rng.uniform(0.25, 0.5), rng.uniform(800, 1400)
    since = np.remainder(t, period)
    return np.sin(TAU * pitch * t) * _step((period / 2 - since) * 400) * (1 - np.exp(-since * 300))


def _chirp(t: Wave, rng: np.random.Generator) -> Wave:
    period, pitch = rng.uniform(0.2, 0.35), rng.uniform(2300, 3300)
    since = np.remainder(t, period)
    phase = since / (0.7 * period)
    return np.sin(TAU * pitch * since * (1 + 0.45 * phase)) * np.sin(np.pi * np.clip(phase, 0, 1)) ** 2


def _swoop(t: Wave, rng: np.random.Generator) -> Wave:
    period, pitch = rng.uniform(0.5, 0.9), rng.uniform(1700, 2400)
    since, fall = np.remainder(t, period), 1.9 / period
    return np.sin(TAU * pitch / fall * (1 - np.exp(-fall * since))) * (1 - np.exp(-since * 200))


def _hiss(t: Wave, rng: np.random.Generator) -> Wave:
    swell = 1 + 0.1 * np.sin(TAU * rng.uniform(0.5, 2) * t)
    return _filtered_noise(t, rng, lambda f: _step((f - 2500) / 150)) * swell


def _rumble(t: Wave, rng: np.random.Generator) -> Wave:
    return _filtered_noise(t, rng, lambda f: _step((220 - f) / 25) * _step((f - 30) / 5))


def _cricket(t: Wave, rng: np.random.Generator) -> Wave:
    pitch, rate = rng.uniform(4000, 5200), rng.uniform(14, 24)
    return np.sin(TAU * pitch * t) * np.sin(np.pi * rate * t) ** 2


def _click(t: Wave, rng: np.random.Generator) -> Wave:
    since = np.remainder(t, rng.uniform(0.12, 0.25))
    return np.clip(rng.standard_normal(len(t)), -2, 2) * np.exp(-since * 300)


def _motor(t: Wave, rng: np.random.Generator) -> Wave:
    pitch, rate = rng.uniform(55, 95), rng.uniform(8, 14)
    partials = sum(np.sin(TAU * k * pitch * t + rng.uniform(0, TAU)) / np.sqrt(k) for k in range(1, 26))
    return partials * (0.6 + 0.4 * np.sin(TAU * rate * t))


def _pluck(t: Wave, rng: np.random.Generator) -> Wave:
    since, pitch = np.remainder(t, rng.uniform(0.35, 0.7)), rng.uniform(250, 520)
    return sum(np.sin(TAU * k * pitch * since) / k * np.exp(-3 * k * since) for k in range(1, 7))


_RECIPES: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    recipe.__name__.removeprefix("_"): recipe
    for recipe in (_hum, _whistle, _siren, _beep, _chirp, _swoop, _hiss, _rumble, _cricket, _click, _motor, _pluck)
}

CLASSES: tuple[str, ...] = tuple(_RECIPES)
"""The labels that `synthesize` knows."""


def _sample_times(duration: float) -> Wave:
    samples = round(duration * SAMPLE_RATE)
    if samples < 1:
        raise ValueError(f"a sound needs a duration of at least one sample at 16 kHz, got {duration} s")
    return np.arange(samples) / SAMPLE_RATE


def _at_reference_level(wave: Wave) -> Wave:
    level = np.sqrt(np.mean(wave**2))
    return (wave * (REFERENCE_RMS / max(level, 1e-9))).astype(np.float32)


@names_arguments
def synthesize(label: str, duration: float, seed: int | np.random.Generator) -> Float[np.ndarray, " samples"]:
    """One example of a class.

    Args:
        label: One of `CLASSES`.
        duration: Length in seconds.
        seed: An integer, or the generator to draw from.

    Returns:
        float32 samples at 16 kHz whose root mean square is `REFERENCE_RMS`.

    Raises:
        KeyError: For a label that is no class.
        ValueError: For a duration below one sample.
    """
    if label not in _RECIPES:
        raise KeyError(f"no synthetic sound {label!r}; there are {', '.join(CLASSES)}")
    return _at_reference_level(_RECIPES[label](_sample_times(duration), np.random.default_rng(seed)))


def background(duration: float, seed: int | np.random.Generator) -> Float[np.ndarray, " samples"]:
    """Steady noise with a drawn tilt, from white (flat power) to `f^-1.6`, close to pink.

    Args:
        duration: Length in seconds.
        seed: An integer, or the generator to draw from.

    Returns:
        float32 samples at 16 kHz whose root mean square is `REFERENCE_RMS`.

    Raises:
        ValueError: For a duration below one sample.
    """
    rng = np.random.default_rng(seed)
    tilt = rng.uniform(0, 0.8)
    t = _sample_times(duration)
    return _at_reference_level(_filtered_noise(t, rng, lambda f: (np.maximum(f, 20.0) / 1000) ** -tilt))
