"""Scores of answers that say when something happens.

Conventions: an interval is `(onset, offset)` in seconds, the onset first. A question's reference may have several; its
score is one number from 0 to 1, and 0 for an answer in which no span can be read.

- `interval_iou`: seconds that both sets of intervals share over seconds that either covers (unions).
- `matched_iou`: intersection over union interval by interval, in the pairing that suits the answer best (Hungarian
  method) or in the order that they come; those without a partner count 0.
- `mean_iou`, `recall_at`: over questions, with intervals by clip. `evaluate`: all of them, from the answers' texts.

Reference: TimeAudio (arXiv 2511.11039), appendix C, names mean IoU and recall at 0.5, 0.7 and 0.9 and leaves open how
several intervals are compared; unions are what its mean IoU is taken for here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.bootstrap import mean_estimate
from mechaudio.metrics.clips import Clips
from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.significance import share
from mechaudio.metrics.spans import Described, Interval, ReadsMarkers, Repairs, Spans, described_in, spans_in, total

Match = Literal["union", "best", "order"]
Intervals = Sequence[Interval]

THRESHOLDS = (0.5, 0.7, 0.9)
"""Overlaps (IoU) at which recall is reported."""
#: Seconds that a reference may end after its clip: annotations are rounded.
SLACK = 0.1


@checks_arguments
def interval_iou(predicted: Intervals, reference: Intervals) -> float:
    """Return the seconds that two sets of intervals share over the seconds that either covers.

    Intervals of a set that overlap count once. No predicted interval gives 0.

    ```python
    interval_iou([(0.0, 2.0)], [(1.0, 3.0)])     # 1 s of 3 s
    ```

    Args:
        predicted: Intervals of an answer.
        reference: The right ones, at least one.

    Raises:
        ValueError: There is no reference interval, or one does not end after it begins, begins before the clip or is
            not finite.
    """
    _refuse_none(reference)
    shared = _shared(_union(predicted), _union(reference))
    both = _length(predicted) + _length(reference) - shared
    return shared / both


@checks_arguments
def matched_iou(predicted: Intervals, reference: Intervals, match: Literal["best", "order"] = "best") -> float:
    """Return the intersection over union of pairs of intervals, summed and divided by the longer list's length.

    ```python
    matched_iou([(0.0, 2.0), (5.0, 6.0)], [(5.0, 6.0), (0.0, 1.0)])     # (1 / 2 + 1) / 2
    ```

    Args:
        predicted: Intervals of an answer.
        reference: The right ones, at least one.
        match: Pairs: `best`, those with the largest sum, each interval in one pair; `order`, first with first.

    Raises:
        ValueError: As `interval_iou`.
    """
    _refuse_none(reference)
    _union([*predicted, *reference])  # which refuses what is no interval
    longer = max(len(predicted), len(reference))
    if not len(predicted):
        return 0.0
    said, right = np.array(predicted, dtype=float), np.array(reference, dtype=float)
    if match == "order":
        n = min(len(said), len(right))
        return float(_pair_iou(said[:n], right[:n]).sum()) / longer
    pairs = _pair_iou(said[:, None], right)
    return float(pairs[linear_sum_assignment(-pairs)].sum()) / longer


def _pair_iou(said: Float[np.ndarray, "*#pair 2"], right: Float[np.ndarray, "*#pair 2"]) -> Float[np.ndarray, "*pair"]:
    """Intersection over union of single intervals, as broadcast against each other."""
    shared = np.maximum(0.0, np.minimum(said[..., 1], right[..., 1]) - np.maximum(said[..., 0], right[..., 0]))
    return shared / (np.ptp(said, axis=-1) + np.ptp(right, axis=-1) - shared)


@checks_arguments
def ious(
    predicted: Sequence[Intervals | Spans], reference: Sequence[Intervals], *, match: Match = "union"
) -> Float[np.ndarray, " question"]:
    """Return one intersection over union per question.

    Args:
        predicted: Intervals of each answer, or its `Spans`.
        reference: Those of the right answers.
        match: `union`: `interval_iou`; `best` or `order`: `matched_iou`.

    Raises:
        ValueError: For other numbers of answers than of references, none, or a question without a reference.
    """
    checked.same_length(predicted=predicted, reference=reference)
    if not len(reference):
        raise ValueError("there is no question, so nothing can be scored")
    scores = []
    for index, (answer, right) in enumerate(zip(predicted, reference, strict=True)):
        intervals = answer.intervals if isinstance(answer, Spans) else answer
        if not right:
            raise ValueError(
                f"reference[{index}] has no interval: a question whose sound never comes has no right "
                "span; leave it out"
            )
        scores.append(interval_iou(intervals, right) if match == "union" else matched_iou(intervals, right, match))
    return np.array(scores)


@checks_arguments
def mean_iou(
    predicted: Sequence[Intervals | Spans],
    reference: Sequence[Intervals],
    *,
    match: Match = "union",
    clips: Clips | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the mean of `ious` with a bootstrap interval over clips.

    Args:
        predicted: As for `ious`.
        reference: As for `ious`.
        match: As for `ious`.
        clips: The clip of each question; by default each is about a clip of its own.
        confidence: Level of the interval.
        seed: Which clips are drawn.

    Raises:
        ValueError: As `ious`.
    """
    return mean_estimate(ious(predicted, reference, match=match), clips=clips, confidence=confidence, seed=seed)


