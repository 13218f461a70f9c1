import pytest

from mechaudio.metrics import Proportion, paired_difference
from mechaudio.report.wording import p_value, percent, points


def test_shares_and_changes_stand_with_their_intervals():
    assert percent(Proportion(31, 40, 0.6251, 0.877, 0.95)) == "77.5% [62.5, 87.7]"
    assert points(paired_difference([False] * 6 + [True] * 4, [True] * 9 + [False])) == "+50.0 points [-1.3, +84.6]"


@pytest.mark.parametrize(("p", "told"), [(0.043, "p = 0.043"), (0.0001, "p = 0.0001"), (9.9e-5, "p < 0.0001")])
def test_a_very_small_p_value_is_said_to_be_small(p, told):
    assert p_value(p) == told
