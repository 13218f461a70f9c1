"""Fresh multiple-choice questions about synthetic soundscapes, for the shipped model; and the scenes alone.

Each question asks for the event with the earliest onset, the latest offset or the longest duration. Its right answer
leads every other event of the clip by a margin, in the clip and in the caption's rounded times alike, so a complete
caption always suffices. Classes have no habits here (every class is as likely to be long or late as any other): nothing
can be answered from the text alone.

Conventions: seconds; question `i` of a seed depends on the seed, `i` and the settings, not on how many are asked for. A
question carries its 10 s of sound (0.64 MB): for very many, make them one by one with `question`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.audio.soundscape import CLASSES, GAIN, describe, draw_events, half_second, render, soundscape
from mechaudio.data.temporal_phrases import KEYWORDS, PHRASES, TASKS
from mechaudio.question import AudioQuestion

HARD_NOISE = (-10.0, 0.0)
"""Level of the background in dB: loud, so that the shipped model, almost perfect in quiet, has something to miss."""
_TRIES = 2000
SHORTEST, LONGEST = 0.5, 3600.0
"""Length of a clip, in seconds."""

KINDS = ("events", "clip", "caption")
"""Changes that `counterparts` make."""

LEAD: Mapping[str, Callable[[Event], float]] = MappingProxyType(
    {
        "earliest_onset": lambda event: -event.onset,
        "latest_offset": lambda event: event.offset,
        "longest_duration": lambda event: event.offset - event.onset,
    }
)
"""Measures that the right answer of each task has most of, in seconds."""


def winner(events: Sequence[Event], task: str, margin: float) -> Event | None:
    """The event that answers `task`, or None where no event leads all others by `margin` seconds."""
    ranked = sorted(events, key=LEAD[task], reverse=True)
    if len(ranked) > 1 and LEAD[task](ranked[0]) - LEAD[task](ranked[1]) < margin:
        return None
    return ranked[0]


def _clear_winner(events: Sequence[Event], task: str, margin: float) -> Event | None:
    """The winner, if the caption's rounded times name the same one by half a second or more."""
    rounded = [Event(e.label, half_second(e.onset), half_second(e.offset)) for e in events]
    best, written = winner(events, task, margin), winner(rounded, task, 0.5)
    return best if best is not None and written is not None and best.label == written.label else None


def _scene(
    rng: np.random.Generator, task: str, duration: float, n_events: tuple[int, int], margin: float
) -> tuple[Event, ...]:
    most = max(2, int(1 + duration / 1.5))
    low, high = min(n_events[0], most), min(n_events[1], most)
    for _ in range(_TRIES):
        events = draw_events(int(rng.integers(2**31)), duration, int(rng.integers(low, high + 1)))
        if _clear_winner(events, task, margin) is not None:
            return events
    raise ValueError(
        f"no scene of {low} to {high} events in {duration:.1f} s has a {task} with a margin of {margin} s after "
        f"{_TRIES} tries: ask for a smaller margin, fewer events or a longer clip"
    )


def _contradicting(
    rng: np.random.Generator, events: Sequence[Event], choices: Sequence[str], task: str, margin: float
) -> tuple[tuple[Event, ...], str] | None:
    """Deal the times of events out anew, so that the caption has another answer among the choices."""
    truth = winner(events, task, margin)
    for _ in range(50):
        dealt = rng.permutation(len(events))
        retold = tuple(Event(e.label, events[i].onset, events[i].offset) for e, i in zip(events, dealt, strict=True))
        claim = _clear_winner(retold, task, margin)
        if claim is not None and truth is not None and claim.label != truth.label and claim.label in choices:
            return retold, claim.label
    return None


def _choices(rng: np.random.Generator, events: Sequence[Event], answer: str, n_choices: int) -> tuple[str, ...]:
    sounding = [e.label for e in events if e.label != answer]
    absent = [label for label in CLASSES if label != answer and label not in sounding]
    others = [*rng.permutation(sounding), *rng.permutation(absent)][: n_choices - 1]
    return tuple(str(label) for label in rng.permutation([answer, *others]))


