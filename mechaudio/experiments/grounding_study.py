"""How well a model says when: TimeAudio's tasks asked of many clips, and scored.

The answers are written by `evaluate`, which keeps every batch and takes a stopped run up; what is read in them, and all
scores, are worked out from the texts, so that a kept study can be scored anew.

Conventions: seconds from the start of the clip; tasks are FTAR's (`mechaudio.data.ftar`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.streaming import Questions, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import Event
from mechaudio.audio.stored import duration_of
from mechaudio.experiments.evaluate import evaluate
from mechaudio.experiments.evaluation import Evaluation, Failure
from mechaudio.experiments.training_groups import marker_ids
from mechaudio.metrics import captions, grounding, sound_events
from mechaudio.metrics.estimates import Estimate
from mechaudio.metrics.spans import Described, Repairs, described_in, spans_in, total
from mechaudio.question import NO_QUESTIONS, AudioQuestion
from mechaudio.results import Provenance, Result
from mechaudio.showing import Shown
from mechaudio.timeaudio.markers import Markers
from mechaudio.tracing.audio_lm import AudioLM

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class DenseScores(Shown):
    """Scores of dense captions.

    Attributes:
        events: Event-based F1, captions mapped to classes.
        tags: F1 of which classes come in a clip.
        meteor: METEOR of all descriptions of a clip, one behind the other, without synonyms.
        repairs: What had to be mended in reading the answers.
    """

    events: sound_events.EventScores
    tags: sound_events.EventScores
    meteor: Estimate
    repairs: Repairs


@dataclass(frozen=True)
class TimelineScores(Shown):
    """Scores of timelines of speech.

    Attributes:
        summaries: ROUGE and METEOR of the summaries of a clip, one behind the other.
        mean_iou: Mean IoU of their spans, first with first.
        repairs: What had to be mended in reading the answers.
    """

    summaries: captions.CaptionScores
    mean_iou: Estimate
    repairs: Repairs


@dataclass(frozen=True, eq=False, kw_only=True)
class GroundingStudy(Result):
    """Answers to questions of when, and their scores.

    Attributes:
        evaluation: The answers, beside the right ones, whose spans are the references.
        durations: Length of the clip of each question that was answered.
        markers: Whether the model's tokenizer has time markers. Answers are read with them in any case: a model can
            write them in letters.
    """

    evaluation: Evaluation
    durations: Float[np.ndarray, " question"]
    markers: bool

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Questions that could not be asked."""
        return self.evaluation.failures

    @property
    def iou(self) -> Float[np.ndarray, " question"]:
        """Intersection over union of each grounding question; NaN of other tasks."""
        values = np.full(len(self.durations), np.nan)
        if self.grounding is not None:
            values[self.rows_of("tag")] = self.grounding.per_question
        return values

    def to_xarray(self) -> xarray.Dataset:
        """Return everything by question: what was written, the length of its clip, and `iou`."""
        data = self.evaluation.to_xarray()
        data = data.assign(duration=("question", self.durations), iou=("question", self.iou))
        return data.assign_attrs(self._attrs)

    def rows_of(self, task: str) -> list[int]:
        """Give the questions of a task."""
        return [row for row, each in enumerate(self.evaluation.tasks) if each == task]

    @cached_property
    def grounding(self) -> grounding.GroundingScores | None:
        """The scores of grounding (`tag`); None where none was asked."""
        rows = self.rows_of("tag")
        if not rows:
            return None
        references = [spans_in(self._right(row)).intervals for row in rows]
        return grounding.evaluate(
            [self.evaluation.texts[row] for row in rows],
            references,
            durations=[float(self.durations[row]) for row in rows],
            clips=self._clips(rows),
            markers=Markers(),
        )

    @cached_property
    def dense(self) -> DenseScores | None:
        """The scores of dense captions (`dac`), by the classes that the references name; None where none was asked."""
        rows = self.rows_of("dac")
        if not rows:
            return None
        right, said = ([self.described(row, of=side) for row in rows] for side in ("right", "said"))
        labels = dict.fromkeys(captions.normalised(label) for each in right for label in each.captions)
        to_class = sound_events.classes_of(list(labels))
        there = [_events(each, captions.normalised) for each in right]
        reported = [_events(each, str) for each in said]
        clips = self._clips(rows)
        joined = [[". ".join(each.captions) for each in side] for side in (said, right)]
        return DenseScores(
            sound_events.event_f1(reported, there, to_class=to_class, clips=clips),
            sound_events.tag_f1(reported, there, to_class=to_class, clips=clips),
            captions.evaluate(*joined, clips=clips).meteor,
            total([each.repairs for each in said]),
        )

    @cached_property
    def timelines(self) -> TimelineScores | None:
        """The scores of timelines (`tss`); None where none was asked."""
        rows = self.rows_of("tss")
        if not rows:
            return None
        right, said = ([self.described(row, of=side) for row in rows] for side in ("right", "said"))
        joined = [[". ".join(each.captions) for each in side] for side in (said, right)]
        spans = [[[span for run in each.intervals for span in run] for each in side] for side in (said, right)]
        clips = self._clips(rows)
        return TimelineScores(
            captions.evaluate(*joined, clips=clips),
            grounding.mean_iou(*spans, match="order", clips=clips),
            total([each.repairs for each in said]),
        )

    def described(self, row: int, *, of: str) -> Described:
        """Give the spans and captions of one question: of its `right` answer, or of what was `said`."""
        if of == "right":
            return described_in(self._right(row))
        return described_in(self.evaluation.texts[row], float(self.durations[row]), markers=Markers())

    def _right(self, row: int) -> str:
        return str(self.evaluation.answers[row])

    def _clips(self, rows: Sequence[int]) -> list[str] | None:
        names = self.evaluation.clips
        return [names[row] for row in rows] if names else None


