"""Questions for the toy (`ma.load("toy")`): two voices sing one after the other; which comes first?

A voice is a sine. It sings in one of the clip's four seconds, from 0.28 to 0.68 s after the second begins; the other
one sings in a later second. Both are as loud as each other. How loud differs from question to question, which decides
whether the toy hears them well enough to answer.

Conventions: seconds; levels in dB relative to a sine of amplitude 0.1; question `i` of a seed depends on the seed, `i`
and the settings, not on how many are asked for.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.audio.sounds import SAMPLE_RATE
from mechaudio.data.soundscapes import check_kind
from mechaudio.question import AudioQuestion

SECONDS = 4
"""Length of a clip."""
VOICES: Mapping[str, int] = MappingProxyType({"bass": 400, "tenor": 800, "alto": 1600, "soprano": 3200})
"""Name and frequency in Hz. Every 40 ms hold whole periods, and every frequency is the centre of a bin of the 25 ms
transform that Whisper's features are made of: a steady voice gives one number, whenever it sings."""
BURST = (0.28, 0.68)
"""When a voice sings within its second."""
AMPLITUDE = 0.1
"""Amplitude of a sine at 0 dB."""
LEVEL = (-30.0, 0.0)
TEXT = "Which voice comes first?"


def render(events: Iterable[Event], level: float | int) -> AudioClip:
    """Four seconds of sines in silence.

    Args:
        events: Labels are `VOICES`.
        level: Level of each of them, in dB.

    Raises:
        KeyError: For a label that is no voice.
        ValueError: For an event that ends after the clip.
    """
    wave = np.zeros(SECONDS * SAMPLE_RATE)
    time = np.arange(len(wave)) / SAMPLE_RATE
    for event in events:
        if event.label not in VOICES:
            raise KeyError(f"no voice {event.label!r}; there are {', '.join(VOICES)}")
        if event.offset > SECONDS:
            raise ValueError(f"{event} ends after the clip, which lasts {SECONDS} s")
        sings = slice(round(event.onset * SAMPLE_RATE), round(event.offset * SAMPLE_RATE))
        wave[sings] += AMPLITUDE * 10 ** (level / 20) * np.sin(2 * np.pi * VOICES[event.label] * time[sings])
    return AudioClip(wave, SAMPLE_RATE)


def sung(voice: str, second: int) -> Event:
    """A voice that sings in a second of the clip, counted from 0."""
    return Event(voice, second + BURST[0], second + BURST[1])


def ask(
    events: Sequence[Event],
    choices: Sequence[str],
    level: float | int = 0.0,
    *,
    told: str | None = None,
    name: str = "toy",
) -> AudioQuestion:
    """The question about given events.

    Args:
        events: What sings when; the earliest is the answer.
        choices: Voices, the answer among them.
        level: In dB.
        told: The voice that the caption names as the first; the right one by default.
        name: The question's id.

    Returns:
        `meta` says the `level`, and the `second` in which the answer sings.
    """
    first = min(events, key=lambda event: event.onset)
    return AudioQuestion(
        audio=render(events, level),
        text=TEXT,
        choices=tuple(choices),
        answer=first.label,
        caption=f"{told or first.label} first",
        events=tuple(events),
        id=name,
        meta={"task": "earliest_onset", "keyword": "first", "level": level, "second": int(first.onset)},
    )


@checks_arguments
def question(
    index: int, seed: int, *, level: tuple[float | int, float | int] = LEVEL, n_choices: int = 4, conflict: bool = False
) -> AudioQuestion:
    """Question `index` of `questions(n, seed, ...)`, which explains the arguments."""
    if not 2 <= n_choices <= len(VOICES):
        raise ValueError(f"n_choices must be 2 to {len(VOICES)}, the number of voices, got {n_choices}")
    if not level[0] <= level[1]:
        raise ValueError(f"level must be (lowest, highest) in dB, got {level}")
    rng = np.random.default_rng([seed, index, 20_261])
    names = [str(name) for name in rng.permutation(list(VOICES))]
    seconds = np.sort(rng.choice(SECONDS, 2, replace=False))
    events = [sung(name, int(second)) for name, second in zip(names, seconds, strict=False)]
    return ask(
        events,
        [str(name) for name in rng.permutation(names[:n_choices])],
        float(rng.uniform(*level)),
        told=names[1] if conflict else None,
        name=f"toy-{seed}-{index}",
    )


@checks_arguments
def questions(
    n: int, seed: int, *, level: tuple[float | int, float | int] = LEVEL, n_choices: int = 4, conflict: bool = False
) -> list[AudioQuestion]:
    """Questions about two voices each, every voice, second and letter as likely as any other.

    Args:
        n: How many.
        seed: Which; ids read `toy-{seed}-{index}`.
        level: Lowest and highest level of the voices in dB; each question's is drawn between them. The toy hears
            0 dB well and -30 dB badly.
        n_choices: 2 to 4 voices, the two of the clip among them.
        conflict: Captions name the voice that comes second.

    Raises:
        ValueError: For a number of choices or a range of levels that cannot be.
    """
    return [question(index, seed, level=level, n_choices=n_choices, conflict=conflict) for index in range(n)]


@checks_arguments
def counterparts(questions: Iterable[AudioQuestion], kind: str = "events") -> list[AudioQuestion]:
    """For each question one that differs in a single thing and has the other voice for an answer.

    Args:
        questions: Made by `questions`, `question` or `ask`, about two voices each.
        kind: What differs. `events`: the two voices trade their seconds. `clip`: other voices may sing, in other
            seconds, another of the choices first. `caption`: it names the other voice, and the clip stays.

    Returns:
        As many, with the kind behind the `id`. `answer` is what the changed thing says, clip or caption, and `events`
        are those of the clip.

    Raises:
        ValueError: For an unknown kind, or a question that is not about two voices of the toy's.
    """
    check_kind(kind)
    return [_counterpart(question, kind) for question in questions]


def _counterpart(asked: AudioQuestion, kind: str) -> AudioQuestion:
    if "level" not in asked.meta or len(asked.events) != 2:
        raise ValueError(f"question {asked.id!r} is not about two voices of the toy's: make it with toy_questions")
    first, later = sorted(asked.events, key=lambda event: event.onset)
    name = f"{asked.id}-{kind}"
    if kind == "caption":
        other = later.label if asked.caption == f"{first.label} first" else first.label
        return replace(asked, id=name, answer=other, caption=f"{other} first")
    if kind == "events":
        events = [Event(later.label, first.onset, first.offset), Event(first.label, later.onset, later.offset)]
    else:
        rng = np.random.default_rng([zlib.crc32(asked.id.encode()), 20_262])
        voices = [str(name) for name in rng.permutation(list(VOICES))]
        opening = next(voice for voice in voices if voice in asked.choices and voice != asked.answer)
        second = next(voice for voice in voices if voice != opening)
        seconds = np.sort(rng.choice(SECONDS, 2, replace=False))
        events = [sung(opening, int(seconds[0])), sung(second, int(seconds[1]))]
    return replace(ask(events, asked.choices, asked.meta["level"], name=name), caption=asked.caption)
