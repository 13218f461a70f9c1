"""Scores of lists of sound events: which were reported, and when they begin and end.

Conventions: seconds from the start of the clip; one list of `Event` per clip; labels are compared as they are written,
after `to_class`, which makes a class of a caption, has been called on those that are predicted.

- `event_f1`: an event is right if one of its class begins within the collar, and ends within the larger of the collar
  and a share of its length; as many pairs as possible are made, each event in one (the numbers of `sed_eval` with
  optimal matching).
- `tag_f1`: which classes come in a clip at all, each class counted alike.
- `classes_of`: the class whose words a caption holds.

References: Mesaros, Heittola, Virtanen, "Metrics for polyphonic sound event detection", Applied Sciences 6:162, 2016;
TimeAudio (arXiv 2511.11039), which maps captions to classes by a small language model that it does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.events import Event
from mechaudio.metrics import checked
from mechaudio.metrics.bootstrap import drawn_weights, fewest, given_ends, percentile_interval
from mechaudio.metrics.captions import normalised
from mechaudio.metrics.clips import Clips, clip_numbers, n_clips, shared, summed
from mechaudio.metrics.estimates import Estimate

Events = Sequence[Event]
ToClass = Callable[[str], str | None]

#: Class of captions that `to_class` gives none; no label of a recording, which may be "?", reads so.
UNKNOWN = "\0"
#: Seconds by which the search for events within reach is wider; they are compared as they are.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class EventScores:
    """F1 of events or of tags, with what it is made of.

    Attributes:
        f1: Harmonic mean of precision and recall over all events.
        precision: Share of the predicted events that are right.
        recall: Share of the reference's that were found.
        macro_f1: Mean over classes of the F1 of each. A class that is reported and never there counts 0, which
            `sed_eval` leaves out of its mean.
        per_class: F1 of each class that is predicted or in the reference.
        right: Pairs.
        predicted: Predicted events.
        reference: Events of the reference.
        unmapped: Predicted events whose caption has no class; they count as wrong ones.
    """

    f1: Estimate
    precision: float
    recall: float
    macro_f1: Estimate
    per_class: Mapping[str, float]
    right: int
    predicted: int
    reference: int
    unmapped: int

    def __str__(self) -> str:
        return f"F1 {self.f1.in_percent()}; mean over {n_of(len(self.per_class), 'class')} {self.macro_f1.in_percent()}"

    def as_dict(self) -> dict[str, Any]:
        """The scores by name, for JSON."""
        numbers = ("precision", "recall", "right", "predicted", "reference", "unmapped")
        return {
            "f1": self.f1.as_dict(),
            "macro_f1": self.macro_f1.as_dict(),
            "per_class": dict(self.per_class),
            **{name: getattr(self, name) for name in numbers},
        }


@checks_arguments
def event_f1(
    predicted: Sequence[Events],
    reference: Sequence[Events],
    *,
    collar: float = 0.2,
    percentage_of_length: float = 0.2,
    onset: bool = True,
    offset: bool = True,
    to_class: ToClass | None = None,
    clips: Clips | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> EventScores:
    """Return the event-based F1.

    ```python
    dog, late = ma.Event("dog", 1.0, 2.0), ma.Event("dog", 1.5, 2.0)
    event_f1([[late]], [[dog]]).f1.value     # 0: half a second late
    ```

    Args:
        predicted: Events of each clip that were reported.
        reference: Events of each clip.
        collar: Seconds that an onset, or offset, may be away.
        percentage_of_length: Share of the reference event's length that its offset may be away, where this is more than
            the collar: 0.2 in AudioGrounding's own evaluation, 0.5 by default in `sed_eval`.
        onset: Compare onsets.
        offset: Compare offsets.
        to_class: Makes a class of a predicted event's label, None for no class; by default labels are classes.
        clips: The recording of each list of events, where some are about one recording; each is one of its own by
            default.
        confidence: Level of the intervals.
        resamples: How many times clips are drawn anew.
        seed: Which clips are drawn.

    Raises:
        ValueError: For other numbers of lists, no event in the reference, or a negative collar or share.
    """
    if collar < 0 or percentage_of_length < 0:
        raise ValueError(f"collar and percentage_of_length are not negative, got {collar} and {percentage_of_length}")

    def right(answer: Events, events: Events) -> int:
        if not (onset or offset) or not (answer and events):
            return min(len(events), len(answer))
        # Equal events are one node of as many, or a long answer that says one thing over and over takes quadratic time.
        (said, n_said), (there, n_there) = (
            np.unique([(each.onset, each.offset) for each in side], axis=0, return_counts=True)
            for side in (answer, events)
        )
        n = len(there)
        reach = np.full((n, 2), collar)
        reach[:, 1] = np.maximum(collar, percentage_of_length * (there[:, 1] - there[:, 0]))
        reach[:, [not onset, not offset]] = np.inf
        # Only those within reach along one axis are compared, or two long lists take quadratic time.
        axis = 0 if onset else 1
        order = np.argsort(said[:, axis])
        said, n_said = said[order], n_said[order]
        edges = [there[:, axis] + side * (reach[:, axis] + _ROUNDING) for side in (-1, 1)]
        first, last = np.searchsorted(said[:, axis], edges[0]), np.searchsorted(said[:, axis], edges[1], side="right")
        pairs = [
            low + np.flatnonzero((np.abs(said[low:high] - place) <= limit).all(1))
            for low, high, place, limit in zip(first, last, there, reach, strict=True)
        ]
        columns, rows = np.concatenate(pairs), np.repeat(np.arange(n), [*map(len, pairs)])
        # From the first node to those of the reference, those of the answer, and the last one.
        begins = np.concatenate([np.zeros(n, dtype=int), 1 + rows, 1 + n + np.arange(len(said))])
        ends = np.concatenate([1 + np.arange(n), 1 + n + columns, np.full(len(said), 1 + n + len(said))])
        most = np.concatenate([n_there, np.minimum(n_there[rows], n_said[columns]), n_said]).astype(np.int32)
        flow = maximum_flow(csr_matrix((most, (begins, ends)), shape=2 * (2 + n + len(said),)), 0, 1 + n + len(said))
        return int(flow.flow_value)

    return _scores(right, predicted, reference, to_class, clips, confidence, resamples, seed)


@checks_arguments
def tag_f1(
    predicted: Sequence[Events],
    reference: Sequence[Events],
    *,
    to_class: ToClass | None = None,
    clips: Clips | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> EventScores:
    """Return the F1 of which classes come in each clip; `macro_f1` is the mean over classes that is usually reported.

    Args:
        predicted: Events of each clip that were reported; their times do not matter.
        reference: Events of each clip.
        to_class: As for `event_f1`.
        clips: As for `event_f1`.
        confidence: Level of the intervals.
        resamples: How many times clips are drawn anew.
        seed: Which clips are drawn.

    Raises:
        ValueError: For other numbers of lists, or no event in the reference.
    """

    def right(answer: Events, events: Events) -> int:
        return int(bool(answer) and bool(events))

    return _scores(right, predicted, reference, to_class, clips, confidence, resamples, seed, once=True)


@checks_arguments
def classes_of(labels: Sequence[str]) -> ToClass:
    """Return a mapping from captions to classes: the class whose words stand in the caption, the longest if several.

    Case, punctuation and articles do not matter. It is the plainest of mappings; a language model or the nearest
    embedding makes a better one, and any callable will do.

    Args:
        labels: The classes.

    Raises:
        ValueError: There is no class, or two read the same.
    """
    words = {f" {normalised(label)} ": label for label in labels}
    if not words or len(words) < len(labels) or "  " in words:
        raise ValueError(f"classes are different words each, at least one, got {list(labels)!r:.120}")
    most = max(text.count(" ") for text in words)

    def to_class(caption: str) -> str | None:
        parts = normalised(caption).split()
        runs = {f" {' '.join(parts[i:j])} " for i in range(len(parts)) for j in range(i + 1, i + most)}
        longest = min(runs & words.keys(), key=lambda text: (-len(text), text), default=None)
        return None if longest is None else words[longest]

    return to_class


def _scores(
    right: Callable[[Events, Events], int],
    predicted: Sequence[Events],
    reference: Sequence[Events],
    to_class: ToClass | None,
    clips: Clips | None,
    confidence: float,
    resamples: int,
    seed: int,
    once: bool = False,
) -> EventScores:
    """Count the pairs that `right` finds per clip and class, or each class `once` a clip, and score the sums."""
    checked.same_length(predicted=predicted, reference=reference)
    checked.resampling(resamples)
    answers = [_by_class(events, to_class) for events in predicted]
    truths = [_by_class(events, None) for events in reference]
    if not any(truths):
        raise ValueError("there is no event in the reference, so nothing could be found")
    labels = sorted({label for clip in (*answers, *truths) for label in clip})
    counts = _counts(right, answers, truths, labels, once)
    unmapped = sum(len(clip.get(UNKNOWN, [])) for clip in answers) if to_class else 0
    known = np.array([label != UNKNOWN or not to_class for label in labels])
    sums = counts.sum(0)
    hits, said, there = (int(number) for number in sums.sum(0))
    numbers = clip_numbers(clips, len(counts))
    of_clips = summed(counts, numbers)
    k, level = len(of_clips), checked.level(confidence)

    def estimate(of_counts: Callable[[np.ndarray], Float[np.ndarray, " resample"]]) -> Estimate:
        value, low, high = float(of_counts(sums[None])[0]), np.nan, np.nan
        if k >= fewest(level):
            weights = drawn_weights(np.arange(k), resamples, np.random.default_rng(seed))
            drawn = of_counts(np.einsum("rk,klc->rlc", weights, of_clips))
            ends = percentile_interval(drawn[np.isfinite(drawn)], level, n_clips(numbers))
            low, high = given_ends(float(ends[0]), float(ends[1]), k, level)
        return Estimate(
            value, low, high, len(counts), level, "bootstrap over clips, expanded percentiles", shared(numbers)
        )

    return EventScores(
        estimate(lambda drawn: _f1(drawn.sum(1))),
        hits / said if said else 0.0,
        hits / there if there else 0.0,
        estimate(lambda drawn: _mean_f1(drawn[:, known])),
        {label: float(_f1(sums[number])) for number, label in enumerate(labels) if known[number]},
        hits,
        said,
        there,
        unmapped,
    )


def _counts(
    right: Callable[[Events, Events], int],
    answers: Sequence[Mapping[str, Events]],
    truths: Sequence[Mapping[str, Events]],
    labels: Sequence[str],
    once: bool,
) -> Float[np.ndarray, "clip label 3"]:
    """Count pairs, predicted events and events of the reference, per clip and class."""
    counts = np.zeros((len(answers), len(labels), 3))
    for clip, (said, there) in enumerate(zip(answers, truths, strict=True)):
        for number, label in enumerate(labels):
            events = said.get(label, []), there.get(label, [])
            sizes = [min(len(each), 1) if once else len(each) for each in events]
            counts[clip, number] = [right(*events), *sizes]
    return counts


def _f1(counts: Float[np.ndarray, "*any 3"]) -> Any:
    """F1 of counts of pairs, predicted and reference events; NaN where there is no event at all."""
    hits, events = counts[..., 0], counts[..., 1] + counts[..., 2]
    return np.divide(2 * hits, events, out=np.full(np.shape(hits), np.nan), where=events > 0)


def _mean_f1(counts: Float[np.ndarray, "resample label 3"]) -> Float[np.ndarray, " resample"]:
    scores = _f1(counts)
    there = np.isfinite(scores)
    n = there.sum(-1)
    return np.divide(np.where(there, scores, 0.0).sum(-1), n, out=np.full(len(scores), np.nan), where=n > 0)


def _by_class(events: Events, to_class: ToClass | None) -> dict[str, list[Event]]:
    grouped: dict[str, list[Event]] = {}
    for event in events:
        label = event.label if to_class is None else to_class(event.label)
        if label is not None and not isinstance(label, str):
            raise TypeError(f"to_class gives a class or None, got {label!r} for {event.label!r}")
        grouped.setdefault(UNKNOWN if label is None else label, []).append(event)
    return grouped


__all__ = ["EventScores", "classes_of", "event_f1", "tag_f1"]
