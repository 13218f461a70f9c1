"""A temporal study made up for figures and pages: eight questions, two layers, answers drawn by lot."""

from functools import cache

import numpy as np

from mechaudio.experiments.evaluation import Comparison, Evaluation
from mechaudio.experiments.temporal_arms import TemporalSettings, arms_of
from mechaudio.experiments.temporal_result import TemporalStudy
from tests.viz.made_up import ROLES, provenance

SETTINGS = TemporalSettings(biases=(1.0, 4.0), factors=(0.5, 2.0), queries=("last", "keyword"))
TASKS = ("earliest_onset", "latest_offset")
N = 8


def evaluation(condition, chosen):
    return Evaluation(
        provenance=provenance(),
        condition=condition,
        ids=tuple(f"q{index}" for index in range(N)),
        tasks=TASKS * (N // 2),
        options=(("dog", "rain", "bell", "car"),) * N,
        answers=("dog",) * N,
        chosen=np.array(chosen),
    )


@cache
def study(seed=0, right=5, settings=SETTINGS):
    """A study with this many right answers without a change."""
    rng = np.random.default_rng(seed)
    arms = arms_of(settings, range(2))
    clean = evaluation("audio", [0] * right + [1] * (N - right))
    return TemporalStudy(
        provenance=provenance(),
        conditions={"audio": clean, "silence": evaluation("silence", rng.integers(4, size=N))},
        roles=ROLES,
        attention=rng.dirichlet(np.ones(len(ROLES)), size=(3, 2)),
        compared=Comparison(
            provenance=provenance(),
            clean=clean,
            variants=tuple((arm.intervention(0),) for arm in arms),
            chosen=rng.integers(2, size=(len(arms), N)),
        ),
        arms=arms,
        chooses=np.arange(N) % 4 < 2,
        settings=settings,
    )
