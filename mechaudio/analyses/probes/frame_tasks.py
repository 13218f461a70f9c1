"""The tasks at every token: what sounds there, what begins and what ends; labels, control, baseline, score.

Conventions: a token is labelled by its middle; scores and labels are `[token, class]` of one clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.probes.clip_states import ClipStates
from mechaudio.analyses.probes.probing import area_under_roc, longest_run, mean_without_nan, random_label

FRAME_TASKS = ("present", "onset", "offset")
BIN = 0.5
"""Seconds within which a time is one type of the control task, and one time of the baseline."""

Labels = Float[np.ndarray, "token class"]
Interval = tuple[float, float]


def labels_of(clip: ClipStates, classes: Sequence[str], task: str, tolerance: float) -> Labels:
    """Label each token that is kept for a task: 1 where a class sounds, begins or ends, and 0 elsewhere."""
    middles = clip.middles
    labels = np.zeros((len(middles), len(classes)))
    for event in clip.events:
        if event.label not in classes:
            continue
        if task == "present":
            here = (middles >= event.onset) & (middles < event.offset)
        else:
            here = np.abs(middles - getattr(event, task)) <= tolerance
        labels[here, classes.index(event.label)] = 1
    return labels


def _type(clip: ClipStates, task: str, middle: float, tolerance: float) -> tuple[str, ...]:
    """Name the kind of a token: the sounds there; for an onset (offset), those that begin (end) and that go on.

    The empty tuple stands for tokens where nothing begins (ends): the task never labels them, nor does its control.
    """
    if task == "present":
        return ("+".join(sorted(event.label for event in clip.events if event.onset <= middle < event.offset)),)
    turning = sorted(event.label for event in clip.events if abs(middle - getattr(event, task)) <= tolerance)
    others = sorted(
        event.label for event in clip.events if event.onset <= middle < event.offset and event.label not in turning
    )
    return ("+".join(turning), "+".join(others)) if turning else ()


def types_of(clip: ClipStates, task: str, tolerance: float) -> list[tuple[str, ...]]:
    """The type of each token that is kept; the control task labels types."""
    return [_type(clip, task, middle, tolerance) for middle in clip.middles.tolist()]


def control_labels(
    types: Sequence[tuple[str, ...]], classes: Sequence[str], task: str, rates: Float[np.ndarray, " class"], seed: int
) -> Labels:
    """A random label per class and type of token."""
    known = {
        kind: [
            random_label(seed, rate, task, label, *kind) if kind else 0.0
            for label, rate in zip(classes, rates.tolist(), strict=True)
        ]
        for kind in set(types)
    }
    return np.array([known[kind] for kind in types])


def within_clip(scores: Labels, labels: Labels) -> float:
    """Area under the ROC curve among the tokens of a clip, in the mean over classes that have both labels."""
    return mean_without_nan([area_under_roc(scores[:, own], labels[:, own]) for own in range(labels.shape[1])])


def prior_of(training: Sequence[ClipStates], labels: Sequence[np.ndarray]) -> Callable[[ClipStates], Labels]:
    """How often each label occurs at each time of a training clip."""
    times = np.concatenate([(clip.middles / BIN).astype(int) for clip in training])
    whole = np.concatenate(labels[: len(training)])
    rates = {time: whole[times == time].mean(0) for time in np.unique(times).tolist()}
    rest = whole.mean(0)
    return lambda clip: np.array([rates.get(int(middle / BIN), rest) for middle in clip.middles.tolist()])


def thresholds(scores: Labels, labels: Labels) -> Float[np.ndarray, " class"]:
    """Per class, the score that as many training tokens exceed as are labelled."""
    return np.array([np.quantile(scores[:, own], 1 - labels[:, own].mean()) for own in range(labels.shape[1])])


def intervals_of(clip: ClipStates, scores: Labels, classes: Sequence[str]) -> dict[str, Interval]:
    """Find the stretches in which each class sounds; one that scores nowhere above its threshold is left out."""
    runs = {label: longest_run(scores[:, own]) for own, label in enumerate(classes)}
    return {label: (float(clip.edges[run[0]]), float(clip.edges[run[1]])) for label, run in runs.items() if run}
