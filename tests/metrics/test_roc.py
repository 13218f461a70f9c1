import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from mechaudio.metrics import roc_auc

CORRECT = np.array([True, False, True, True, False, False, True, False, True, True, False, True])


def test_the_area_of_hanley_and_mcneil_1982():
    """Ratings 1 to 5 of 58 normal and 51 abnormal images: area 0.893, standard error 0.032."""
    ratings = np.repeat([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
    found = roc_auc(ratings, np.arange(109) >= 58)
    assert found.value == pytest.approx(0.893, abs=5e-4)
    assert (found.n_right, found.n_wrong) == (51, 58)
    assert found.low < found.value < found.high
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(0.032, abs=0.003)
    assert str(found).startswith("AUC 0.893 (95% interval ")
    assert json.loads(json.dumps(found.as_dict()))["n_right"] == 51


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=12, max_size=12))
def test_the_area_is_scikit_learns(scores):
    found = roc_auc(scores, CORRECT)
    assert found.value == pytest.approx(roc_auc_score(CORRECT, scores))
    assert 0 <= found.low <= found.high <= 1
    assert roc_auc(np.negative(scores), CORRECT).value == pytest.approx(1 - found.value)


def test_a_score_that_tells_nothing_has_area_one_half():
    rng = np.random.default_rng(0)
    scores, correct = rng.random(4000), rng.random(4000) < 0.7
    found = roc_auc(scores, correct)
    assert found.low < 0.5 < found.high
    assert found.p > 0.05
    assert found == roc_auc(scores, correct)


def test_within_strata_a_score_that_tells_only_the_strata_apart_has_area_one_half():
    rng = np.random.default_rng(0)
    kinds = np.repeat(["easy", "hard"], 300)
    correct = rng.random(600) < np.where(kinds == "easy", 0.9, 0.3)
    scores = rng.normal(size=600) + 3 * (kinds == "easy")
    assert roc_auc(scores, correct).low > 0.7
    within = roc_auc(scores, correct, strata=kinds)
    assert within.low < 0.5 < within.high
    assert within.p > 0.05
    assert (within.n_right, within.n_wrong) == (correct.sum(), (~correct).sum())


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.permutations(["a"] * 6 + ["b"] * 6))
def test_the_area_within_strata_counts_their_pairs_and_no_others(scores, strata):
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for kind in "ab"
        for own in [[(s, c) for s, c, of in zip(scores, CORRECT, strata, strict=True) if of == kind]]
        if 2 <= sum(c for _, c in own) <= 4
        for high, right in own if right
        for low, also in own if not also
    ]  # fmt: skip
    assume(pairs)  # a stratum of one kind of answer has none
    assert roc_auc(scores, CORRECT, strata=strata).value == pytest.approx(np.mean(pairs))


def test_one_stratum_has_the_test_of_mann_and_whitney_and_strata_that_are_too_small_are_left_out():
    scores = np.random.default_rng(1).normal(size=12)
    plain = roc_auc(scores, CORRECT)
    assert roc_auc(scores, CORRECT, strata=["a"] * 12) == plain
    more = roc_auc([*scores, 9.0, -9.0], [*CORRECT, False, True], strata=["a"] * 12 + ["b", "c"])
    assert more == plain


def test_the_stratified_p_value_is_uniform_where_there_is_nothing_to_find():
    rng = np.random.default_rng(2)
    strata = ["a"] * 20 + ["b"] * 30
    p_values = [roc_auc(rng.integers(0, 6, 50), rng.permutation(50) < 25, strata=strata).p for _ in range(400)]
    low, high = binom.interval(0.999, 400, 0.05)
    assert low <= (np.array(p_values) < 0.05).sum() <= high
    assert binom.interval(0.999, 400, 0.5)[0] <= (np.array(p_values) < 0.5).sum() <= binom.interval(0.999, 400, 0.5)[1]


@pytest.mark.parametrize(
    ("scores", "correct", "options", "message"),
    [
        (np.ones((4, 1)), [1, 1, 0, 0], {}, r"one number per question, got shape \[4, 1\]"),
        (np.ones(3), [1, 1, 0, 0], {}, "scores has 3, correct has 4"),
        (np.ones(3), [1, 1, 0], {}, "at least 2 right and 2 wrong answers, got 2 and 1"),
        ([1, 2, 3, np.inf], [1, 1, 0, 0], {}, "NaN or infinity in samples 3"),
        (np.ones(4), [1, 1, 0, 0], {"strata": "abcd"}, "none of the 4 strata has 2 right and 2 wrong"),
        (np.ones(4), [1, 1, 0, 0], {"strata": "abc"}, "scores has 4, strata has 3"),
        (np.ones(4), [1, 1, 0, 0], {"confidence": 1.0}, "confidence is a share"),
    ],
)
def test_an_area_that_cannot_be_is_refused(scores, correct, options, message):
    with pytest.raises(ValueError, match=message):
        roc_auc(scores, correct, **options)
