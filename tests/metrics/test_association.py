import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, pointbiserialr, t
from statsmodels.stats.power import TTestIndPower

from mechaudio.metrics import (
    benjamini_hochberg,
    bootstrap_point_biserial,
    point_biserial,
    point_biserial_power,
    top_k_stability,
)

CORRECT = np.array([True, False, True, True, False, False, True, False, True, True, False, True])


def attention(layers=3, heads=4, seed=0):
    return np.random.default_rng(seed).random((len(CORRECT), layers, heads))


def planted(n=300, seed=0):
    """Noise in 5 x 4 columns, and column (2, 1), which right answers raise."""
    rng = np.random.default_rng(seed)
    values, correct = rng.normal(size=(n, 5, 4)), rng.random(n) < 0.6
    values[:, 2, 1] += 1.5 * correct
    return values, correct


def test_the_worked_example_of_scipys_documentation():
    found = point_biserial(np.arange(7), [0, 0, 0, 1, 1, 1, 1])
    assert float(found.r) == pytest.approx(0.8660254037844386)
    assert float(found.p) == pytest.approx(0.011724811003954652)


def test_every_column_is_scipys_pointbiserialr():
    values = attention()
    found = point_biserial(values, CORRECT)
    for layer, head in np.ndindex(3, 4):
        expected = pointbiserialr(CORRECT, values[:, layer, head])
        assert found.r[layer, head] == pytest.approx(expected.statistic, abs=1e-14)
        assert found.p[layer, head] == pytest.approx(expected.pvalue, rel=1e-12)
    np.testing.assert_allclose(found.q, benjamini_hochberg(found.p))
    assert (found.n, found.n_right) == (12, 7)


def test_r_is_the_difference_of_means_in_units_of_the_spread():
    """r = (mean of right - mean of wrong) / s * sqrt(p q), s over all n (Tate 1954)."""
    values = attention()[:, 0, 0]
    p = CORRECT.mean()
    by_hand = (values[CORRECT].mean() - values[~CORRECT].mean()) / values.std() * np.sqrt(p * (1 - p))
    assert float(point_biserial(values, CORRECT).r) == pytest.approx(by_hand)


