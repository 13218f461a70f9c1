"""The order of events: which of two classes begins first, from onsets however they were found.

Conventions: order is of first onsets, in seconds; a coin counts half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from mechaudio.analyses.probes.clip_states import ClipStates
from mechaudio.analyses.probes.frame_tasks import BIN
from mechaudio.analyses.probes.probing import Probe, fit_probe, groups_of, mean_without_nan
from mechaudio.temporal.draws import digest


def earlier(onsets: Mapping[str, float]) -> Callable[[str, str], float]:
    """How sure it is that the first of two classes begins before the second: 1, 0, or 0.5 for a coin."""

    def sure(one: str, other: str) -> float:
        if one not in onsets or other not in onsets or onsets[one] == onsets[other]:
            return 0.5
        return float(onsets[one] < onsets[other])

    return sure


def share_in_order(
    clip: ClipStates,
    classes: Sequence[str],
    margin: float,
    sure: Callable[[str, str], float],
    onsets: Mapping[str, float] | None = None,
) -> float:
    """Share of the clip's pairs of classes in the right order; a coin counts half."""
    firsts = {label: event.onset for label in classes if (event := clip.first(label)) is not None}
    onsets = firsts if onsets is None else onsets
    right = []
    for one, other in combinations(sorted(onsets), 2):
        if abs(onsets[one] - onsets[other]) >= margin:
            said = sure(one, other)
            right.append(said if onsets[one] < onsets[other] else 1 - said)
    return mean_without_nan(right)


def majority(training: Sequence[ClipStates], classes: Sequence[str]) -> Callable[[str, str], float]:
    """Which of two classes came first more often."""
    leads: dict[tuple[str, str], int] = {}
    for clip in training:
        for one, other in combinations(sorted(classes), 2):
            first, second = clip.first(one), clip.first(other)
            if first is not None and second is not None:
                leads[one, other] = leads.get((one, other), 0) + int(np.sign(second.onset - first.onset))
    return lambda one, other: (1 + float(np.sign(leads.get((one, other), 0)))) / 2


def order_of_means(
    place: str,
    training: Sequence[ClipStates],
    testing: Sequence[ClipStates],
    classes: Sequence[str],
    margin: float,
    seed: int,
) -> tuple[dict[str, list[float]], float]:
    """Onsets of every class by a probe of its own on the mean over tokens, and the order that they make."""
    longest = max(float(clip.edges[-1]) for clip in (*training, *testing))
    n_bins = int(np.ceil(longest / BIN))
    permuted = {
        label: np.random.default_rng(digest("control onsets", seed, label)).permutation(n_bins) for label in classes
    }

    def control_time(label: str, onset: float) -> float:
        within = onset % BIN
        return float(permuted[label][min(int(onset / BIN), n_bins - 1)] * BIN + within)

    tests = np.stack([clip.mean(place) for clip in testing])
    penalties: list[float] = []
    found: dict[str, list[float]] = {}
    for kind, time in (("score", lambda _label, onset: onset), ("control", control_time)):
        guessed: dict[str, np.ndarray] = {}
        for label in classes:
            examples = [(clip, event) for clip in training if (event := clip.first(label)) is not None]
            probe: Probe = fit_probe(
                np.stack([clip.mean(place) for clip, _ in examples]),
                np.array([[time(label, event.onset)] for _, event in examples]),
                groups_of([clip.key for clip, _ in examples], [1] * len(examples)),
            )
            guessed[label] = probe(tests)[:, 0]
            if kind == "score":
                penalties.append(probe.penalty)
        found[kind] = []
        for row, clip in enumerate(testing):
            true = {label: time(label, event.onset) for label in classes if (event := clip.first(label)) is not None}
            said = earlier({label: float(guessed[label][row]) for label in classes})
            found[kind].append(share_in_order(clip, classes, margin, said, true))
    return found, float(np.median(penalties))
