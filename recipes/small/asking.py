"""A model with the questions that it is asked, and its answers as numbers that are written down.

Conventions: intervals are at 95%, p values are two-sided; what is compared together is corrected by Holm.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import mechaudio as ma

SEEDS = {"listens": 310_001, "sides": 310_002, "attention": 310_003, "specialists": 310_004, "mata": 310_005}
SEEDS |= {"patching": 310_006}
SIZES = {"listens": 48, "sides": 240, "attention": 240, "specialists": 240, "mata": 200, "patching": 24}
QUIET, NOISY = (-30.0, -10.0), (-10.0, 0.0)
"""Levels of the background in dB: with the first it hears nearly all, with the second there is something to mend."""
N_WINDOWS = 5

Rows = list[dict[str, Any]]


@dataclass
class Asked:
    """A model, how many questions of each section it is asked, and the rows that were found to listen."""

    model: ma.AudioLM
    sizes: dict[str, int]
    listening: str = "choices"

    def questions(self, section: str, **options: Any) -> list[ma.AudioQuestion]:
        return ma.data.soundscapes.questions(self.sizes[section], SEEDS[section], **options)

    @cached_property
    def windows(self) -> dict[str, tuple[int, ...] | None]:
        """All layers, then as many windows of neighbours as `N_WINDOWS`, or as there are layers."""
        parts = np.array_split(np.arange(self.model.n_layers), min(N_WINDOWS, self.model.n_layers))
        named = {f"{part[0]}-{part[-1]}": tuple(part.tolist()) for part in parts}
        return {"all": None} | named

    @property
    def rows(self) -> tuple[str, ...]:
        """Query rows that are compared: those published, the roles of the prompt, and those that listen."""
        published = ("last", "keyword", "keyword+last")
        return tuple(dict.fromkeys((*published, "question", "choices", self.listening, f"keyword+{self.listening}")))


def rounded(value: float) -> float | None:
    """Four digits are more than intervals of a few hundred questions know; NaN is none."""
    return None if not np.isfinite(value) else float(f"{value:.4g}")


def share(right: np.ndarray) -> dict[str, Any]:
    """A count with its interval."""
    found = ma.metrics.proportion(int(right.sum()), len(right))
    return {"right": found.count, "n": found.n, "low": rounded(found.low), "high": rounded(found.high)}


def change(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Answers to the same questions before and after."""
    return told_change(ma.metrics.answer_change(before, after))


def told_change(found: Any) -> dict[str, Any]:
    """What became of answers, in counts, with the interval and McNemar's p value."""
    return {
        "n": found.n,
        "before": found.before.count,
        "after": found.after.count,
        "fixed": found.test.fixed,
        "broken": found.test.broken,
        "change": rounded(found.change.value),
        "low": rounded(found.change.low),
        "high": rounded(found.change.high),
        "p": rounded(found.test.p),
    }


def with_holm(rows: Rows) -> Rows:
    """The rows with their p values corrected together."""
    for row, p in zip(rows, ma.metrics.holm([row["p"] for row in rows]).tolist(), strict=True):
        row["p_holm"] = rounded(p)
    return rows


def mean_change(values: np.ndarray) -> dict[str, Any]:
    """The mean of one number a clip, with a bootstrap interval."""
    low, high = ma.metrics.bootstrap_mean(values)
    return {"mean": rounded(values.mean()), "low": rounded(low), "high": rounded(high)}


def halves(questions: Sequence[ma.AudioQuestion]) -> np.ndarray:
    """Which questions choose."""
    return ma.analyses.in_calibration(ma.analyses.clips_of(questions), 0.5, 0)


def written(told: dict[str, Any]) -> str:
    """JSON with a line for every row of a table."""
    if isinstance(told, dict) and any(isinstance(value, (dict, list)) for value in told.values()):
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {written(value)}" for key, value in told.items()) + "\n}"
    if isinstance(told, list) and any(isinstance(value, dict) for value in told):
        return "[\n" + ",\n".join(json.dumps(value) for value in told) + "\n]"
    return json.dumps(told)
