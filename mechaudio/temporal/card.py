"""The card of a benchmark: what a reader needs to know before believing an accuracy on it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mechaudio.arguments import n_of
from mechaudio.writing import markdown

if TYPE_CHECKING:
    from mechaudio.temporal.benchmark import Benchmark

REASONS = {
    "no events": "the clip has no events",
    "too few sounds": "the clip has fewer different sounds than `fewest_sounds`",
    "no clear answer": "no sound leads by the margin, or two are level",
    "possible paraphrase": "another sound of the clip is called much like the answer",
    "too few distractors": "the corpus has too few sounds of other categories",
}


def card(benchmark: "Benchmark") -> str:
    """Describe a benchmark: what it holds, how it was built, what was dropped and why, as markdown."""
    letters = Counter(question.answer_letter for question in benchmark)
    origins = Counter(
        "answer" if choice == question.answer else origin
        for question in benchmark
        for choice, origin in zip(question.choices, question.meta["options_from"], strict=True)
    )
    leads = sorted(question.meta["lead"] for question in benchmark if question.meta["lead"] is not None)
    captioned = sum(question.caption is not None for question in benchmark)
    n_questions = Counter(question.meta["clip"] for question in benchmark)
    clips, shared = len(n_questions), sum(times > 1 for times in n_questions.values())
    chance = f"{1 / benchmark.settings.n_choices:.1%}"
    parts = [
        "# Temporal questions",
        f"{n_of(len(benchmark), 'multiple-choice question')} about {n_of(benchmark.n_clips, 'annotated clip')}"
        f"{f' of {markdown(benchmark.corpus)}' if benchmark.corpus else ''}, built by mechaudio after *A Closer Look "
        "at Failure Modes in Temporal Understanding of Large Audio-Language Models* (Interspeech 2026). Chance is "
        f"{chance}.",
        _table(("task", "questions", "clips without one"), _task_rows(benchmark)),
        "## What was dropped, and why",
        _table(("task", "reason", "clips"), _dropped_rows(benchmark)),
        "## The options",
        f"Right letters: {_counts(letters)}. Wrong options from the same clip: {origins['clip']}; from other clips: "
        f"{origins['elsewhere']}. {_leads(leads)} {n_of(captioned, 'question has', 'questions have')} a caption.",
        f"The {n_of(len(benchmark), 'question is', 'questions are')} about {n_of(clips, 'clip')}, "
        f"{shared} of them with more than one question. "
        "Questions of one "
        'clip are not independent: split by clip (`meta["clip"]`), and take them as a cluster in intervals and '
        "tests.",
        "A wrong option from elsewhere is a sound that is not annotated in the clip; free-text annotations may call a "
        "sound of the clip by another name.",
        "## Settings",
        _table(("setting", "value"), [("seed", benchmark.seed), *asdict(benchmark.settings).items()]),
    ]
    licenses = Counter(question.meta["license"] for question in benchmark if "license" in question.meta)
    if licenses:
        parts.append(f"Questions by the license of their recording: {_counts(licenses)}.")
    if benchmark.similarity:
        parts.append(f"Texts are compared by {markdown(benchmark.similarity)}.")
    return "\n\n".join(parts) + "\n"


def _task_rows(benchmark: "Benchmark") -> list[tuple[object, ...]]:
    n_questions = Counter(question.meta["task"] for question in benchmark)
    return [(task, n_questions[task], benchmark.n_clips - n_questions[task]) for task in benchmark.tasks]


def _dropped_rows(benchmark: "Benchmark") -> list[tuple[object, ...]]:
    counts = benchmark.dropped_counts()
    rows = [(task, f"{reason}: {REASONS[reason]}", n) for task, found in counts.items() for reason, n in found.items()]
    return rows or [("any", "nothing was", 0)]


def _leads(leads: Sequence[float]) -> str:
    if not leads:
        return ""
    return f"The answer leads the closest option of its clip by {leads[len(leads) // 2]:.2f} s in the median."


def _counts(counter: Counter) -> str:
    return ", ".join(f"{markdown(str(name))} {n}" for name, n in sorted(counter.items())) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(markdown(str(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