@checks_arguments
def question(
    index: int,
    seed: int,
    *,
    tasks: Sequence[str] = TASKS,
    duration: float | tuple[float, float] = 10.0,
    n_choices: int = 4,
    n_events: tuple[int, int] = (3, 6),
    margin: float = 1.0,
    gain: tuple[float, float] = GAIN,
    noise: tuple[float, float] | None = HARD_NOISE,
    paraphrase: int | str = 0,
    conflict: bool = False,
) -> AudioQuestion:
    """Question `index` of `questions(n, seed, ...)`, which explains the arguments."""
    if not tasks:
        raise ValueError(f"tasks is empty: name at least one of {', '.join(TASKS)}")
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"no temporal task {task!r}; there are {', '.join(TASKS)}")
    if not 2 <= n_choices <= len(CLASSES):
        raise ValueError(f"n_choices must be 2 to {len(CLASSES)}, the number of classes, got {n_choices}")
    task = tasks[index % len(tasks)]
    phrases = PHRASES[task]
    if not (paraphrase == "random" or (isinstance(paraphrase, int) and 0 <= paraphrase < len(phrases))):
        raise ValueError(f"paraphrase must be 0 to {len(phrases) - 1} or 'random', got {paraphrase!r}")
    rng = np.random.default_rng([seed, index, 20_260])
    shortest, longest = (duration, duration) if isinstance(duration, (int, float)) else duration
    if not SHORTEST <= shortest <= longest <= LONGEST:
        raise ValueError(f"duration is {SHORTEST:g} to {LONGEST:g} seconds, the shorter first; got {duration!r}")
    if not 1 <= n_events[0] <= n_events[1]:
        raise ValueError(
            f"n_events is the fewest and the most events of a clip, at least 1 and in order; got {n_events}"
        )
    seconds = round(float(rng.uniform(shortest, longest)), 2)
    for _ in range(_TRIES):
        events = _scene(rng, task, seconds, n_events, margin)
        best = winner(events, task, margin)
        assert best is not None
        choices = _choices(rng, events, best.label, n_choices)
        retold = _contradicting(rng, events, choices, task, margin) if conflict else None
        if retold is not None or not conflict:
            break
    else:
        raise ValueError(
            f"no caption contradicts a clip of {seconds} s with a margin of {margin} s: ask for a smaller margin"
        )
    meta = {"task": task, "keyword": KEYWORDS[task], "seed": seed, "index": index, "duration": seconds}
    meta |= {"margin": margin, "gain": gain, "noise": noise}
    if retold is not None:
        meta["caption_answer"] = retold[1]
    wording = int(rng.integers(len(phrases))) if paraphrase == "random" else paraphrase
    meta["sound_seed"] = int(rng.integers(2**31))
    return AudioQuestion(
        audio=render(events, seconds, meta["sound_seed"], gain=gain, noise=noise),
        text=phrases[wording],
        choices=choices,
        answer=best.label,
        caption=describe(events if retold is None else retold[0]),
        events=events,
        id=f"soundscapes-{seed}-{index}",
        meta=meta,
    )


@checks_arguments
def questions(
    n: int,
    seed: int,
    *,
    tasks: Sequence[str] = TASKS,
    duration: float | tuple[float, float] = 10.0,
    n_choices: int = 4,
    n_events: tuple[int, int] = (3, 6),
    margin: float = 1.0,
    gain: tuple[float, float] = GAIN,
    noise: tuple[float, float] | None = HARD_NOISE,
    paraphrase: int | str = 0,
    conflict: bool = False,
) -> list[AudioQuestion]:
    """Fresh questions, the tasks in turn, the right letter anywhere with the same chance.

    Args:
        n: How many.
        seed: Which; ids read `soundscapes-{seed}-{index}`.
        tasks: Any of `earliest_onset`, `latest_offset`, `longest_duration`.
        duration: Clip length in seconds, or the shortest and longest to draw from; the shipped model takes 1 to 10.
        n_choices: Options per question, classes all different: events of the clip first, then classes that it lacks.
        n_events: Fewest and most events in a clip (short clips hold fewer: at most `1 + duration / 1.5`).
        margin: By how many seconds the right answer leads every other event of the clip.
        gain: Lowest and highest level of an event in dB.
        noise: Lowest and highest level of the background in dB, or None for none.
        paraphrase: Which wording of `temporal_phrases.PHRASES`; 0 is the canonical one, "random" draws one per
            question.
        conflict: Captions contradict the clip: the events trade their times, `answer` is what the clip says and
            `meta["caption_answer"]` what the caption says, another of the choices.

    Returns:
        Questions with the clip, the complete caption, the clip's events and `meta["task"]`, `meta["keyword"]`.
        `counterparts` makes the other half of pairs from them.

    Raises:
        ValueError: For an unknown task, a number of choices or a paraphrase that does not exist, or a margin that
            cannot be had.
    """
    return [
        question(
            index,
            seed,
            tasks=tasks,
            duration=duration,
            n_choices=n_choices,
            n_events=n_events,
            margin=margin,
            gain=gain,
            noise=noise,
            paraphrase=paraphrase,
            conflict=conflict,
        )
        for index in range(n)
    ]


