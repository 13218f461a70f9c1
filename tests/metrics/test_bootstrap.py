import numpy as np
import pytest

from mechaudio.metrics import bootstrap, bootstrap_mean


def test_the_interval_of_a_mean_is_seeded_and_holds_the_mean_and_narrows_with_n():
    values = np.random.default_rng(0).normal(size=(400, 1))
    low, high = bootstrap_mean(values, seed=3)
    assert np.array_equal(bootstrap_mean(values, seed=3), (low, high))
    assert not np.array_equal(bootstrap_mean(values, seed=4), (low, high))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.1)


def test_every_column_has_an_interval_and_one_without_values_has_none():
    values = np.random.default_rng(0).normal(size=(30, 2, 3))
    values[4, 1, 2] = np.nan
    low, high = bootstrap_mean(values)
    assert low.shape == high.shape == (2, 3)
    assert np.isnan(low).sum() == np.isnan(high).sum() == 1
    assert np.isnan(low[1, 2])
    np.testing.assert_allclose(low[0, 1], bootstrap_mean(values[:, 0, 1])[0])


def test_equal_samples_have_no_interval_beside_others_that_have_one():
    values = np.full((6, 2), 0.25)
    values[:, 1] = np.arange(6)
    low, high = bootstrap_mean(values)
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] < 2.5 < high[1]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.ones((1, 2)), {}, "at least 2 of them, got 1"),
        (np.ones((2, 2)), {"resamples": 0}, "resamples must be at least 1 and at most 1,000,000, got 0"),
        (np.ones((2, 2)), {"confidence": 95.0}, "confidence is a share between 0 and 1"),
    ],
)
def test_a_mean_without_an_interval_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, **options)


def test_the_bootstrap_of_a_mean_has_its_normal_interval():
    values = np.random.default_rng(0).normal(loc=3, size=500)
    found = bootstrap(np.mean, values, seed=1)
    assert (found.value, found.n, found.method) == (values.mean(), 500, "bootstrap, percentile")
    assert found == bootstrap(np.mean, values, seed=1)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - 1.96 / np.sqrt(500), values.mean() + 1.96 / np.sqrt(500)), abs=0.01
    )


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_pairs_are_drawn_together(method):
    """A difference that is the same in every pair has no spread in pairs, and that of both samples apart."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=200)
    after = before + 1 + rng.normal(scale=0.01, size=200)

    def difference(after, before):
        return np.mean(after) - np.mean(before)

    together = bootstrap(difference, after, before, resamples=500, method=method)
    apart = bootstrap(difference, after, before, resamples=500, method=method, paired=False)
    assert together.value == apart.value
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.01 / np.sqrt(200), rel=0.2)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 200), rel=0.2)
    assert (together.n, apart.n) == (200, 400)


def test_right_and_wrong_are_drawn_as_ones_and_zeros():
    found = bootstrap(np.mean, np.arange(100) < 70)
    assert found.value == 0.7
    assert (found.low, found.high) == pytest.approx((0.61, 0.79), abs=0.011)  # binomial: 2.5 and 97.5% of 100 at 0.7


def test_a_statistic_that_resamples_leave_undefined_is_refused():
    with pytest.raises(ValueError, match="the statistic is undefined on some resamples"):
        bootstrap(lambda values: np.mean(values) if values.any() else np.nan, np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match='method="BCa" cannot correct'):
        bootstrap(np.mean, np.ones(5), method="BCa")


@pytest.mark.parametrize(
    ("samples", "options", "error", "message"),
    [
        ([], {}, ValueError, r"one-dimensional samples, got shapes \[\]"),
        ([np.ones((2, 2))], {}, ValueError, r"one-dimensional samples, got shapes \[\[2, 2\]\]"),
        ([np.ones(1)], {}, ValueError, "at least 2 of them, got 1"),
        ([np.ones(2), np.ones(3)], {}, ValueError, "sample 0 has 2, sample 1 has 3"),
        ([np.array([1, np.nan])], {}, ValueError, "sample 0 holds NaN or infinity in samples 1"),
        ([np.array(["a", "b"])], {}, TypeError, "sample 0 needs real numbers, got <U1"),
        ([np.ones(3)], {"resamples": 0}, ValueError, "resamples must be at least 1 and at most 1,000,000, got 0"),
    ],
)
def test_samples_that_cannot_be_drawn_anew_are_refused(samples, options, error, message):
    with pytest.raises(error, match=message):
        bootstrap(np.mean, *samples, **options)
