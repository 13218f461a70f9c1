"""Synthetic scenes whose every event is known: what sounds, from when, until when, how loud.

A scene is a list of events, a length and a seed. `render` places events that you give, `draw_events` draws some,
`soundscape` does both and adds a caption.

Conventions: seconds from the start of the clip; 16 kHz mono; levels in dB relative to a root mean square of
`sounds.REFERENCE_RMS`; events may overlap and fade in and out over 10 ms. The sound and the level of an event depend on
the seed, its label and how many earlier events in the list share the label, and on nothing else: moving an event in
time, or adding and removing others, leaves it as it was. A mixture that would clip is turned down as a whole.
"""

import math
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.audio.sounds import CLASSES, SAMPLE_RATE, background, synthesize

__all__ = ["CLASSES", "SAMPLE_RATE", "describe", "draw_events", "render", "soundscape", "synthesize"]

FADE = 0.010
PEAK = 0.99
SHORTEST_EVENT, LONGEST_EVENT = 0.5, 6.0
GAIN = (-22.0, 0.0)
NOISE = (-30.0, -3.0)


def _rng(seed: int, *purpose: str | int) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in purpose)])


def _check_range(name: str, levels: tuple[float, float]) -> None:
    if len(levels) != 2 or not -math.inf < levels[0] <= levels[1] < math.inf:
        raise ValueError(f"{name} must be (lowest, highest) in dB, got {levels}")