@checks_arguments
def counterparts(questions: Iterable[AudioQuestion], kind: str = "events") -> list[AudioQuestion]:
    """For each question one that differs in a single thing and has another of the choices for an answer.

    Text, choices and the length of the clip stay, so that the two make a pair of clean and corrupted prompts:

    ```python
    clean = ma.data.soundscapes.questions(32, seed=0)
    pairs = ma.analyses.contrast(model, clean, corrupted=ma.data.soundscapes.counterparts(clean))
    ```

    Args:
        questions: Made by `questions` or `question`.
        kind: What differs. `events`: in the clip, the answer and another of the choices trade their times; every
            sound, level and the background stay as they are. `clip`: another clip of the same length, with other
            events and another background. `caption`: the answer and another of the choices trade their times in the
            caption, which keeps all of its words; the clip stays, so these pairs are for the conditions with a caption.

    Returns:
        As many, with the kind behind the `id`. `answer` is what the changed thing says, clip or caption; `events` are
        those of the clip, and `meta["caption_answer"]` is what the caption says.

    Raises:
        ValueError: For an unknown kind, a question that was not made here, one without a second event among its
            choices, or a caption that contradicts its clip already.
    """
    check_kind(kind)
    return [_counterpart(question, kind) for question in questions]


def check_kind(kind: str) -> None:
    """Refuse a kind of counterpart that there is not.

    Raises:
        ValueError: There is no such kind; the message lists them.
    """
    if kind not in KINDS:
        raise ValueError(f"kind= is one of {', '.join(KINDS)}, got {kind!r}")


def _counterpart(asked: AudioQuestion, kind: str) -> AudioQuestion:
    meta = asked.meta
    if "sound_seed" not in meta or asked.answer is None:
        raise ValueError(
            f"question {asked.id!r} was not made by ma.data.soundscapes.questions, so its sound cannot be made anew: "
            "make the questions there, or give counterparts of your own"
        )
    caption_answer = meta.get("caption_answer", asked.answer)
    if kind == "caption" and caption_answer != asked.answer:
        raise ValueError(
            f"the caption of question {asked.id!r} contradicts its clip already: make the questions with conflict=False"
        )
    rng = np.random.default_rng([meta["seed"], meta["index"], 20_262])
    if kind == "clip":
        events, answer = _other_scene(rng, asked)
        sound_seed = int(rng.integers(2**31))
    else:
        events, answer = _traded(rng, asked)
        sound_seed = meta["sound_seed"]
    name = f"{asked.id}-{kind}"
    if kind == "caption":
        return replace(asked, id=name, answer=answer, caption=describe(events), meta={**meta, "caption_answer": answer})
    return replace(
        asked,
        id=name,
        audio=render(events, meta["duration"], sound_seed, gain=meta["gain"], noise=meta["noise"]),
        answer=answer,
        events=events,
        meta={**meta, "caption_answer": caption_answer, "sound_seed": sound_seed},
    )


def _traded(rng: np.random.Generator, asked: AudioQuestion) -> tuple[tuple[Event, ...], str]:
    """The events, answer and another of the choices each at the other's times; that other one leads by as much now."""
    others = [event for event in asked.events if event.label in asked.choices and event.label != asked.answer]
    if not others:
        raise ValueError(
            f"question {asked.id!r} has one event among its choices, and nothing to trade times with: ask for "
            "n_events of 2 or more"
        )
    other = others[int(rng.integers(len(others)))]
    name = {asked.answer: other.label, other.label: asked.answer}
    return tuple(Event(name.get(e.label, e.label), e.onset, e.offset) for e in asked.events), other.label


def _other_scene(rng: np.random.Generator, asked: AudioQuestion) -> tuple[tuple[Event, ...], str]:
    """Other events with another winner among the choices."""
    task, margin, n_events = asked.meta["task"], asked.meta["margin"], len(asked.events)
    for _ in range(_TRIES):
        events = _scene(rng, task, asked.meta["duration"], (n_events, n_events), margin)
        best = winner(events, task, margin)
        if best is not None and best.label != asked.answer and best.label in asked.choices:
            return events, best.label
    raise ValueError(f"no other clip answers question {asked.id!r} with another of its choices after {_TRIES} tries")


def clips(
    n: int,
    seed: int,
    *,
    duration: float = 10.0,
    n_events: tuple[int, int] = (3, 6),
    gain: tuple[float, float] = GAIN,
    noise: tuple[float, float] | None = HARD_NOISE,
) -> list[AnnotatedClip]:
    """Fresh scenes with their events, for `ma.temporal.build`; events fall as they fall, and some have no clear winner.

    Args:
        n: How many.
        seed: Which; ids read `soundscapes-{seed}-clip-{index}`, and clip `i` does not depend on `n`.
        duration: Length in seconds; the shipped model takes 1 to 10.
        n_events: Fewest and most events in a clip, each of another class.
        gain: Lowest and highest level of an event in dB.
        noise: Lowest and highest level of the background in dB, or None for none.

    Returns:
        Clips with their complete captions.

    Raises:
        ValueError: As `mechaudio.audio.soundscape.soundscape` does.
    """
    made = []
    for index in range(n):
        rng = np.random.default_rng([seed, index, 20_261])
        many, drawn = int(rng.integers(n_events[0], n_events[1] + 1)), int(rng.integers(2**31))
        scene = soundscape(drawn, duration, many, gain=gain, noise=noise)
        made.append(replace(scene, id=f"soundscapes-{seed}-clip-{index}"))
    return made
