"""Questions that ask when, made of annotated clips in FTAR's form.

Conventions: seconds from the start of the clip, one place behind the point.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip, Event
from mechaudio.audio.stored import duration_of
from mechaudio.data.annotated import SLACK, seconds
from mechaudio.data.clip_names import clips_of
from mechaudio.data.corpus import Corpus, Problems, brief
from mechaudio.data.ftar_phrases import (
    INSTRUCTIONS,
    TASKS,
    dense_answer,
    grounding_answer,
    grouped,
    timeline_answer,
)
from mechaudio.question import AudioQuestion

Task = Literal["dac", "tag", "tss", "tqa"]

SPLITS: Mapping[str, float] = {"train": 0.9, "val": 0.05, "test": 0.05}
"""Split -> its share of the clips."""


@checks_arguments
def build(
    clips: Iterable[AnnotatedClip],
    tasks: Sequence[Task] = ("dac", "tag"),
    *,
    seed: int = 0,
    splits: Mapping[str, float] = SPLITS,
    strict: bool = False,
) -> Corpus[AudioQuestion]:
    """Make questions that ask when, from annotated clips.

    A clip gives one dense caption (`dac`), a grounding question about each of its labels (`tag`), a question of how
    often and of how long about one label and of which of two begins first (`tqa`), and a timeline (`tss`) where
    `meta["timeline"]` has it: a list of onset, offset and summary.

    Args:
        clips: From any loader of `ma.data`, or one's own.
        tasks: Which tasks to make.
        seed: Draws instructions, labels and splits; those of a clip do not depend on the other clips.
        splits: Share of clips of each split. All questions about one recording are in one split.
        strict: Raise at the first problem instead of listing it.

    Returns:
        Open questions with `meta["task"]`, `meta["split"]`, `meta["duration"]`, `meta["clip"]` and the clip's events;
        in grounding questions, `meta["query"]` and `meta["intervals"]`, and in dense ones `meta["captions"]`.

    Raises:
        ValueError: No task, shares that are negative or do not add up to 1, or, if `strict`, at the first problem.
    """
    if not splits or min(splits.values()) < 0 or abs(sum(splits.values()) - 1) > 1e-6:
        raise ValueError(f"splits are shares that add up to 1, such as {dict(SPLITS)}, got {dict(splits)}")
    if not tasks:
        raise ValueError(f"tasks= names no task: give some of {', '.join(TASKS)}")
    problems, questions, known = Problems(strict), list[AudioQuestion](), set[str]()
    for number, clip in enumerate(clips):
        item = clip.id or f"clip-{number}"
        if item in known:
            problems.add("duplicate id", item, "an earlier clip has this id; left out: give each clip its own")
            continue
        known.add(item)
        duration = _duration(clip, item, problems)
        if duration is None:
            continue
        events = _within(clip.events, duration, item, problems)
        if not events and "timeline" not in clip.meta:
            problems.add("nothing annotated", item, "the clip has no event and no timeline; left out")
            continue
        rng = np.random.default_rng([seed, *blake2b(item.encode(), digest_size=8).digest()])
        before = len(questions)
        for task in TASKS:
            of_task = rng.spawn(1)[0]  # so that the draws of a task do not depend on the others
            if task in tasks:
                questions += _made(task, clip, item, events, duration, of_task, problems)
        if len(questions) == before:
            problems.add("nothing to ask", item, f"the clip has nothing that {' or '.join(tasks)} could ask; left out")
    names = clips_of(questions)
    kept = tuple(
        replace(question, meta={**question.meta, "split": _split(name, splits, seed)})
        for question, name in zip(questions, names, strict=True)
    )
    return Corpus("FTAR, built", kept, tuple(problems.found))


def _duration(clip: AnnotatedClip, item: str, problems: Problems) -> float | None:
    try:
        duration = duration_of(clip.audio)
    except (OSError, ValueError) as error:
        problems.add("no duration", item, f"{error}; left out: answers are held against the clip's length", error)
        return None
    if duration < 0.2:
        problems.add("no duration", item, f"the recording has {duration:g} s; left out")
        return None
    return duration


def _within(events: Sequence[Event], duration: float, item: str, problems: Problems) -> tuple[Event, ...]:
    kept = []
    for event in events:
        if event.onset >= duration:
            problems.add(
                "event past the end", item, f"{event.label!r} at {event.onset:g} s of {duration:g} s; left out"
            )
            continue
        if event.offset > duration + SLACK:
            problems.add("event past the end", item, f"{event.label!r} to {event.offset:g} s of {duration:g} s: cut")
        kept.append(replace(event, offset=min(event.offset, duration)))
    return tuple(kept)


def _made(
    task: str,
    clip: AnnotatedClip,
    item: str,
    events: tuple[Event, ...],
    duration: float,
    rng: np.random.Generator,
    problems: Problems,
) -> list[AudioQuestion]:
    """Make the questions of one task about one clip."""
    of_label = grouped(events, duration)
    common = {"task": task, "duration": duration, "clip": str(clip.meta.get("audio_id") or item)}

    def ask(name: str, kind: str, answer: str, more: Mapping[str, Any], **words: str) -> AudioQuestion:
        text = INSTRUCTIONS[kind][int(rng.integers(6))]
        for word, value in words.items():
            text = text.replace(f"{{{word}}}", value)
        return AudioQuestion(
            clip.audio, text, answer=answer, events=events, id=f"{item}-{name}", meta={**common, **more}
        )

    if task == "dac":
        captions = {label: list(intervals) for label, intervals in of_label.items()}
        return [ask("dac", "dac", dense_answer(captions), {"captions": captions})] if captions else []
    if task == "tag":
        return [
            ask(
                f"tag-{number}",
                "tag",
                grounding_answer(intervals),
                {"query": label, "intervals": tuple(intervals)},
                query=label,
            )
            for number, (label, intervals) in enumerate(of_label.items())
        ]
    if task == "tss":
        parts = _timeline(clip.meta["timeline"], duration, item, problems) if "timeline" in clip.meta else []
        return [ask("tss", "tss", timeline_answer(parts), {"timeline": tuple(parts)})] if parts else []
    return _temporal(of_label, rng, ask)


def _temporal(of_label: Mapping[str, list[tuple[float, float]]], rng: np.random.Generator, ask: Any) -> list:
    if not of_label:
        return []
    labels = list(of_label)
    query = labels[int(rng.integers(len(labels)))]
    count, length = len(of_label[query]), sum(offset - onset for onset, offset in of_label[query])
    times = "once" if count == 1 else f"{count} times"
    made = [
        ask("tqa-count", "tqa count", f"'{query}' is heard {times}.", {"query": query, "count": count}, query=query),
        ask(
            "tqa-duration",
            "tqa duration",
            f"'{query}' lasts {length:.1f} seconds altogether.",
            {"query": query, "seconds": round(length, 1)},
            query=query,
        ),
    ]
    apart = [other for other in labels if abs(of_label[other][0][0] - of_label[query][0][0]) >= 0.5]
    if apart:
        other = apart[int(rng.integers(len(apart)))]
        first = min(query, other, key=lambda label: of_label[label][0][0])
        made.append(
            ask("tqa-order", "tqa order", f"'{first}' begins first.", {"first": first}, query=query, other=other)
        )
    return made


def _timeline(given: Any, duration: float, item: str, problems: Problems) -> list[tuple[float, float, str]]:
    parts = []
    for part in given if isinstance(given, (list, tuple)) else [given]:
        shaped = isinstance(part, (list, tuple)) and len(part) == 3 and isinstance(part[2], str) and part[2].strip()
        onset, offset = (seconds(part[0]), seconds(part[1])) if shaped else (None, None)
        if onset is None or offset is None or not 0 <= onset < offset or onset >= duration:
            problems.add(
                "malformed timeline",
                item,
                f"a part is (onset, offset, summary) within {duration:g} s, got {brief(part)}; left out",
            )
            continue
        parts.append((onset, min(offset, duration), part[2].strip()))
    return sorted(parts)


def _split(name: str, splits: Mapping[str, float], seed: int) -> str:
    """Choose the split of a clip by a digest of its name."""
    drawn = int.from_bytes(blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), "big") / 2**64
    ends = np.cumsum(list(splits.values()))
    return list(splits)[min(int(np.searchsorted(ends, drawn, side="right")), len(splits) - 1)]
