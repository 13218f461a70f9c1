"""What is read off the answers, and the scale between a corrupted and a clean run."""

import sys
import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm, t

from mechaudio.analyses.patching.scale import METRICS, Scale, value
from tests.families import unchecked_types

LOGITS = np.array([[2.0, 1.0, 0.0, np.nan], [0.0, 3.0, 1.0, 1.0]])
RIGHT = np.array([[True, False, False, False], [False, False, True, True]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("logit_difference", [2.0, -2.0]),  # against choice 2 and choice 1
        ("margin", [1.0, -2.0]),
        ("probability", [np.exp(2) / (np.exp(2) + np.e + 1), 2 * np.e / (1 + np.exp(3) + 2 * np.e)]),
        ("answer", [1.0, 0.0]),
    ],
)
def test_metrics_by_hand(metric, expected):
    clean = np.array([[1.0, 0.0, 0.0, np.nan], [0.0, 0.0, 1.0, 0.0]])
    found = value(metric, LOGITS, RIGHT, np.array([2, 1]), clean)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(value(metric, LOGITS[None, None], RIGHT, np.array([2, 1]), clean)[0, 0], expected)


def test_an_unknown_metric_lists_those_there_are():
    with unchecked_types(), pytest.raises(ValueError, match=", ".join(map(repr, METRICS))):
        value("loss", LOGITS, RIGHT, np.array([2, 1]), LOGITS)


def test_the_scale_puts_corrupted_at_0_and_clean_at_1_and_leaves_out_pairs_that_agree():
    scale = Scale(np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0, 2.0]))
    found = np.array([[3.0, 1.0, 5.0], [1.0, 0.0, 5.0], [2.0, 1.0, 5.0]])
    assert scale.defined.tolist() == [True, True, False]
    np.testing.assert_allclose(scale.per_pair(found)[:, :2], [[1, 1], [0, 0], [0.5, 1]])
    assert np.isnan(scale.per_pair(found)[:, 2]).all()
    np.testing.assert_allclose(scale.mean(found), [1.0, 0.0, 2 / 3])  # (1 + 1) / (2 + 1)
    thrice = Scale(np.tile(scale.clean, 3), np.tile(scale.corrupted, 3))
    low, high = thrice.interval(np.tile(found, 3), seed=1)
    np.testing.assert_allclose([low[:2], high[:2]], [[1, 0], [1, 0]])
    assert 0.5 - 1e-9 <= low[2] < 2 / 3 < high[2] <= 1 + 1e-9


def test_a_scale_of_nothing_says_so():
    scale = Scale(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"agree in every pair \(2 here\)"):
        scale.mean(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least 2 in which clean and corrupted differ, got 0"):
        scale.interval(np.zeros((3, 2)))


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        corrupted, gap = rng.normal(size=60), rng.uniform(1, 3, size=60)
        found = corrupted + gap * rng.normal(0.4, 0.5, size=60)
        low, high = Scale(corrupted + gap, corrupted).interval(found[None], resamples=400)
        covered.append(low[0] <= 0.4 <= high[0])
    assert 0.90 <= np.mean(covered) <= 0.99


def test_a_scale_that_may_be_zero_or_turned_round_has_no_interval():
    """Clean is above corrupted in six pairs and below in six: the mean difference may as well be zero."""
    corrupted, gap = np.zeros(12), np.repeat([3.0, 2.5, -2.0, -2.4], 3)
    low, high = Scale(gap, corrupted).interval(np.repeat([[1.0], [0.0]], 12, axis=1))
    assert np.isnan([low, high]).all()
    both = np.repeat([1.0, np.nan], 6)  # in the pairs that have this place it is not
    low, high = Scale(gap, corrupted).interval(both[None])
    assert 1 / 3 - 1e-9 <= low[0] <= high[0] <= 1 / 2.5 + 1e-9


def test_intervals_of_many_places_are_taken_in_blocks_and_are_what_each_alone_has(monkeypatch):
    rng = np.random.default_rng(0)
    corrupted, gap = rng.normal(size=12), rng.uniform(1, 3, size=12)
    found = corrupted + gap * rng.normal(0.4, 0.5, size=(3, 50, 12))
    found[1, 7, :9] = np.nan
    scale = Scale(corrupted + gap, corrupted)
    whole = scale.interval(found, resamples=300)
    monkeypatch.setattr(sys.modules[Scale.__module__], "AT_ONCE", 300 * 7)
    np.testing.assert_allclose(scale.interval(found, resamples=300), whole)
    for place in ((0, 0), (1, 7), (2, 49)):
        alone = scale.interval(found[place][None], resamples=300)
        np.testing.assert_allclose([ends[place] for ends in whole], [ends[0] for ends in alone])
    weights = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=300)  # by the formula, place by place
    drawn = weights @ (found[0, 3] - corrupted) / (weights @ gap)
    tail = norm.cdf(t.ppf(0.025, 11) * np.sqrt(12 / 11))  # expanded percentiles
    np.testing.assert_allclose([ends[0, 3] for ends in whole], np.quantile(drawn, [tail, 1 - tail]))


@pytest.mark.whole
def test_intervals_of_a_large_map_take_little_memory():
    rng = np.random.default_rng(0)
    scale = Scale(rng.uniform(1, 2, size=6), np.zeros(6))
    tracemalloc.start()
    scale.interval(rng.normal(size=(40_000, 6)), resamples=1000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 250e6  # all resamples of all places would be 320 MB, several times over
