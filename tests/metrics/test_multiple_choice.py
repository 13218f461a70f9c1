import itertools
import json
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaudio.metrics import (
    accuracy,
    accuracy_by_group,
    answer_change,
    break_rate,
    fix_rate,
    match_ids,
    random_fix_rate,
)
from mechaudio.metrics.multiple_choice import best_row

#: 10 questions: 4 wrong, of which 1 is fixed; 6 right, of which 2 are broken.
BEFORE = [False] * 4 + [True] * 6
AFTER = [True] + [False] * 3 + [False] * 2 + [True] * 4


def test_accuracy_is_the_share_of_right_answers():
    found = accuracy([True, True, False, True])
    assert (found.count, found.n, found.value) == (3, 4, 0.75)


def test_zeros_and_ones_are_wrong_and_right():
    assert accuracy([1, 0, 1]) == accuracy([True, False, True]) == accuracy(np.array([1.0, 0.0, 1.0]))


def test_groups_stand_in_the_order_in_which_they_come():
    found = accuracy_by_group([True, False, True, True], ["offset", "onset", "offset", "onset"])
    assert {name: (share.count, share.n) for name, share in found.items()} == {"offset": (2, 2), "onset": (1, 2)}
    assert list(found) == ["offset", "onset"]


def test_a_worked_example():
    fixed, broken = fix_rate(BEFORE, AFTER), break_rate(BEFORE, AFTER)
    assert (fixed.count, fixed.n) == (1, 4)
    assert (broken.count, broken.n) == (2, 6)
    found = answer_change(BEFORE, AFTER)
    assert (found.before.value, found.after.value) == (0.6, 0.5)
    assert found.change.value == pytest.approx(-0.1)
    assert (found.fix_rate, found.break_rate) == (fixed, broken)
    assert (found.test.fixed, found.test.broken) == (1, 2)


def test_a_change_prints_line_by_line_and_goes_into_json():
    found = answer_change(BEFORE, AFTER)
    lines = str(found).splitlines()
    assert lines[0].startswith("accuracy    60.0% (95% interval 31.3 to 83.2%; 6 of 10) -> 50.0%")
    assert lines[1].startswith("change      -10.0 points (95% interval ")
    assert lines[2].startswith("fix rate    25.0%")
    assert lines[3].startswith("break rate  33.3%")
    assert lines[4].startswith("test        1 fixed, 2 broken of 10: McNemar exact p = 1")
    kept = json.loads(json.dumps(found.as_dict()))
    assert kept["fix_rate"]["value"] == 0.25
    assert kept["test"]["broken"] == 2


def test_where_all_were_right_there_is_a_break_rate_and_no_fix_rate():
    found = answer_change([True, True], [True, False])
    assert found.fix_rate is None
    assert found.break_rate.value == 0.5
    assert found.as_dict()["fix_rate"] is None
    assert "fix rate    none was wrong" in str(found)
    with pytest.raises(ValueError, match="none of the 2 answers was wrong before"):
        fix_rate([True, True], [True, False])


def test_where_all_were_wrong_there_is_a_fix_rate_and_no_break_rate():
    found = answer_change([False, False], [True, False])
    assert found.break_rate is None
    assert found.fix_rate.value == 0.5
    assert "break rate  none was right" in str(found)
    with pytest.raises(ValueError, match="none of the 2 answers was right before"):
        break_rate([False, False], [True, False])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_fixes_less_breaks_is_the_net_change(pairs):
    before, after = zip(*pairs, strict=True)
    found = answer_change(before, after)
    fixed = found.fix_rate.count if found.fix_rate else 0
    broken = found.break_rate.count if found.break_rate else 0
    assert found.after.count - found.before.count == fixed - broken
    assert found.change.value == pytest.approx((fixed - broken) / len(pairs))


def test_an_answer_at_random_fixes_one_in_n_and_one_that_moves_one_in_n_less_one():
    found = random_fix_rate([False] * 8 + [True] * 5, 4)
    assert (found.uniform.value, found.another.value) == (1 / 4, pytest.approx(1 / 3))
    assert found.uniform.n == 8
    assert str(found).startswith("any choice      25.0% (95% interval 0.0 to ")


def test_only_the_wrong_questions_count_and_a_repeated_answer_is_right_twice():
    found = random_fix_rate([False, False, True], [2, 5, 26], n_right=[1, 2, 1])
    assert found.uniform.value == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert found.another.value == pytest.approx((1 / 1 + 2 / 4) / 2)


