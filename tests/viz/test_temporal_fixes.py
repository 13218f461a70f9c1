from dataclasses import replace

import numpy as np
import pytest

from mechaudio.viz import temporal_fixes
from tests.viz.studies import SETTINGS, study


def test_rates_stand_over_their_strengths_with_whiskers():
    found = study()
    figure = temporal_fixes(found)
    assert len(figure.data) == 2 * 2 * 2  # kinds, query rows, fixed and broken
    fixed = figure.data[0]
    arms = [tested for tested in found.uniform if (tested.arm.kind, tested.arm.queries) == ("upweighting", "last")]
    np.testing.assert_allclose(fixed.y, [100 * tested.change.fix_rate.value for tested in arms])
    np.testing.assert_allclose(fixed.y + fixed.error_y.array, [100 * tested.change.fix_rate.high for tested in arms])
    np.testing.assert_allclose(fixed.x, [tested.arm.strength for tested in arms], atol=0.05)


def test_answers_at_random_are_told():
    note = temporal_fixes(study()).layout.title.subtitle.text
    assert note.startswith("n = 3 wrong, 5 right without a change; whiskers: 95% intervals (Wilson)")
    assert note.endswith("answers at random, which fix 25% and break 75%; dotted: no change")


@pytest.mark.parametrize("control", ["mass_preserving", "mass_matched", "centred", "text keys"])
def test_every_control_can_be_drawn(control):
    assert f"control: {control.replace('_', ' ')}" in temporal_fixes(study(), control=control).layout.title.text


def test_what_cannot_be_drawn_is_refused():
    found = study()
    arms = [place for place, arm in enumerate(found.arms) if arm.control != "centred"]
    compared = replace(
        found.compared,
        variants=tuple(found.compared.variants[place] for place in arms),
        chosen=found.compared.chosen[arms],
    )
    fewer = replace(found, compared=compared, arms=tuple(found.arms[place] for place in arms))
    with pytest.raises(ValueError, match="no control 'centred'; it has"):
        temporal_fixes(fewer, control="centred")
    with pytest.raises(ValueError, match="need wrong and right answers; 8 of 8 are right"):
        temporal_fixes(study(right=8))


def test_rows_that_only_the_change_in_one_layer_has_are_drawn_where_they_were_scaled():
    found = study(settings=replace(SETTINGS, queries=("choices",)))  # one layer: the last row, which is scaled alone
    figure = temporal_fixes(found)
    assert [(line.name, line.xaxis) for line in figure.data if line.yaxis in ("y", "y2")] == [
        ("choices", "x"),
        ("choices", "x2"),
        ("last", "x2"),
    ]
    assert [line.name for line in figure.data if line.showlegend] == ["choices", "last"]
