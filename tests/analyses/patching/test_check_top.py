"""The places with the largest estimates, patched."""

import numpy as np
import pytest

from mechaudio.analyses import activation_patching, agreement, attribution_patching, check_top


def test_the_largest_places_are_checked_by_patching_them(tiny, scenes):
    settings = {"over": ("layer", "second"), "hook_point": "resid_mid"}
    scenes = scenes[:2]
    estimated = attribution_patching(tiny, scenes, **settings)
    exact = activation_patching(tiny, scenes, **settings)
    checked = check_top(tiny, scenes, estimated=estimated, n=5)
    known = ~np.isnan(checked.mean())
    assert known.sum() == 5
    assert {tuple(labels.values()) for labels, _ in estimated.top(5)} == {
        tuple(labels.values()) for labels, _ in checked.top(5)
    }
    np.testing.assert_allclose(checked.values[known], exact.values[known], atol=1e-4)
    assert agreement(estimated, checked)["places"] == 5


@pytest.mark.parametrize(
    ("hook_point", "over"),
    [pytest.param("audio.z", ("layer", "head"), marks=pytest.mark.whole), ("features", ("second", "band"))],
)
def test_places_in_the_tower_and_in_the_features_are_checked_too(tiny, scenes, hook_point, over):
    scenes = scenes[:2]
    estimated = attribution_patching(tiny, scenes, over=over, hook_point=hook_point)
    checked = check_top(tiny, scenes, estimated=estimated, n=3)
    assert (~np.isnan(checked.mean())).sum() == 3
    np.testing.assert_allclose(checked.clean, estimated.clean, atol=1e-5)
    np.testing.assert_allclose(checked.corrupted, estimated.corrupted, atol=1e-5)
    if hook_point == "audio.z":
        exact = activation_patching(tiny, scenes, over=over, hook_point=hook_point)
        known = ~np.isnan(checked.values)
        np.testing.assert_allclose(checked.values[known], exact.values[known], atol=1e-4)


def test_other_pairs_than_those_of_the_map_are_not_checked(toy, asked):
    found = attribution_patching(toy, asked[:2], over=("layer", "head"))
    with pytest.raises(ValueError, match="the estimates are of other pairs"):
        check_top(toy, asked[2:4], estimated=found)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        check_top(toy, asked[:2], estimated=found, n=0)
