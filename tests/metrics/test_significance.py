from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mechaudio.metrics import (
    benjamini_hochberg,
    holm,
    mcnemar,
    paired_difference,
    proportion,
    sign_flip_test,
    wilson_interval,
)

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def answered(both_right, fixed, broken, both_wrong):
    """Right or wrong before and after, from the four counts."""
    before = [True] * both_right + [False] * fixed + [True] * broken + [False] * both_wrong
    after = [True] * both_right + [True] * fixed + [False] * broken + [False] * both_wrong
    return before, after


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_intervals_are_those_of_newcombe_1998(count, n, low, high):
    assert wilson_interval(count, n) == pytest.approx((low, high), abs=5e-5)


@given(n=st.integers(1, 2000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilsons_interval_is_within_0_and_1_and_holds_the_share_and_is_scipys(n, share, confidence):
    count = round(share * n)
    low, high = wilson_interval(count, n, confidence=confidence)
    assert 0 <= low <= count / n <= high <= 1
    scipys = binomtest(count, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert (low, high) == pytest.approx((scipys.low, scipys.high), abs=1e-9)


@pytest.mark.parametrize(("count", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_a_share_that_cannot_be_is_refused(count, n):
    with pytest.raises(ValueError, match=f"0 <= count <= n and n >= 1, got count={count}, n={n}"):
        wilson_interval(count, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -0.1])
def test_a_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence is a share between 0 and 1, such as"):
        proportion(1, 2, confidence=confidence)


def test_a_share_prints_with_its_interval_and_counts():
    assert str(proportion(8, 10)) == "80.0% (95% interval 49.0 to 94.3%; 8 of 10)"


def test_mcnemars_p_values_are_those_of_fagerland_2013():
    """Airway hyper-responsiveness of 21 children (Bentur et al. 2009): exact p = 0.070, mid-p = 0.039."""
    found = mcnemar(*answered(both_right=1, fixed=7, broken=1, both_wrong=12))
    assert (found.n, found.fixed, found.broken) == (21, 7, 1)
    assert found.p == pytest.approx(18 / 256)
    assert found.p_mid == pytest.approx(10 / 256)
    assert str(found) == "7 fixed, 1 broken of 21: McNemar exact p = 0.0703, mid-p = 0.0391"


def test_as_many_fixed_as_broken_is_no_evidence_and_mid_p_takes_half_of_what_was_seen():
    found = mcnemar(*answered(both_right=0, fixed=2, broken=2, both_wrong=3))
    assert found.p == 1
    assert found.p_mid == pytest.approx(1 - 0.5 * 6 / 16)  # Fagerland et al. 2013: 1 - f(n12) / 2


def test_answers_that_did_not_change_are_no_evidence():
    found = mcnemar([True, False], [True, False])
    assert (found.fixed, found.broken, found.p, found.p_mid) == (0, 0, 1, 1)


@given(answers)
def test_mcnemars_test_has_no_direction_and_mid_p_is_the_smaller(pairs):
    before, after = zip(*pairs, strict=True)
    there, back = mcnemar(before, after), mcnemar(after, before)
    assert (there.p, there.p_mid) == (back.p, back.p_mid)
    assert (there.fixed, there.broken) == (back.broken, back.fixed)
    assert 0 <= there.p_mid <= there.p <= 1
    if there.fixed + there.broken:
        exact = binomtest(there.fixed, there.fixed + there.broken, 0.5).pvalue
        assert there.p == pytest.approx(exact)


def test_the_interval_of_a_paired_difference_is_bonett_and_prices():
    """The example of `ci.prop.ps` in Bonett's R package statpsych: 0.44, 0.2548067 to 0.6251933."""
    found = paired_difference(*answered(both_right=6, fixed=26, broken=4, both_wrong=12))
    assert (found.low, found.high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    assert found.value == pytest.approx(22 / 48)
    assert found.n == 48


@given(answers)
def test_the_difference_there_is_the_negative_of_the_difference_back(pairs):
    before, after = zip(*pairs, strict=True)
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert -1 <= there.low < there.high <= 1
    assert there.value == pytest.approx(np.mean(after) - np.mean(before))


NEUHAUS = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
           0.7590, 1.0]  # fmt: skip


def test_the_fifteen_tests_of_benjamini_and_hochberg_1995():
    """At 0.05 their procedure finds four; Bonferroni's and Hochberg's find three, so Holm's, between them, does too."""
    assert (benjamini_hochberg(NEUHAUS) <= 0.05).sum() == 4
    assert (holm(NEUHAUS) <= 0.05).sum() == 3
    assert benjamini_hochberg(NEUHAUS)[3] == pytest.approx(0.0095 * 15 / 4)
    assert holm(NEUHAUS)[2] == pytest.approx(0.0019 * 13)


def slow_holm(p):
    order, adjusted, worst = np.argsort(p), np.empty(len(p)), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, (len(p) - rank) * p[place])
        adjusted[place] = min(1.0, worst)
    return adjusted


def slow_benjamini_hochberg(p):
    order, adjusted, best = np.argsort(p), np.empty(len(p)), 1.0
    for rank in reversed(range(len(p))):
        best = min(best, len(p) / (rank + 1) * p[order[rank]])
        adjusted[order[rank]] = best
    return adjusted


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrections_are_those_of_their_formulas(p):
    np.testing.assert_allclose(holm(p), slow_holm(p), atol=1e-15)
    np.testing.assert_allclose(benjamini_hochberg(p), slow_benjamini_hochberg(p), atol=1e-15)


def test_corrections_keep_the_shape_and_count_all_of_it_as_one_family():
    p = np.array(NEUHAUS).reshape(3, 5)
    assert benjamini_hochberg(p).shape == (3, 5)
    np.testing.assert_array_equal(benjamini_hochberg(p).ravel(), benjamini_hochberg(NEUHAUS))


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([], "p_values is empty"),
        ([0.5, 1.2], r"probabilities from 0 to 1, got 1.2 \(1 of 2\)"),
        ([0.5, np.nan], r"probabilities from 0 to 1, got nan \(1 of 2\)"),
    ],
)
def test_what_is_no_probability_is_refused(correct, p, message):
    with pytest.raises(ValueError, match=message):
        correct(p)


@pytest.mark.parametrize("compare", [mcnemar, paired_difference])
def test_two_sets_of_answers_of_different_length_are_refused(compare):
    with pytest.raises(ValueError, match="before and after go together one by one, but before has 2, after has 3"):
        compare([True, False], [True, False, True])


@given(pairs=answers)
def test_the_test_of_signs_is_mcnemars_for_single_answers(pairs):
    before, after = (np.array(column) for column in zip(*pairs, strict=True))
    assert sign_flip_test(after.astype(int) - before) == pytest.approx(mcnemar(before, after).p)


@given(differences=st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_the_test_of_signs_counts_all_signs(differences):
    sums = [np.dot(signs, differences) for signs in product((-1, 1), repeat=len(differences))]
    as_large = np.abs(sums) >= abs(sum(differences))
    assert sign_flip_test(differences) == pytest.approx(as_large.mean())


def test_the_test_of_signs_refuses_shares_and_nothing():
    with pytest.raises(TypeError, match="count right answers, not shares"):
        sign_flip_test([0.5, -1.0])
    with pytest.raises(ValueError, match="one difference per question"):
        sign_flip_test(np.zeros((2, 2), dtype=int))