def _faded(wave: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    since_onset = np.arange(len(wave)) / (FADE * SAMPLE_RATE)
    return wave * np.clip(since_onset, 0, 1) * np.clip(since_onset[::-1], 0, 1)


@checks_arguments
def render(
    events: Iterable[Event],
    duration: float,
    seed: int,
    *,
    gain: tuple[float, float] = GAIN,
    gains: Sequence[float] | None = None,
    noise: tuple[float, float] | None = NOISE,
) -> AudioClip:
    """The sound of a list of events.

    Args:
        events: What sounds when; each label one of `CLASSES`. May be empty.
        duration: Length of the clip in seconds.
        seed: Which examples, levels and background are drawn.
        gain: Lowest and highest level of an event in dB; each event's is drawn between them.
        gains: The level of each event in dB instead, one per event.
        noise: Lowest and highest level of the background in dB, or None for none.

    Returns:
        A mono clip at 16 kHz.

    Raises:
        KeyError: For a label that is no class.
        ValueError: For an event that ends after the clip, a range that is none, or as many `gains` as there are not
            events.
    """
    events = tuple(events)
    _check_range("gain", gain)
    if gains is not None and len(gains) != len(events):
        raise ValueError(
            f"gains must hold one level per event: {n_of(len(events), 'event')}, {n_of(len(gains), 'gain')}"
        )
    if not math.isfinite(duration):
        raise ValueError(f"duration must be finite, got {duration} s")
    samples = round(duration * SAMPLE_RATE)
    if samples < 1:
        raise ValueError(f"duration must be at least one sample at 16 kHz, got {duration} s")
    mixture = np.zeros(samples, dtype=np.float64)
    if noise is not None:
        _check_range("noise", noise)
        rng = _rng(seed, "background")
        mixture += 10 ** (rng.uniform(*noise) / 20) * background(duration, rng)
    heard: dict[str, int] = {}
    for index, event in enumerate(events):
        if event.offset > duration + 1e-6:
            raise ValueError(
                f"{event.label!r} ends at {event.offset} s, after the clip's {duration} s: make the clip longer"
            )
        occurrence = heard[event.label] = heard.get(event.label, 0) + 1
        level = _rng(seed, "gain", event.label, occurrence).uniform(*gain) if gains is None else gains[index]
        start = round(event.onset * SAMPLE_RATE)
        length = min(round(event.offset * SAMPLE_RATE), samples) - start
        wave = synthesize(event.label, length / SAMPLE_RATE, _rng(seed, "sound", event.label, occurrence))
        mixture[start : start + length] += 10 ** (level / 20) * _faded(wave)
    mixture *= min(1.0, PEAK / max(np.abs(mixture).max(), 1e-9))
    return AudioClip(mixture.astype(np.float32), SAMPLE_RATE)


@checks_arguments
def draw_events(
    seed: int,
    duration: float,
    n_events: int,
    *,
    labels: Sequence[str] = CLASSES,
    lengths: tuple[float, float] = (SHORTEST_EVENT, LONGEST_EVENT),
) -> tuple[Event, ...]:
    """Events of different classes, anywhere in the clip, free to overlap.

    Args:
        seed: Which are drawn.
        duration: Length of the clip in seconds.
        n_events: How many, at most one per label.
        labels: The classes to draw from, each as likely and with the same times.
        lengths: Shortest and longest event in seconds (drawn evenly in the logarithm); the longest is cut to 95% of
            the clip.

    Returns:
        Events sorted by onset, times in whole hundredths of a second.

    Raises:
        ValueError: For more events than labels, or a clip shorter than the shortest event.
    """
    if not 0 <= n_events <= len(labels):
        raise ValueError(f"n_events must be 0 to {len(labels)} (events of one clip differ in class), got {n_events}")
    shortest, longest = lengths[0], min(lengths[1], 0.95 * duration)
    if not 0 < shortest <= longest:
        raise ValueError(f"no event of {lengths[0]} to {lengths[1]} s fits into a clip of {duration} s")
    rng = _rng(seed, "events")
    chosen = rng.permutation(len(labels))[:n_events]
    events = []
    for label in chosen:
        length = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
        onset = round(rng.uniform(0, duration - length), 2)
        events.append(Event(labels[label], onset, min(round(onset + length, 2), duration)))
    return tuple(sorted(events, key=lambda event: (event.onset, event.offset)))


def half_second(time: float) -> float:
    """The nearest half second, halves going up: the resolution of captions."""
    return math.floor(2 * time + 0.5) / 2


@checks_arguments
def describe(events: Iterable[Event]) -> str:
    """A caption in onset order, times to the half second: `"hum from 0.5 to 4.0, siren from 3.5 to 9.0."`."""
    in_order = sorted(events, key=lambda event: (event.onset, event.offset))
    if not in_order:
        return "silence."
    parts = (f"{e.label} from {half_second(e.onset):.1f} to {half_second(e.offset):.1f}" for e in in_order)
    return ", ".join(parts) + "."


@checks_arguments
def soundscape(
    seed: int,
    duration: float = 10.0,
    n_events: int = 4,
    *,
    labels: Sequence[str] = CLASSES,
    lengths: tuple[float, float] = (SHORTEST_EVENT, LONGEST_EVENT),
    gain: tuple[float, float] = GAIN,
    noise: tuple[float, float] | None = NOISE,
) -> AnnotatedClip:
    """A scene drawn from a seed, with its events and a caption of them.

    Args:
        seed: The same seed and settings give the same samples.
        duration: Length in seconds; the shipped model takes 1 to 10.
        n_events: How many events, each of another class.
        labels: The classes to draw from.
        lengths: Shortest and longest event in seconds.
        gain: Lowest and highest level of an event in dB.
        noise: Lowest and highest level of the background in dB, or None for none.

    Returns:
        The clip (16 kHz, mono), its events sorted by onset, and their `describe`d caption.

    Raises:
        ValueError: As `draw_events` and `render` do.
    """
    events = draw_events(seed, duration, n_events, labels=labels, lengths=lengths)
    return AnnotatedClip(
        audio=render(events, duration, seed, gain=gain, noise=noise),
        events=events,
        caption=describe(events),
        id=f"soundscape-{seed}",
        meta={"seed": seed, "duration": duration, "gain": gain, "noise": noise},
    )