def test_the_interval_of_random_fix_rates_is_that_of_every_outcome_counted():
    choices = [2, 3, 3, 4, 5, 5]
    totals = np.zeros(len(choices) + 1)
    for outcome in itertools.product([0, 1], repeat=len(choices)):
        totals[sum(outcome)] += np.prod([1 / n if hit else 1 - 1 / n for hit, n in zip(outcome, choices, strict=True)])
    cumulated = totals.cumsum()
    found = random_fix_rate([False] * len(choices), choices, confidence=0.8)
    assert found.uniform.low == next(k for k, c in enumerate(cumulated) if c >= 0.1) / 6
    assert found.uniform.high == next(k for k, c in enumerate(cumulated) if c >= 0.9) / 6


def test_with_equal_questions_random_fix_rates_are_binomial():
    cumulated = np.cumsum([comb(40, k) * 0.25**k * 0.75 ** (40 - k) for k in range(41)])
    found = random_fix_rate([False] * 40, 4)
    assert found.uniform.low == np.flatnonzero(cumulated >= 0.025)[0] / 40
    assert found.uniform.high == np.flatnonzero(cumulated >= 0.975)[0] / 40


def test_simulated_answers_at_random_fix_as_foretold():
    rng = np.random.default_rng(0)
    before, answer = np.zeros(20_000, dtype=bool), rng.integers(0, 4, 20_000)
    assert fix_rate(before, answer == 0).value == pytest.approx(random_fix_rate(before, 4).uniform.value, abs=0.01)
    moved = rng.choice([0, 2, 3], 20_000)  # away from choice 1, the earlier answer; choice 0 is right
    assert fix_rate(before, moved == 0).value == pytest.approx(random_fix_rate(before, 4).another.value, abs=0.011)


@pytest.mark.parametrize(
    ("choices", "options", "error", "message"),
    [
        (1, {}, ValueError, "1 <= n_right < n_choices, got n_right=1, n_choices=1 at question 0"),
        ([4, 2], {"n_right": [1, 2]}, ValueError, "got n_right=2, n_choices=2 at question 1"),
        ([4, 4, 4], {}, ValueError, r"one per question \(2\), got shape \[3\]"),
        ([4.0, 3.0], {}, TypeError, "n_choices needs whole numbers, got float64"),
    ],
)
def test_questions_that_cannot_be_are_refused(choices, options, error, message):
    with pytest.raises(error, match=message):
        random_fix_rate([False, False], choices, **options)


def test_without_a_wrong_answer_there_is_nothing_to_fix_at_random():
    with pytest.raises(ValueError, match="none of the 2 answers was wrong before"):
        random_fix_rate([True, True], 4)


def test_answers_in_another_order_are_matched_by_id():
    places = match_ids(["a", "b", "c"], ["c", "a", "b"])
    assert np.array(["c", "a", "b"])[places].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (["a", "a"], ["a", "b"], "before holds 'a' more than once"),
        (["a", "b"], ["b", "b"], "after holds 'b' more than once"),
        (["a", "b"], ["a", "c"], r"1 is in the first alone \['b'\], 1 in the second alone \['c'\]"),
    ],
)
def test_ids_that_do_not_match_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        match_ids(before, after)


@pytest.mark.parametrize(
    ("correct", "error", "message"),
    [
        ([], ValueError, "correct is empty"),
        ([[True], [False]], ValueError, r"one value per question, got an array of shape \[2, 1\]"),
        ([1, 0, 2], ValueError, "True or False .* got 2 at 2"),
        ([0.0, np.nan], ValueError, "True or False .* got nan at 1"),
        ([True, None], TypeError, r"correct\[1\] is None, neither right nor wrong: leave out questions"),
        (["yes"], TypeError, "needs True or False per question"),
    ],
)
def test_what_is_neither_right_nor_wrong_is_refused(correct, error, message):
    with pytest.raises(error, match=message):
        accuracy(correct)


def test_groups_of_another_number_are_refused():
    with pytest.raises(ValueError, match="correct has 2, groups has 1"):
        accuracy_by_group([True, False], ["onset"])


def test_the_best_row_has_most_right_answers_and_of_equal_ones_the_largest_margin():
    correct = np.array([[True, False], [False, True], [False, False]])
    assert {best_row(correct, seed=seed) for seed in range(20)} == {0, 1}  # equally good: by lot
    assert best_row(correct, np.array([[1.0, -1.0], [2.0, -1.0], [9.0, 9.0]])) == 1
    assert best_row(correct, np.array([[1.0, -1.0], [np.nan, 5.0], [9.0, 9.0]])) == 0
    with pytest.raises(ValueError, match=r"chosen among variants by answers, got an array of shape \(0, 2\)"):
        best_row(correct[:0])
