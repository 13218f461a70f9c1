"""Scenes of synthetic and recorded sounds, and what is asked about them: `scene(bank, seed, split)`.

A scene is samples, the questions about its sound and the questions about its caption. A question is the text as
`ma.prompt` writes it, the answer and a kind. Whoever trains on a scene sees its sound *or* its caption, never both.

Conventions: 16 kHz; times in seconds; levels in dB relative to a root mean square of `REFERENCE_RMS`.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from mechaudio.audio.events import Event
from mechaudio.audio.sounds import CLASSES, REFERENCE_RMS, SAMPLE_RATE, background, synthesize
from mechaudio.audio.soundscape import describe, half_second
from mechaudio.data.soundscapes import winner
from mechaudio.data.temporal_phrases import EVERYDAY_PHRASES, PHRASES, TASKS

SECONDS = 10
LETTERS = "ABCDEF"
SPEAKERS = {"man speaking": "man", "woman speaking": "woman"}
PRESENT = ("Which sound is heard?", "Which of these sounds can you hear?", "Which sound is in the recording?")
DESCRIBE = ("Describe the sound events.", "Describe the audio.", "What do you hear?", "What can be heard, and when?")
SENTENCE = ("Describe the audio in a sentence.", "Describe what happens in one sentence.")
TRANSCRIBE = ("Transcribe the speech.", "What is said?", "Write down the words.")
EASY, HARD = ((-14.0, 0.0), (-32.0, -6.0)), ((-22.0, 0.0), (-10.0, 0.0))
"""Lowest and highest level of an event, and of the background."""


class Asked(NamedTuple):
    """A question: its text, the answer, and what kind it is."""

    text: str
    answer: str
    kind: str


class Bank:
    """The recordings of `bank.py`, by what they are and whether for training or for testing."""

    def __init__(self, folder: str | Path) -> None:
        samples, _ = soundfile.read(Path(folder) / "bank.flac", dtype="float32")
        self.rows = json.loads((Path(folder) / "bank.json").read_text())
        ends = np.cumsum([row["samples"] for row in self.rows])
        self.waves = [samples[end - row["samples"] : end] for end, row in zip(ends, self.rows, strict=True)]
        self._index: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(self.rows):
            if "label" in row:
                self._index.setdefault((row["label"], row["split"]), []).append(index)
            else:
                for key in ((row["kind"],), (row["kind"], row["voice"]), (row["kind"], row["sex"])):
                    self._index.setdefault((*key, row["split"]), []).append(index)

    def labels(self, split: str) -> list[str]:
        """The sounds that there are recordings of, speech included."""
        recorded = {row["label"] for row in self.rows if "label" in row and row["split"] == split}
        return [*sorted(recorded), *SPEAKERS]

    def voices(self, split: str) -> list[str]:
        """The voices of espeak-ng."""
        return sorted({row["voice"] for row in self.rows if "voice" in row and row["split"] == split})

    def draw(self, rng: np.random.Generator, *key: str) -> int:
        """The index of one of the recordings under a key, such as a label or `("word", voice)`, and a split."""
        return int(rng.choice(self._index[key]))


def _leveled(wave: np.ndarray) -> np.ndarray:
    return (wave * (REFERENCE_RMS / max(math.sqrt(float(np.mean(wave**2))), 1e-6))).astype(np.float32)


def _faster(wave: np.ndarray, factor: float) -> np.ndarray:
    return np.interp(np.arange(0, len(wave) - 1, factor), np.arange(len(wave)), wave).astype(np.float32)


def _faded(wave: np.ndarray) -> np.ndarray:
    ramp = np.arange(len(wave)) / (0.01 * SAMPLE_RATE)
    return wave * np.clip(ramp, 0, 1) * np.clip(ramp[::-1], 0, 1)


def sound(bank: Bank, label: str, seconds: float, rng: np.random.Generator, split: str) -> np.ndarray:
    """One event's samples: a synthetic sound, a stretch of a long recording, or a short one again and again."""
    if label in CLASSES:
        return synthesize(label, seconds, rng)
    length = round(seconds * SAMPLE_RATE)
    if label not in SPEAKERS:
        index = bank.draw(rng, label, split)
        wave = bank.waves[index]
        if bank.rows[index]["kind"] == "recording" and len(wave) > length:
            start = int(rng.integers(len(wave) - length))
            return _leveled(wave[start : start + length])
    out = np.zeros(length, np.float32)
    factor = rng.uniform(0.95, 1.05) if label in SPEAKERS else rng.uniform(0.9, 1.1)
    voice = str(rng.choice(_voices_of(bank, label, split))) if label in SPEAKERS else ""
    gap, at = rng.uniform(0.25, 0.6), 0
    while at < length:
        if label in SPEAKERS:
            wave = bank.waves[bank.draw(rng, "word", voice, split)]
        repeated = _faster(wave, factor)
        count = min(len(repeated), length - at)
        out[at : at + count] += repeated[:count]
        at += max(round(gap * SAMPLE_RATE), int(len(repeated) * (1.08 if label in SPEAKERS else 0.6)))
    return _leveled(out)


