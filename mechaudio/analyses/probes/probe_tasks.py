"""The tasks of `encoder_probes` at one place: probes fitted and scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mechaudio.analyses.probes.clip_states import ClipStates
from mechaudio.analyses.probes.frame_tasks import (
    FRAME_TASKS,
    Interval,
    control_labels,
    intervals_of,
    labels_of,
    prior_of,
    thresholds,
    types_of,
    within_clip,
)
from mechaudio.analyses.probes.order_tasks import earlier, majority, order_of_means, share_in_order
from mechaudio.analyses.probes.probing import fit_probe, groups_of

TASKS = (*FRAME_TASKS, "order", "order_by_clock")


def fit_place(
    place: str,
    training: Sequence[ClipStates],
    testing: Sequence[ClipStates],
    classes: Sequence[str],
    *,
    tolerance: float,
    margin: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Fit and score the probes of all tasks at one place: fields of `EncoderProbes`, without the axis of places."""
    states = np.concatenate([clip.states[place] for clip in training])
    groups = groups_of([clip.key for clip in training], [len(clip.states[place]) for clip in training])
    found: dict[str, list[list[float]]] = {"score": [], "control": [], "baseline": []}
    penalties: list[float] = []
    intervals: dict[str, list[dict[str, Interval]]] = {}
    for task in FRAME_TASKS:
        real = [labels_of(clip, classes, task, tolerance) for clip in (*training, *testing)]
        types = [types_of(clip, task, tolerance) for clip in (*training, *testing)]
        labelled = np.array([bool(kind) for own in types[: len(training)] for kind in own])
        rates = np.concatenate(real[: len(training)])[labelled].mean(0)
        random = [control_labels(own, classes, task, rates, seed) for own in types]
        for kind, labels in (("score", real), ("control", random)):
            own, others = labels[: len(training)], labels[len(training) :]
            probe = fit_probe(states, np.concatenate(own), groups)
            scored = [probe(clip.states[place]) for clip in testing]
            found[kind].append([within_clip(*pair) for pair in zip(scored, others, strict=True)])
            if task == "present":
                threshold = thresholds(probe(states), np.concatenate(own))
                pairs = zip(testing, scored, strict=True)
                intervals[kind] = [intervals_of(clip, made - threshold, classes) for clip, made in pairs]
            if kind == "score":
                penalties.append(probe.penalty)
        prior = prior_of(training, real)
        found["baseline"].append(
            [within_clip(prior(clip), own) for clip, own in zip(testing, real[len(training) :], strict=True)]
        )
    order, penalty = order_of_means(place, training, testing, classes, margin, seed)
    usual = majority(training, classes)
    by_majority = [share_in_order(clip, classes, margin, usual) for clip in testing]
    for kind in ("score", "control"):
        found[kind].append(order[kind])
        found[kind].append(
            [
                share_in_order(clip, classes, margin, earlier({label: times[0] for label, times in own.items()}))
                for clip, own in zip(testing, intervals[kind], strict=True)
            ]
        )
    found["baseline"] += [by_majority, by_majority]
    errors = [_errors(testing, intervals["score"], classes, end) for end in (0, 1)]
    answers = [_answer(clip, own) for clip, own in zip(testing, intervals["score"], strict=True)]
    return {
        **{kind: np.array(values) for kind, values in found.items()},
        "penalty": np.array([*penalties, penalty, penalties[0]]),
        "onset_error": np.array(errors[0]),
        "offset_error": np.array(errors[1]),
        "probe_correct": np.array([answer is True for answer in answers]),
        "asked": np.array([answer is not None for answer in answers]),
    }


def _errors(
    testing: Sequence[ClipStates], intervals: Sequence[Mapping[str, Interval]], classes: Sequence[str], end: int
) -> float:
    """Median distance of the onsets (offsets) that were found from the true ones."""
    distances = [
        abs(own[label][end] - (event.onset, event.offset)[end])
        for clip, own in zip(testing, intervals, strict=True)
        for label in classes
        if (event := clip.first(label)) is not None and label in own
    ]
    return float(np.median(distances)) if distances else float("nan")


_LEAD: Mapping[str, Callable[[Interval], float]] = {
    "earliest_onset": lambda times: -times[0],
    "latest_offset": lambda times: times[1],
    "longest_duration": lambda times: times[1] - times[0],
}


def _answer(clip: ClipStates, intervals: Mapping[str, Interval]) -> bool | None:
    """Return whether the choice that leads by these intervals is right; `None` where that cannot be asked."""
    question = clip.question
    if question is None or question.answer is None or question.meta.get("task") not in _LEAD:
        return None
    candidates = [choice for choice in question.choices if choice in intervals]
    lead = _LEAD[question.meta["task"]]
    return bool(candidates) and max(candidates, key=lambda choice: lead(intervals[choice])) == question.answer
