"""Linear probes with everything fitted on the training clips alone, and what they are held against.

A probe is a ridge regression on standardised states (scikit-learn), its penalty chosen by cross-validation over groups
of training clips. A control task (Hewitt and Liang, *Designing and Interpreting Probes with Control Tasks*, EMNLP 2019)
gives every type of input a random label, the same wherever the type occurs: what a probe reaches there it has learnt by
heart. Real minus control is the probe's selectivity.

Conventions: labels are 0 and 1, scores are the regression's; areas under the ROC curve are taken within one clip, so
that chance is 0.5 whatever clips differ in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mechaudio.temporal.draws import digest

PENALTIES = tuple(float(10.0**power) for power in range(-1, 6))
FOLDS = 4
RESOLVED = 1e-6
"""Relative to its largest value, how far a component of states has to vary: a little more than float32 rounds by."""
TIED = 5
"""Decimal places of scores, as shares of their range, behind which rows are tied: states in float32 say no more."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe: standardisation and regression, and the penalty that cross-validation chose."""

    pipeline: Pipeline
    penalty: float

    def __call__(self, states: Float[np.ndarray, "row d_model"]) -> Float[np.ndarray, "row target"]:
        """Scores of states."""
        made = self.pipeline.predict(states.astype(np.float64))
        return made.reshape(len(states), -1)


def fit_probe(
    states: Float[np.ndarray, "row d_model"], targets: Float[np.ndarray, "row target"], groups: Int[np.ndarray, " row"]
) -> Probe:
    """Fit a ridge regression, its penalty chosen by cross-validation that keeps each group on one side."""
    states = states.astype(np.float64)
    errors = np.zeros(len(PENALTIES))
    n_targets = targets.shape[1]
    for inside, outside in GroupKFold(n_splits=FOLDS).split(states, groups=groups):
        every = _ridge(np.repeat(PENALTIES, n_targets))  # all penalties in one fit: each target stands once for each
        every.fit(states[inside], np.tile(targets[inside], len(PENALTIES)))
        missed = every.predict(states[outside]).reshape(len(outside), -1) - np.tile(targets[outside], len(PENALTIES))
        errors += (missed**2).reshape(len(outside), len(PENALTIES), n_targets).sum((0, 2))
    penalty = PENALTIES[int(errors.argmin())]
    return Probe(_ridge(penalty).fit(states, targets), penalty)


class _Scaler(StandardScaler):
    """Standardises what varies, and leaves out what float32 does not tell from a constant: it would be noise."""

    def fit(self, states: Float[np.ndarray, "row d_model"], *_: Any) -> _Scaler:
        super().fit(states)
        spread = np.asarray(self.scale_)
        self.scale_ = np.where(spread > RESOLVED * np.abs(states).max(0), spread, np.inf)
        return self


def _ridge(penalty: float | Float[np.ndarray, " target"]) -> Pipeline:
    return make_pipeline(_Scaler(), Ridge(penalty, solver="cholesky"))


def groups_of(keys: Sequence[str], sizes: Sequence[int]) -> np.ndarray:
    """A number for each row: the same for all rows of one recording."""
    return np.repeat(np.unique(keys, return_inverse=True)[1], sizes)


def area_under_roc(scores: Float[np.ndarray, " row"], labels: Float[np.ndarray, " row"]) -> float:
    """The probability that a row labelled 1 scores above one labelled 0, ties counting half; NaN without both."""
    ones = int(labels.sum())
    zeros = len(labels) - ones
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata((scores / (np.ptp(scores) or 1.0)).round(TIED))
    return float((ranks[labels > 0].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def random_label(seed: int, rate: float, *of: object) -> float:
    """The control label of a type of input: 1 with a probability of `rate`, always the same for the same type."""
    return float(digest("control task", seed, *map(str, of)) < rate * 2**64)


def longest_run(scores: Float[np.ndarray, " token"]) -> tuple[int, int] | None:
    """First token of the stretch with the largest sum and the one behind its last; `None` if no score is positive."""
    best, found, start, total = 0.0, None, 0, 0.0
    for token, score in enumerate(scores.tolist()):
        if total <= 0:
            start, total = token, 0.0
        total += score
        if total > best:
            best, found = total, (start, token + 1)
    return found


def mean_without_nan(values: Sequence[float]) -> float:
    """The mean of what is not NaN; NaN without any."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
