import numpy as np

from mechaudio.metrics.ranking import largest_first


def test_the_largest_come_first_and_what_rounding_tells_apart_stands_in_its_order():
    assert largest_first(np.array([[0.5, 1.0 - 1e-7], [1.0, 0.7]])).tolist() == [1, 2, 3, 0]
    assert largest_first(np.array([1.0, 1.0 + 1e-7, 1.001])).tolist() == [2, 0, 1]


def test_what_is_not_finite_is_left_out():
    assert largest_first(np.array([np.nan, 0.0, np.inf, 2.0])).tolist() == [3, 1]
    assert largest_first(np.array([np.nan, 0.0, 0.0])).tolist() == [1, 2]
    assert largest_first(np.full(2, np.nan)).tolist() == []