@given(arrays(np.float64, (12, 3), elements=st.integers(-1000, 1000).map(float)))
def test_r_is_within_1_and_turns_with_its_column(values):
    values[0] += np.arange(12)[CORRECT.argmax()] + 3000.5  # no column is constant
    found, turned = point_biserial(values, CORRECT), point_biserial(-3 * values + 1, CORRECT)
    assert (np.abs(found.r) <= 1).all()
    np.testing.assert_allclose(turned.r, -found.r, atol=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_columns_that_do_not_vary_are_named_and_have_no_correlation(level):
    values = attention()
    values[:, 1, 2] = level
    with pytest.warns(UserWarning, match=r"1 of 12 columns do not vary.*\(1, 2\)"):
        found = point_biserial(values, CORRECT)
    assert (found.r[1, 2], found.p[1, 2], found.q[1, 2]) == (0, 1, 1)
    assert found.constant.sum() == 1
    assert "; 1 column does not vary" in str(found)
    others = ~found.constant
    np.testing.assert_allclose(found.q[others], benjamini_hochberg(found.p[others]))


def test_a_column_that_varies_by_rounding_alone_does_not_vary():
    values = attention()
    values[:, 0, 0] = 1 + 1e-15 * CORRECT
    with pytest.warns(UserWarning, match=r"\(0, 0\)"):
        assert point_biserial(values, CORRECT).constant[0, 0]


def test_correlations_print_the_strongest_and_go_into_json():
    values, correct = planted()
    found = point_biserial(values, correct)
    assert str(found).startswith("point-biserial r of 20 columns [5, 4], n = 300")
    assert "at (2, 1)" in str(found)
    assert json.loads(json.dumps(found.as_dict()))["r"][2][1] == found.r[2, 1]


@pytest.mark.parametrize("measure", [point_biserial, bootstrap_point_biserial])
@pytest.mark.parametrize(
    ("values", "correct", "error", "message"),
    [
        (np.ones((3, 2)), [True, False], ValueError, "values has 3, correct has 2"),
        (np.ones((2, 2)), [True, False], ValueError, "at least 3 questions, got 2"),
        (np.arange(3), [True, True, True], ValueError, "every answer is right"),
        (np.arange(3), [False, False, False], ValueError, "every answer is wrong"),
        (np.ones((3, 0)), [True, False, True], ValueError, r"no columns, its shape is \[3, 0\]"),
        ([[1, np.nan], [2, 1], [3, 1]], [True, False, True], ValueError, r"NaN or infinity in 1 of 2 columns, \(1,\)"),
        (np.array(1.0), [True, False, True], ValueError, "one row per sample, got the single number 1.0"),
        (np.arange(3), [True, None, True], TypeError, r"correct\[1\] is None"),
    ],
)
def test_what_cannot_be_correlated_is_refused(measure, values, correct, error, message):
    with pytest.raises(error, match=message):
        measure(values, correct)


def slow_bootstrap(values, correct, resamples, seed):
    """r of each resample by scipy, one column and one resample at a time."""
    n, rng = len(correct), np.random.default_rng(seed)
    found = []
    for times in rng.multinomial(n, np.full(n, 1 / n), size=resamples):
        drawn = np.repeat(np.arange(n), times)
        found.append([pointbiserialr(correct[drawn], column[drawn]).statistic for column in values.T])
    return np.array(found)


def test_the_bootstrap_is_the_slow_one():
    values = np.column_stack(
        [attention().reshape(12, -1), 1e6 + attention(seed=1)[:, 0, 0], 1e-9 * attention()[:, 1, 1]]
    )
    found = bootstrap_point_biserial(values, CORRECT, resamples=50, seed=3)
    np.testing.assert_allclose(found.resampled, slow_bootstrap(values, CORRECT, 50, 3), atol=1e-9)
    assert np.isnan([found.low, found.high]).all()  # of 12 clips no interval holds its level


def test_the_interval_is_fishers_with_the_larger_of_two_standard_errors():
    values, correct = planted(n=40)
    found = bootstrap_point_biserial(values, correct, resamples=500)
    z, by_bootstrap = np.arctanh(point_biserial(values, correct).r), np.arctanh(found.resampled).std(axis=0)
    assert {True, False} == set((by_bootstrap > 1 / np.sqrt(37)).ravel().tolist())
    reach = t.ppf(0.975, 38) * np.maximum(by_bootstrap, 1 / np.sqrt(37))
    np.testing.assert_allclose([found.low, found.high], np.tanh([z - reach, z + reach]))


def test_the_bootstrap_is_seeded_and_as_wide_as_fishers_interval():
    values, correct = planted(n=1000)
    found = bootstrap_point_biserial(values, correct, seed=5)
    assert np.array_equal(found.low, bootstrap_point_biserial(values, correct, seed=5).low)
    assert found.low.shape == found.high.shape == (5, 4)
    r = point_biserial(values, correct).r
    assert ((found.low < r) & (r < found.high)).all()
    noise = np.ones((5, 4), dtype=bool)
    noise[2, 1] = False
    width = 2 * 1.96 / np.sqrt(1000 - 3)  # Fisher's z near r = 0
    np.testing.assert_allclose((found.high - found.low)[noise], width, rtol=0.1)


def test_resamples_without_a_right_or_a_wrong_answer_are_drawn_anew():
    values = np.array([0.0, 1.0, 2.0, 4.0])
    found = bootstrap_point_biserial(values, [True, False, False, False], resamples=500)
    assert np.isfinite(found.resampled).all()
    assert (found.resampled < 0).all()


def test_a_constant_column_has_correlation_0_in_every_resample():
    values = attention()
    values[:, 0, 0] = 0.1
    assert not bootstrap_point_biserial(values, CORRECT, resamples=20).resampled[:, 0, 0].any()


def test_the_planted_column_is_found_and_stays_at_the_top():
    values, correct = planted()
    found = point_biserial(values, correct)
    resampled = bootstrap_point_biserial(values, correct, resamples=300).resampled
    stable = top_k_stability(np.abs(found.r), np.abs(resampled), k=1)
    assert stable.chosen == ((2, 1),)
    assert stable.overlap == stable.frequency[2, 1] == 1.0


def test_the_top_of_noise_does_not_stay_at_the_top():
    rng = np.random.default_rng(1)
    stable = top_k_stability(rng.random(100), rng.random((2000, 100)), k=10)
    assert stable.chance == 0.1
    assert stable.overlap == pytest.approx(0.1, abs=0.01)
    assert stable.frequency.sum() == pytest.approx(10)


def test_stability_counted_by_hand():
    scores = np.array([[3.0, 1.0], [2.0, 0.0]])
    resampled = np.array([[[3, 1], [2, 0]], [[3, 2], [1, 0]], [[0, 1], [2, 3]], [[0, 3], [1, 2]]], dtype=float)
    stable = top_k_stability(scores, resampled, k=2)
    assert stable.chosen == ((0, 0), (1, 0))
    np.testing.assert_array_equal(stable.frequency, [[0.5, 0.5], [0.5, 0.5]])
    assert stable.overlap == (1 + 0.5 + 0.5 + 0) / 4
    assert (stable.low, stable.high) == pytest.approx(tuple(np.quantile([1, 0.5, 0.5, 0], [0.025, 0.975])))
    assert str(stable).startswith("of the top 2 of 4, a resample keeps 50%")
    assert json.loads(json.dumps(stable.as_dict()))["chosen"] == [[0, 0], [1, 0]]


def test_of_equal_scores_those_that_the_lot_draws_are_chosen_and_that_is_told():
    found = [top_k_stability(np.zeros(4), np.zeros((300, 4)), k=2, seed=seed) for seed in range(60)]
    counts = np.bincount([place for one in found for (place,) in one.chosen], minlength=4)
    assert (counts > 15).all()  # of 60 draws of 2 of 4, each is drawn 30 times in the mean
    assert found[0].tied == 4
    assert "4 are level at the last place, drawn by lot" in str(found[0])
    np.testing.assert_allclose(found[0].frequency, 0.5, atol=0.12)


@pytest.mark.parametrize(
    ("scores", "resampled", "k", "message"),
    [
        (
            np.ones((2, 3)),
            np.ones((5, 3, 2)),
            1,
            r"the columns of scores \[2, 3\] behind its first axis, got \[5, 3, 2\]",
        ),
        (np.ones(3), np.ones((5, 3)), 0, "from 1 to 3, got 0"),
        (np.ones(3), np.ones((5, 3)), 4, "from 1 to 3, got 4"),
        (np.array([1, np.nan]), np.ones((5, 2)), 1, "scores holds NaN"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(scores, resampled, k, message):
    with pytest.raises(ValueError, match=message):
        top_k_stability(scores, resampled, k)


@pytest.mark.parametrize("level", [0.05, 0.001])
@pytest.mark.parametrize(("r", "n"), [(0.1, 300), (0.25, 80), (-0.4, 40)])
def test_power_is_that_of_the_t_test_of_two_groups(r, n, level):
    """With half of the answers right, r is d / sqrt(d^2 + 4)."""
    d = 2 * r / np.sqrt(1 - r**2)
    expected = TTestIndPower().power(abs(d), nobs1=n / 2, alpha=level)
    assert point_biserial_power(r, n, level=level) == pytest.approx(expected, rel=1e-6)


def test_without_an_effect_power_is_the_level():
    assert point_biserial_power(0.0, 50, level=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("r", [0.15, 0.3, -0.3])
@pytest.mark.parametrize("share_right", [0.5, 0.8])
def test_columns_with_an_effect_of_known_size_are_found_as_often_as_the_power_says(r, share_right):
    """Signal plus noise: right or wrong, in standard deviations, times r, and Gaussian noise for the rest."""
    n, columns, rng = 120, 2000, np.random.default_rng(3)
    correct = np.arange(n) < share_right * n
    signal = (correct - correct.mean()) / correct.std()
    values = r * signal[:, None] + np.sqrt(1 - r**2) * rng.normal(size=(n, columns))
    found = point_biserial(values, correct)
    low, high = binom.interval(0.999, columns, point_biserial_power(r, n))
    assert low <= (found.p < 0.05).sum() <= high
    assert found.r.mean() == pytest.approx(r, abs=0.02)


@pytest.mark.parametrize(
    ("r", "n", "level", "message"),
    [(1.0, 9, 0.05, "between -1 and 1, got 1.0"), (0.1, 2, 0.05, "at least 3"), (0.1, 9, 0.0, "level is a p value")],
)
def test_power_of_a_test_that_cannot_be_is_refused(r, n, level, message):
    with pytest.raises(ValueError, match=message):
        point_biserial_power(r, n, level=level)
