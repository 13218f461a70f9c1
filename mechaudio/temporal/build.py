"""Annotated clips in, temporal questions out.

The construction of "A Closer Look at Failure Modes in Temporal Understanding of Large Audio-Language Models"
(Interspeech 2026), which makes 1,657 questions of TACOS:

1. The events of a clip are grouped into sounds: a repeated label is one sound.
2. The right answer is the sound with the earliest onset, the latest offset or the longest duration. It leads every
   other sound by a margin of a second, or the clip gives no question.
3. Wrong options are other sounds of the clip; where there are fewer than three, sounds of clips of another category.
4. The options are shuffled.

What the paper leaves open is in `Settings`. Everything drawn depends on seed, task and clip alone.
"""

from collections.abc import Callable, Iterable, Sequence

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.corpus import Corpus
from mechaudio.data.temporal_phrases import TASKS
from mechaudio.question import AudioQuestion
from mechaudio.temporal.benchmark import Benchmark, Dropped
from mechaudio.temporal.distractors import Pool, wrong_options
from mechaudio.temporal.draws import shuffled
from mechaudio.temporal.settings import Settings
from mechaudio.temporal.sounds import Sound, sounds_of, token_overlap
from mechaudio.temporal.tasks import BY_NAME, Task

MICROSECONDS = 1_000_000  # times are compared in whole ones: 2.3 - 1.3 is less than 1.0 in floating point


@checks_arguments
def build(
    clips: Iterable[AnnotatedClip],
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
    settings: Settings | None = None,
    *,
    similarity: Callable[[str, str], float] = token_overlap,
) -> Benchmark:
    """Make temporal questions of annotated clips, at most one per clip and task.

    ```python
    benchmark = ma.temporal.build(ma.data.tacos.load("tacos"), seed=0)
    print(benchmark.card())
    benchmark.save("temporal")
    ```

    Args:
        clips: With ids that are all different; what a loader of `ma.data` gives. No recording is opened.
        tasks: Any of `earliest_onset`, `latest_offset`, `longest_duration`.
        seed: Which options are drawn, and their order.
        settings: Everything else, see `Settings`.
        similarity: How alike two texts are, from 0 to 1, where `settings.paraphrase` sets a limit; by default the share
            of common words.

    Returns:
        The questions, clip by clip, each with the clip's recording, caption and events. `meta` has `task`, `keyword`,
        `clip` (its id), `lead` (seconds by which the answer leads, None where it is the clip's only sound) and
        `options_from` (`clip` or `elsewhere`, one per choice). Clips without a question are in `dropped`.

    Raises:
        TypeError: For something else than annotated clips.
        ValueError: For an unknown task, a task named twice, or two clips of one id.
    """
    settings = settings or Settings()
    chosen = _tasks(tasks)
    kept = _checked(clips)
    pool = Pool(kept, settings.category)
    questions: list[AudioQuestion] = []
    dropped: list[Dropped] = []
    for clip in kept:
        sounds = sounds_of(clip)
        for task in chosen:
            made = _question(clip, sounds, task, seed, settings, pool, similarity)
            if isinstance(made, str):
                dropped.append(Dropped(clip.id, task.name, made))
            else:
                questions.append(made)
    return Benchmark(
        questions=tuple(questions),
        dropped=tuple(dropped),
        corpus=f"{clips.name} {clips.version}".strip() if isinstance(clips, Corpus) else "",
        n_clips=len(kept),
        tasks=tuple(task.name for task in chosen),
        seed=seed,
        settings=settings,
        similarity=_name_of(similarity) if settings.paraphrase is not None else "",
    )


def _question(
    clip: AnnotatedClip,
    sounds: Sequence[Sound],
    task: Task,
    seed: int,
    settings: Settings,
    pool: Pool,
    similarity: Callable[[str, str], float],
) -> AudioQuestion | str:
    """The question of one clip and task, or the reason why there is none."""
    if not sounds:
        return "no events"
    if len(sounds) < settings.fewest_sounds:
        return "too few sounds"
    merits = {sound.key: round(task.merit(sound.segments, settings.duration) * MICROSECONDS) for sound in sounds}
    best, *others = sorted(sounds, key=lambda sound: merits[sound.key], reverse=True)
    leads = {sound.key: merits[best.key] - merits[sound.key] for sound in others}
    clear = [sound for sound in others if 0 < leads[sound.key] >= round(settings.margin * MICROSECONDS)]
    needed = len(others) if settings.margin_scope == "clip" else settings.fewest_sounds - 1
    if 0 in leads.values() or len(clear) < needed:
        return "no clear answer"
    rivals = others if settings.margin_scope == "clip" else clear
    limit = settings.paraphrase
    similarity = _told(similarity)
    if limit is not None and any(similarity(best.text, sound.text) >= limit for sound in rivals):
        return "possible paraphrase"

    def alike(text: str) -> bool:
        return limit is not None and any(similarity(text, sound.text) >= limit for sound in sounds)

    wrong = wrong_options(settings.n_choices - 1, clip, clear, sounds, pool, alike, seed, task.name, clip.id)
    if len(wrong) < settings.n_choices - 1:
        return "too few distractors"
    origin = wrong | {best.text: "clip"}
    choices = shuffled(list(origin), seed, task.name, clip.id, "order")
    offered = [leads[sound.key] for sound in clear if sound.text in wrong]
    meta = {
        "task": task.name,
        "keyword": task.keyword,
        "clip": clip.id,
        "lead": min(offered) / MICROSECONDS if offered else None,
        "options_from": tuple(origin[choice] for choice in choices),
    }
    if pool.category_of(clip):
        meta["category"] = pool.category_of(clip)
    if clip.meta.get("license"):
        meta["license"] = str(clip.meta["license"])
    return AudioQuestion(
        audio=clip.audio,
        text=settings.question(task.name),
        choices=choices,
        answer=best.text,
        caption=clip.caption,
        events=clip.events,
        id=f"{task.name}-{clip.id}",
        meta=meta,
    )


def _told(similarity: Callable[[str, str], float]) -> Callable[[str, str], float]:
    """The similarity, refused where it is no number from 0 to 1."""

    def told(one: str, other: str) -> float:
        value = similarity(one, other)
        if not 0 <= value <= 1:
            raise ValueError(f"similarity= is a number from 0 to 1, and of {one!r} and {other!r} it says {value!r}")
        return value

    return told


def _tasks(names: Sequence[str]) -> list[Task]:
    given = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in given if name not in BY_NAME]
    if unknown or not given:
        raise ValueError(f"tasks are any of {', '.join(BY_NAME)}, got {given}")
    if len(set(given)) < len(given):
        raise ValueError(f"a task is named twice: {given}")
    return [BY_NAME[name] for name in given]


def _name_of(similarity: Callable[[str, str], float]) -> str:
    return getattr(similarity, "__name__", type(similarity).__name__)


def _checked(clips: Iterable[AnnotatedClip]) -> tuple[AnnotatedClip, ...]:
    kept, seen = tuple(clips), set()
    for index, clip in enumerate(kept):
        if not clip.id or clip.id in seen:
            what = "has no id" if not clip.id else f"has the id {clip.id!r}, and so has another"
            raise ValueError(f"clips[{index}] {what}: draws are keyed on ids, so give each clip its own, id=FILENAME")
        seen.add(clip.id)
    return kept
