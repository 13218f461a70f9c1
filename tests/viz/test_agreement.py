from dataclasses import replace

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.viz import agreement
from tests.analyses.maps import effect_map

AXES = {"layer": (0, 2), "head": (0, 1, 2)}


def maps():
    rng = np.random.default_rng(0)
    exact = effect_map(rng.uniform(0, 1, (2, 3, 8)), axes=AXES)
    return replace(exact, values=exact.values + rng.normal(0, 0.05, exact.values.shape)), exact


def test_every_place_is_a_point_exact_across_and_estimated_up():
    estimated, exact = maps()
    equal, points = agreement(estimated, exact).data
    np.testing.assert_array_equal(points.x, exact.mean().ravel())
    np.testing.assert_array_equal(points.y, estimated.mean().ravel())
    assert points.customdata[4] == "layer 2, head 1"
    assert list(points.marker.color) == [0, 0, 0, 2, 2, 2]
    assert list(points.marker.colorbar.tickvals) == [0, 2]
    assert list(equal.x) == list(equal.y)


def test_the_title_says_the_correlation_that_the_analysis_measures():
    estimated, exact = maps()
    found = ma.analyses.agreement(estimated, exact)
    title = agreement(estimated, exact, "AtP").layout.title
    assert title.text == f"AtP: r = {found['pearson']:.2f}"
    assert f"Spearman's {found['spearman']:.2f}; largest difference {found['error']:.2f}" in title.subtitle.text
    assert "6 places of resid_pre" in title.subtitle.text


def test_only_the_places_asked_for_and_there_are_drawn():
    estimated, exact = maps()
    exact.values[0, 0] = np.nan
    chosen = np.array([[True, True, True], [True, True, False]])
    points = agreement(estimated, exact, places=chosen).data[1]
    np.testing.assert_array_equal(points.x, exact.mean()[[0, 0, 1, 1], [1, 2, 0, 1]])


def test_maps_of_unlike_things_are_refused():
    estimated, exact = maps()
    with pytest.raises(ValueError, match="another direction, denoising and noising"):
        agreement(estimated, replace(exact, direction="noising"))
