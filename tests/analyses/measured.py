"""Measurements made up for tests, seeded, with the shapes of real ones; and where the toys listen, measured once."""

from functools import cache

import numpy as np

import mechaudio as ma
from mechaudio.analyses import AttentionAndAnswers, WhereItListens
from mechaudio.results import Provenance


def measured(attention, correct, *, name="q", choices=None, condition="audio") -> AttentionAndAnswers:
    """Given audio attention `[question, layer, head]` and right or wrong; ids count from 0."""
    n = len(correct)
    return AttentionAndAnswers(
        audio_attention=np.asarray(attention, dtype=np.float32),
        correct=np.asarray(correct, dtype=bool),
        choices=tuple(choices or ("dog",) * n),
        ids=tuple(f"{name}{place}" for place in range(n)),
        condition=condition,
        provenance=Provenance(checkpoint="made up"),
    )


@cache
def listening(listens: str) -> WhereItListens:
    """Find the rows over which a toy listens, on 14 questions of seed 2."""
    toy = ma.load("toy", listens=listens, prove=False)
    return ma.analyses.where_it_listens(toy, ma.data.toy_questions.questions(14, seed=2), progress=False)


def noise(n, layers=3, heads=4, *, seed=0, effect=0.0, of=()):
    """Attention that tells nothing; but of the heads `of`, right answers get `effect` deviations more."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.5
    attention = rng.normal(size=(n, layers, heads))
    for layer, head in of:
        attention[:, layer, head] += effect * correct
    return 0.5 + 0.05 * attention, correct
