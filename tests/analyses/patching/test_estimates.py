"""The metrics as functions with a gradient."""

import numpy as np
import torch

from mechaudio.analyses.patching.objective import differentiable
from mechaudio.analyses.patching.scale import METRICS, value


def test_the_metrics_are_those_of_patching():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 12))
    ids = [(3, 5, 7), (1, 2), (9, 8, 4), (0, 1, 2), (11, 10)]
    chosen = np.array(
        [[row[one] for one in own] + [np.nan] * (3 - len(own)) for row, own in zip(logits, ids, strict=True)]
    )
    right = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 0]], dtype=bool)
    wrong = np.array([1, 0, 0, 2, 1])
    for metric in METRICS:
        if metric == "answer":
            continue
        got = differentiable(metric, torch.from_numpy(np.nan_to_num(chosen, nan=-np.inf)), right, wrong)
        np.testing.assert_allclose(got.numpy(), value(metric, chosen, right, wrong, chosen))