def _voices_of(bank: Bank, label: str, split: str) -> list[str]:
    rows = (row for row in bank.rows if row["split"] == split)
    return sorted({row["voice"] for row in rows if row.get("sex") == SPEAKERS[label]})


def draw_events(rng: np.random.Generator, labels: Sequence[str], seconds: float, count: int) -> tuple[Event, ...]:
    """Events of different labels, half a second to six seconds long, wherever they fall."""
    longest = min(6.0, 0.95 * seconds)
    events = []
    for index in rng.permutation(len(labels))[:count]:
        length = math.exp(rng.uniform(math.log(0.5), math.log(longest)))
        onset = round(rng.uniform(0, seconds - length), 2)
        events.append(Event(labels[index], onset, min(round(onset + length, 2), seconds)))
    return tuple(sorted(events, key=lambda event: (event.onset, event.offset)))


def render(
    bank: Bank,
    events: Sequence[Event],
    seconds: float,
    rng: np.random.Generator,
    split: str,
    levels: tuple[tuple[float, float], tuple[float, float]],
) -> np.ndarray:
    """The samples of a scene; `levels` as `EASY`."""
    gain, noise = levels
    mixture = (10 ** (rng.uniform(*noise) / 20) * background(seconds, rng)).astype(np.float32)
    for event in events:
        start = round(event.onset * SAMPLE_RATE)
        length = min(round(event.offset * SAMPLE_RATE), len(mixture)) - start
        wave = sound(bank, event.label, length / SAMPLE_RATE, rng, split)[:length]
        mixture[start : start + len(wave)] += 10 ** (rng.uniform(*gain) / 20) * _faded(wave)
    return mixture * min(1.0, 0.99 / max(np.abs(mixture).max(), 1e-9))


