"""Maps of effects: means and intervals where some prompts lack a place."""

import numpy as np
import pytest

from tests.analyses.maps import effect_map
from tests.families import unchecked_types


def test_a_place_that_some_prompts_lack_is_measured_on_the_others():
    values = [[1.0, np.nan, 3.0, 9.0], [2.0, 4.0, 6.0, 9.0], [np.nan] * 4]
    found = effect_map(values, clean=[2.0, 4.0, 6.0, 5.0], corrupted=[0.0, 0.0, 0.0, 5.0])
    assert found.undefined == ("q3",)
    np.testing.assert_array_equal(found.counted, [2, 3, 0])
    np.testing.assert_allclose(found.mean(), [(1 + 3) / (2 + 6), 1.0, np.nan])
    assert [place["role"] for place, _ in found.top()] == ["b", "a"]


def test_intervals_are_over_the_pairs_that_have_the_place_and_none_where_few_have():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 12))
    values[1, 6:], values[2, 5:] = np.nan, np.nan
    found = effect_map(values)
    low, high = found.interval()
    assert values[1, :6].min() <= low[1] < values[1, :6].mean() < high[1] <= values[1, :6].max()
    assert low[0] < values[0].mean() < high[0]
    assert np.isnan([low[2], high[2]]).all()
    np.testing.assert_array_equal(effect_map(values[:1]).interval(), [low[:1], high[:1]])


@pytest.mark.parametrize(("direction", "first"), [("denoising", "b"), ("noising", "a")])
def test_the_largest_effect_is_the_furthest_from_doing_nothing(direction, first):
    found = effect_map([[0.1, 0.3], [0.9, 0.8]], direction=direction)
    assert found.no_effect == (0.0 if direction == "denoising" else 1.0)
    assert found.top(1)[0][0] == {"role": first}


def test_fewer_than_six_pairs_exclude_nothing_and_neither_does_rounding():
    values = np.random.default_rng(0).uniform(0.2, 0.9, (3, 6))
    values[1] = 1e-6
    values[2, 0] = np.nan
    found = effect_map(values)
    assert found.excludes_no_effect(*found.interval()).tolist() == [True, False, False]
    noised = effect_map(values, direction="noising")
    assert noised.excludes_no_effect(*noised.interval()).tolist() == [True, True, False]


def test_how_many_places_to_name_is_a_whole_number_from_1_on():
    found = effect_map([[1.0, 0.5], [0.0, 0.1]])
    for n in (2.5, True):
        with unchecked_types(), pytest.raises(TypeError, match=f"n is a whole number, such as 5, got {n}"):
            found.top(n)
    with pytest.raises(ValueError, match="n is how many places to name, at least 1; got -1"):
        found.top(-1)
