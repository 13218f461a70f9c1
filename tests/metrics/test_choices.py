"""Right choices, their places, their share and the margin, by hand and for any logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechaudio.metrics.choices import chance, first_places, margin, right_choices


def test_choices_with_the_answers_text_are_right_and_a_shorter_question_has_none_behind_its_own():
    right = right_choices([("dog", "rain", "dog"), ("car", "cat"), ("a", "b", "c")], ["dog", "cat", None])
    assert right.tolist() == [[True, False, True], [False, True, False], [False, False, False]]


def test_a_text_that_stands_twice_has_one_place():
    assert first_places([("dog", "dog", "cat", "cat"), ("a", "b")]).tolist() == [[0, 0, 2, 2], [0, 1, 0, 0]]


def test_answers_of_other_questions_are_refused():
    with pytest.raises(ValueError, match="choices has 1, answers has 2: give both for the same questions"):
        right_choices([("dog", "rain")], ["dog", "rain"])


def test_the_margin_is_of_the_better_right_choice_and_the_best_wrong_one():
    right = np.array([[True, False, True], [False, True, False]])
    logits = np.array([[[1.0, 2.0, 5.0], [4.0, 1.0, np.nan]], [[0.0, 0.0, 0.0], [-1.0, 1.0, np.nan]]])
    assert margin(logits, right).tolist() == [[3.0, -3.0], [0.0, 2.0]]


def test_a_margin_without_a_right_choice_or_without_any_choice_is_nan_and_without_a_wrong_one_infinite():
    right = np.array([[False, False], [True, False], [True, True]])
    found = margin(np.array([[1.0, 2.0], [np.nan, np.nan], [1.0, 2.0]]), right)
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.inf])


def test_a_margin_has_the_precision_of_its_logits():
    logits = np.array([[1.5, 0.25]], dtype=np.float32)
    assert margin(logits, np.array([[True, False]])).dtype == np.float32


@given(st.lists(st.lists(st.floats(-50, 50), min_size=2, max_size=5), min_size=1, max_size=6), st.data())
def test_a_margin_above_zero_means_that_the_highest_logit_is_a_right_choices(rows, data):
    right = [data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row)).filter(any)) for row in rows]
    for row, own in zip(rows, right, strict=True):
        found = margin(np.array(row), np.array(own))
        wrong = [logit for logit, is_right in zip(row, own, strict=True) if not is_right]
        best = max(logit for logit, is_right in zip(row, own, strict=True) if is_right)
        assert (found > 0) == all(best > logit for logit in wrong)


def test_chance_is_the_share_of_choices_that_are_right():
    found = chance([("dog", "rain", "dog", "car"), ("car", "cat"), ("a", "b", "c")], ["dog", "cat", None])
    assert found.tolist() == [0.5, 0.5, 0.0]