def rounded(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events at the times that a caption gives them."""
    return tuple(Event(e.label, half_second(e.onset), half_second(e.offset)) for e in events)


def with_choices(text: str, choices: Sequence[str] = (), caption: str | None = None) -> str:
    """A question as `ma.prompt` writes it."""
    lines = [] if caption is None else [f"Caption: {caption}"]
    return "\n".join([*lines, text, *(f"{letter}: {choice}" for letter, choice in zip(LETTERS, choices, strict=False))])


def drawn_choices(
    rng: np.random.Generator, answer: str, likely: Sequence[str], others: Sequence[str], count: int
) -> list[str]:
    """The answer among `count` choices, the likely ones first to be taken, in any order."""
    wrong = [*rng.permutation([x for x in likely if x != answer]), *rng.permutation([x for x in others if x != answer])]
    return [str(x) for x in rng.permutation([answer, *wrong[: count - 1]])]


def _count(rng: np.random.Generator) -> int:
    return int(rng.choice([2, 3, 4, 4, 4, 4, 5, 6]))


def temporal(
    rng: np.random.Generator,
    events: Sequence[Event],
    labels: Sequence[str],
    task: str,
    *,
    caption: str | None = None,
    margin: float = 0.5,
    count: int | None = None,
    phrase: str | None = None,
) -> tuple[Asked, list[str]] | None:
    """A question of first, last or longest and its choices, or None where no event leads the others clearly."""
    best = winner(events, task, margin)
    if best is None or len(events) < 2:
        return None
    if caption is not None:
        named = winner(rounded(events), task, 0.5)
        if named is None or named.label != best.label:
            return None
    sounding = [event.label for event in events]
    absent = [label for label in labels if label not in sounding]
    choices = drawn_choices(rng, best.label, sounding, absent, count or _count(rng))
    text = phrase or str(rng.choice(PHRASES[task] + EVERYDAY_PHRASES[task]))
    letter = LETTERS[choices.index(best.label)]
    return Asked(with_choices(text, choices, caption), letter, task), choices


def present(
    rng: np.random.Generator,
    events: Sequence[Event],
    labels: Sequence[str],
    *,
    caption: str | None = None,
    count: int | None = None,
) -> tuple[Asked, list[str]]:
    """A question which of the choices, of which one sounds, is heard."""
    sounding = [event.label for event in events]
    answer = str(rng.choice(sounding))
    choices = drawn_choices(rng, answer, [], [x for x in labels if x not in sounding], count or _count(rng))
    text = with_choices(str(rng.choice(PRESENT)), choices, caption)
    return Asked(text, LETTERS[choices.index(answer)], "present"), choices


def when(event: Event, kind: int) -> tuple[str, str]:
    """An open question about the times of an event, and its answer, to the half second."""
    onset, offset = half_second(event.onset), half_second(event.offset)
    return (
        (f"When does the {event.label} start?", f"{onset:.1f}"),
        (f"When does the {event.label} end?", f"{offset:.1f}"),
        (f"How long is the {event.label}?", f"{offset - onset:.1f}"),
        (f"When do you hear the {event.label}?", f"from {onset:.1f} to {offset:.1f}"),
    )[kind]


def _sentence(events: Sequence[Event]) -> str:
    words = [f"the sound of {event.label}" for event in events]
    return (
        f"There is {words[0]}." if len(words) == 1 else f"First there is {words[0]}, then {', then '.join(words[1:])}."
    )


def questions(
    rng: np.random.Generator, events: Sequence[Event], labels: Sequence[str]
) -> tuple[list[Asked], list[Asked]]:
    """The questions about a scene's sound, and those about its caption."""
    of_sound, of_caption = [], []
    caption = describe(events)
    for task in TASKS:
        of_sound += [made[0] for made in (temporal(rng, events, labels, task) for _ in range(2)) if made]
        if made := temporal(rng, events, labels, task, caption=caption):
            of_caption.append(made[0])
    of_sound += [present(rng, events, labels)[0] for _ in range(2)]
    of_caption.append(present(rng, events, labels, caption=caption)[0])
    heard = bool(rng.integers(2))
    absent = [label for label in labels if label not in {event.label for event in events}]
    label = str(rng.choice([event.label for event in events] if heard else absent))
    order = ["yes", "no"] if rng.integers(2) else ["no", "yes"]
    letter = LETTERS[order.index("yes" if heard else "no")]
    of_sound.append(Asked(with_choices(f"Can you hear the {label}?", order), letter, "yes or no"))
    of_sound.append(Asked(str(rng.choice(DESCRIBE)), caption, "describe"))
    sentence = str(rng.choice(SENTENCE))
    of_sound.append(Asked(sentence, _sentence(events), "sentence"))
    of_caption.append(Asked(with_choices(sentence, caption=caption), _sentence(events), "sentence"))
    for index in rng.permutation(len(events))[:2]:
        text, answer = when(events[index], int(rng.integers(4)))
        of_sound.append(Asked(text, answer, "when"))
        of_caption.append(Asked(with_choices(text, caption=caption), answer, "when"))
    return of_sound, of_caption


def sound_scene(bank: Bank, seed: int) -> tuple[np.ndarray, list[Asked], list[Asked]]:
    """A scene of one to six events: a third of them synthetic only, a quarter in loud noise."""
    rng = np.random.default_rng([seed, 77])
    labels = list(CLASSES) if rng.random() < 0.35 else [*CLASSES, *bank.labels("train")]
    seconds = round(float(rng.uniform(4, SECONDS)), 2) if rng.random() < 0.6 else float(SECONDS)
    most = min(6, max(2, int(1 + seconds / 1.5)))
    events = draw_events(rng, labels, seconds, int(rng.integers(1 if rng.random() < 0.3 else 2, most + 1)))
    wave = render(bank, events, seconds, rng, "train", HARD if rng.random() < 0.25 else EASY)
    return wave, *questions(rng, events, labels)


def speech_scene(bank: Bank, seed: int, split: str) -> tuple[np.ndarray, list[Asked]]:
    """One to five words of one voice, or a sentence; the transcription is the first question."""
    rng = np.random.default_rng([seed, 78])
    parts = [np.zeros(round(rng.uniform(0.1, 0.6) * SAMPLE_RATE), np.float32)]
    sentence = rng.random() < 0.3
    words: list[str] = []
    voice = str(rng.choice(bank.voices(split)))
    for _ in range(1 if sentence else int(rng.integers(1, 6))):
        index = bank.draw(rng, "sentence" if sentence else "word", voice, split)
        parts.append(_leveled(_faster(bank.waves[index], rng.uniform(0.95, 1.05))))
        parts.append(np.zeros(round(rng.uniform(0.1, 0.45) * SAMPLE_RATE), np.float32))
        words += bank.rows[index]["text"].split()
    wave = np.concatenate(parts)[: SECONDS * SAMPLE_RATE]
    wave = wave + 10 ** (rng.uniform(-40, -12) / 20) * background(len(wave) / SAMPLE_RATE, rng)[: len(wave)]
    made = [Asked(str(rng.choice(TRANSCRIBE)), " ".join(words), "transcribe")]
    if not sentence:
        others = [row["text"] for row in bank.rows if row["kind"] == "word" and row["text"] not in words]
        for which, word in (("first", words[0]), ("last", words[-1])):
            drawn = [str(other) for other in rng.choice(sorted(set(others)), 12, replace=False)]
            choices = drawn_choices(rng, word, [], drawn, _count(rng))
            letter = LETTERS[choices.index(word)]
            made.append(Asked(with_choices(f"Which word is spoken {which}?", choices), letter, "spoken"))
        made.append(Asked("How many words are spoken?", str(len(words)), "count"))
    return wave.astype(np.float32), made


def scene(bank: Bank, seed: int) -> tuple[np.ndarray, list[Asked], list[Asked]]:
    """A scene for training; every sixth is speech alone."""
    return (*speech_scene(bank, seed, "train"), []) if seed % 6 == 5 else sound_scene(bank, seed)