def _events(described: Described, label_of: Callable[[str], str]) -> list[Event]:
    """Turn the parts of a dense caption into events; words that are missing are a caption of their own, `?`."""
    return [
        Event(label_of(caption) or "?", *interval)
        for caption, run in zip(described.captions, described.intervals, strict=True)
        for interval in run
    ]


@checks_arguments
def grounding_study(
    model: AudioLM,
    questions: Questions,
    *,
    max_new_tokens: int = 200,
    out: str | os.PathLike | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> GroundingStudy:
    """Ask a model TimeAudio's questions, and score what it writes.

    Args:
        model: An opened model with a processor.
        questions: From `ma.data.ftar.build` or `load`: open questions whose answers hold the right times.
        max_new_tokens: Most tokens of each answer.
        out: A folder for the answers, in which a run that was stopped is taken up.
        batch_size: Questions at once, by default as many as fit.
        workers: Processes that read clips and make prompts ahead of the model, as in `ma.evaluate`.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: No question, one without an answer or with choices, or a right answer without a time, or with one
            that lies beyond its clip.
        TypeError: A model without a processor.
    """
    questions = sequence_of(questions)
    if not len(questions):
        raise ValueError(NO_QUESTIONS)
    if model.processor is None:
        raise TypeError("this model was opened without a processor, so questions cannot be written out")
    durations = [_checked(question) for question in questions]
    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    where = None if out is None else Path(out)
    evaluation = evaluate(model, questions, scoring="generate", max_new_tokens=max_new_tokens, out=where, **running)
    settings = {"max_new_tokens": max_new_tokens, **evaluation.provenance.settings}
    failed = [failure.index for failure in evaluation.failures]  # several questions may have one id
    return GroundingStudy(
        evaluation=evaluation,
        durations=np.delete(np.array(durations, dtype=np.float64), failed),
        markers=bool(marker_ids(model.processor)),
        provenance=Provenance.collect(model, settings=settings),
    )


def _checked(question: AudioQuestion) -> float:
    """Give the length of a question's clip, once it is one that can be scored; NaN where the clip cannot be read."""
    if question.answer is None or question.choices:
        raise ValueError(
            f"question {question.id!r} is no open question with an answer: give those of ma.data.ftar, whose answers "
            "hold the right times"
        )
    if question.audio is None or isinstance(question.audio, tuple):
        raise ValueError(f"question {question.id!r} is not about one recording")
    try:
        duration = duration_of(question.audio)
    except (OSError, ValueError):
        return float("nan")  # evaluate lists the clip among its failures
    if question.meta.get("task") != "tqa":
        spans = spans_in(question.answer, duration + grounding.SLACK)
        refused = ("unparsed", "beyond", "swapped", "malformed", "clipped", "empty")
        if any(getattr(spans.repairs, repair) for repair in refused):
            raise ValueError(
                f"the right answer to question {question.id!r} gives no time within its clip of {duration:g} s, or "
                f"also one that is none: {question.answer!r:.120}"
            )
    return duration


__all__ = ["DenseScores", "GroundingStudy", "TimelineScores", "grounding_study"]