@checks_arguments
def recall_at(
    predicted: Sequence[Intervals | Spans],
    reference: Sequence[Intervals],
    threshold: float,
    *,
    match: Match = "union",
    clips: Clips | None = None,
    confidence: float = 0.95,
) -> Proportion:
    """Return the share of questions whose intersection over union reaches a threshold.

    Args:
        predicted: As for `ious`.
        reference: As for `ious`.
        threshold: From 0 to 1, such as 0.5.
        match: As for `ious`.
        clips: The clip of each question.
        confidence: Level of the interval.

    Raises:
        ValueError: A threshold outside 0 to 1, and as `ious`.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold of intersection over union is above 0 and at most 1, got {threshold}")
    # A hair below, so that 0.5 of tenths of a second is 0.5.
    reached = ious(predicted, reference, match=match) >= threshold - 1e-9
    return share(reached, clips=clips, confidence=confidence)


@dataclass(frozen=True)
class GroundingScores:
    """Scores of answers to questions of when.

    Attributes:
        mean_iou: Mean IoU of unions of intervals.
        best_iou: Interval by interval, in the best pairing.
        recall: Share of questions that reach each threshold, of unions.
        unparsed: Share of answers in which no span could be read.
        repairs: All that had to be mended in reading them.
        per_question: Intersection over union of each question, of unions.
        spans: What was read in each answer.
    """

    mean_iou: Estimate
    best_iou: Estimate
    recall: Mapping[float, Proportion]
    unparsed: Proportion
    repairs: Repairs
    per_question: tuple[float, ...]
    spans: tuple[Spans, ...]

    def __str__(self) -> str:
        recalls = ", ".join(f"R@{threshold:g} {each.value:.1%}" for threshold, each in self.recall.items())
        return f"mean IoU {self.mean_iou.in_percent()}; {recalls}; unparsed {self.unparsed.value:.1%}"

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, for JSON."""
        return {
            "mean_iou": self.mean_iou.as_dict(),
            "best_iou": self.best_iou.as_dict(),
            "recall": {f"{threshold:g}": each.as_dict() for threshold, each in self.recall.items()},
            "unparsed": self.unparsed.as_dict(),
            "repairs": self.repairs.as_dict(),
        }


@checks_arguments
def evaluate(
    answers: Sequence[str],
    references: Sequence[Intervals],
    *,
    durations: Sequence[float] | None = None,
    clips: Clips | None = None,
    markers: ReadsMarkers | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> GroundingScores:
    """Score answers in words: read their spans, mend what can be mended and count it, and compare.

    Args:
        answers: One per question.
        references: The right intervals of each, at least one.
        durations: Length of each clip in seconds; spans are cut at its end. Without it none is cut.
        clips: The clip of each question; intervals draw clips with all their questions.
        markers: Reader of time markers, for answers that are written with them.
        confidence: Level of the intervals.
        seed: Which clips are drawn.

    Raises:
        ValueError: For other numbers of answers than of references, a question without a reference, a reference beyond
            its clip, a length that is no positive number, or markers without a reader.
    """
    checked.same_length(answers=answers, references=references)
    lengths: Sequence[float | None] = [None] * len(answers) if durations is None else durations
    checked.same_length(answers=answers, durations=lengths)
    for index, (intervals, length) in enumerate(zip(references, lengths, strict=True)):
        last = max((offset for _, offset in intervals), default=0.0)
        if length is not None and last > length + SLACK:
            raise ValueError(
                f"references[{index}] ends at {last:g} s, its clip after {length:g} s: are both in seconds?"
            )
    spans = [spans_in(text, length, markers=markers) for text, length in zip(answers, lengths, strict=True)]
    scores = ious(spans, references)
    at = {each: recall_at(spans, references, each, clips=clips, confidence=confidence) for each in THRESHOLDS}
    return GroundingScores(
        mean_estimate(scores, clips=clips, confidence=confidence, seed=seed),
        mean_iou(spans, references, match="best", clips=clips, confidence=confidence, seed=seed),
        at,
        share([bool(each.repairs.unparsed) for each in spans], clips=clips, confidence=confidence),
        total([each.repairs for each in spans]),
        tuple(scores.tolist()),
        tuple(spans),
    )


def _refuse_none(reference: Intervals) -> None:
    if not reference:
        raise ValueError("there is no reference interval, so nothing could be found")


def _union(intervals: Intervals) -> list[Interval]:
    merged: list[Interval] = []
    for onset, offset in sorted(intervals):
        if not 0 <= onset < offset < math.inf:
            raise ValueError(
                f"an interval ends after it begins, both in seconds from the start of the clip; got {onset} to {offset}"
            )
        if merged and onset <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], offset))
        else:
            merged.append((onset, offset))
    return merged


def _shared(first: Sequence[Interval], second: Sequence[Interval]) -> float:
    """Sum the seconds that two unions share; each is gone through once, as their stretches follow one another."""
    seconds, here, there = 0.0, 0, 0
    while here < len(first) and there < len(second):
        (onset, offset), (begin, end) = first[here], second[there]
        seconds += max(0.0, min(offset, end) - max(onset, begin))
        here, there = (here + 1, there) if offset < end else (here, there + 1)
    return seconds


def _length(intervals: Intervals) -> float:
    return float(sum(offset - onset for onset, offset in _union(intervals)))


__all__ = [
    "THRESHOLDS",
    "Described",
    "GroundingScores",
    "Repairs",
    "Spans",
    "described_in",
    "evaluate",
    "interval_iou",
    "ious",
    "matched_iou",
    "mean_iou",
    "recall_at",
    "spans_in",
]
