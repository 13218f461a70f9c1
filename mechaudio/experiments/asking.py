"""Asking questions batch by batch, under every variant: prompts, answers, and who could not be asked.

The prompt runs once for all variants: letter logits come from one sweep, texts continue from what it left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mechaudio.analyses.streaming import length_of
from mechaudio.experiments.batches import Placed, batches
from mechaudio.experiments.run_log import Row, RunLog, digest, task_of
from mechaudio.interventions.generate_variants import generate_variants
from mechaudio.interventions.selecting import check_choice
from mechaudio.interventions.sweep import sweep
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import PromptFormat, prompt
from mechaudio.processes import Work
from mechaudio.progress import Bar
from mechaudio.question import BY_WORDS, EVERY_CONDITION, AudioQuestion, refuse_open
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import generate, run

SCORINGS = ("letter_logit", "generate")
UNASKABLE = (ValueError, OSError)
"""What a recording that is missing, damaged, too long or too short raises, or a question that lacks something."""

Variants = Sequence[Sequence[Intervention]]
Logits = tuple[float, ...]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Asking:
    """How questions are asked.

    Attributes:
        condition: What the model is given.
        scoring: `letter_logit`, or `generate` for greedy generation.
        max_new_tokens: Of a generated answer.
        layout: How questions are written out.
        allow_cut: Take the beginning of recordings that are longer than the model hears.

    Raises:
        ValueError: For a condition or scoring that there is not, or fewer than one new token.
    """

    condition: str = "audio"
    scoring: str = "letter_logit"
    max_new_tokens: int = 32
    layout: PromptFormat = field(default_factory=PromptFormat)
    allow_cut: bool = False

    def __post_init__(self):
        if self.condition not in EVERY_CONDITION:
            raise ValueError(f"condition is one of {EVERY_CONDITION}, got {self.condition!r}")
        check_choice("scoring", self.scoring, SCORINGS)
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")


def measured(model: AudioLM, asking: Asking, window: Sequence[Placed]) -> tuple[list[Placed], list[Row]]:
    """The questions with about how long they are; and rows of those whose recording is missing or no sound."""
    lengths, failed = _each(window, lambda placed: length_of(model, placed.question, asking.condition))
    return [replace(placed, length=length) for placed, length in lengths.items()], failed


def ask(model: AudioLM, asking: Asking, together: Sequence[Placed], variants: Variants) -> list[Row]:
    """Ask some questions together, under every variant.

    Args:
        model: An `AudioLM`.
        asking: How.
        together: The questions.
        variants: The interventions of each variant; of several, the first is the clean run, with none.

    Returns:
        One row per question.
    """
    opened, batch, failed = prompts_of(model, asking, together)
    if batch is None:
        return failed
    if asking.scoring == "generate":
        texts = _texts(model, batch, variants, asking.max_new_tokens)
        found = zip(opened, zip(*texts, strict=True), strict=True)
        return failed + [replace(_row(placed), texts=said) for placed, said in found]
    found = zip(opened, _letter_logits(model, batch, variants), strict=True)
    return failed + [replace(_row(placed), logits=logits) for placed, logits in found]


def prompts_of(
    model: AudioLM, asking: Asking, together: Sequence[Placed]
) -> tuple[list[Placed], PromptBatch | None, list[Row]]:
    """The questions of a batch that can be asked, their prompts (None without any), and rows of those that cannot."""
    opened, failed = _each(together, lambda placed: _opened(asking, placed.question))
    try:
        batch = _prompts(model, asking, list(opened.values())) if opened else None
    except UNASKABLE:  # of one of them: each by itself says of which
        askable, refused = _each(opened, lambda placed: _prompts(model, asking, [opened[placed]]).n_rows)
        opened = {placed: opened[placed] for placed in askable}
        failed += refused
        batch = _prompts(model, asking, list(opened.values())) if opened else None
    return list(opened), batch, failed


@dataclass(frozen=True, eq=False)
class Together:
    """Questions that are asked together, or of which it is known already that they cannot be asked.

    Attributes:
        placed: The questions.
        failed: What became of those that cannot be asked.
        again: Whether they could not be asked before.
    """

    placed: Sequence[Placed]
    failed: Sequence[Row] = ()
    again: bool = False


class Asker:
    """Asks questions batch by batch, those batches that no other process asks.

    Args:
        model: An `AudioLM`.
        asking: How.
        variants: The interventions of each variant.
        log: Takes the answers.
        drawn: Shows how many questions the log has.
        strict: Raise at the first question that cannot be asked.
    """

    def __init__(self, model: AudioLM, asking: Asking, variants: Variants, log: RunLog, drawn: Bar, strict: bool):
        self._model, self._asking, self._variants = model, asking, variants
        self._log, self._drawn, self._strict = log, drawn, strict
        self._show()
        self._work: Work[Together] = Work(
            log.shared, number=lambda batch: batch.placed[0].index, is_done=self._is_done, do=self._do
        )

    def ask(self, window: Sequence[Placed], *, again: bool = False) -> None:
        """Ask questions that are held together.

        Args:
            window: The questions.
            again: Whether they could not be asked before.

        Raises:
            ValueError: An open question that is to be answered by a letter; one that cannot be asked, where that is
                strict.
        """
        if self._asking.scoring != "generate":
            refuse_open(
                [placed.question for placed in window],
                f"scoring={self._asking.scoring!r}",
                f'ma.evaluate(..., scoring="generate") scores what it writes; {BY_WORDS}',
            )
        self._work.review()
        askable, failed = measured(self._model, self._asking, window)
        if failed:
            by_index = {placed.index: placed for placed in window}
            self._work.offer(Together([by_index[row.index] for row in failed], failed, again))
        for together in batches(askable, self._log.header["positions"], self._log.header["batch_size"]):
            self._work.offer(Together(together, again=again))

    def finish(self) -> None:
        """Wait for the batches that other processes are asking."""
        self._work.finish()

    def _do(self, batch: Together) -> None:
        log = self._log
        rows = batch.failed or ask(self._model, self._asking, batch.placed, self._variants)
        wrong = next((row for row in rows if row.error), None)
        if self._strict and wrong is not None:
            raise ValueError(f"question {wrong.id!r}: {wrong.error} (without strict=True it is listed instead)")
        log.add([row for row in rows if row != log.rows.get(row.index)])  # one that fails as before is known
        self._show()

    def _is_done(self, batch: Together) -> bool:
        """Whether the log has the batch, from this process or another."""
        log = self._log
        log.refresh()
        self._show()
        known = [placed for placed in batch.placed if placed.index in log.rows]
        for placed in known:
            log.check(placed.index, placed.question)
        failed = batch.again and any(log.rows[placed.index].error for placed in known)
        return len(known) == len(batch.placed) and not failed

    def _show(self) -> None:
        self._drawn.update(len(self._log.rows) - self._drawn.n)


def _each(questions: Iterable[Placed], tried: Callable[[Placed], Found]) -> tuple[dict[Placed, Found], list[Row]]:
    """What is found of each question, and the rows of those of which nothing can be."""
    found, failed = {}, []
    for placed in questions:
        try:
            found[placed] = tried(placed)
        except UNASKABLE as error:
            unsized = digest(placed.question, sized=False)
            failed.append(replace(_row(placed), question=unsized, error=f"{type(error).__name__}: {error}"))
    return found, failed


def _row(placed: Placed) -> Row:
    question = placed.question
    return Row(placed.index, question.id, digest(question), task_of(question), question.choices, question.answer)


def _opened(asking: Asking, question: AudioQuestion) -> AudioQuestion:
    """The question with its recording read, if it is needed."""
    return (
        question
        if asking.condition == "caption" or question.audio is None
        else replace(question, audio=question.clips())
    )


def _prompts(model: AudioLM, asking: Asking, questions: Sequence[AudioQuestion]) -> PromptBatch:
    return prompt(model, questions, condition=asking.condition, layout=asking.layout, allow_cut=asking.allow_cut)


def _letter_logits(model: AudioLM, batch: PromptBatch, variants: Variants) -> Iterator[tuple[Logits, ...]]:
    """Per question and variant, the logits of the choices' letters."""
    if len(variants) == 1:
        logits = run(model, batch, interventions=variants[0], logits="last").logits[:, -1]
        for row, question in zip(choice_logits(batch, logits.float()).tolist(), batch.questions, strict=True):
            yield (tuple(row[: len(question.choices)]),)
        return
    swept = sweep(model, batch, variants[1:], progress=False)
    found = [swept.clean.tolist(), *swept.logits.tolist()]
    for row, question in enumerate(batch.questions):
        yield tuple(tuple(logits[row][: len(question.choices)]) for logits in found)


def _texts(model: AudioLM, batch: PromptBatch, variants: Variants, max_new_tokens: int) -> list[Sequence[str]]:
    """Per variant, what the model writes to each question."""
    if len(variants) > 1:
        written = generate_variants(model, batch, variants[1:], max_new_tokens=max_new_tokens, progress=False)
        return [written.clean_texts, *written.texts]
    return [generate(model, batch, max_new_tokens=max_new_tokens, interventions=variants[0]).texts]
