"""Head scores against scipy and loops, on the toy's planted head, under shuffled labels, and with known power."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, false_discovery_control, nct, pointbiserialr, t

import mechaudio as ma
from mechaudio.analyses import score_heads, specialist_heads
from mechaudio.data.toy_questions import questions
from mechaudio.models.toy.planted import PLANTED
from tests.analyses.measured import measured, noise
from tests.families import unchecked_types
from tests.reference import specialist_heads as reference

STILL = r"heads give the audio the same share of attention in every question"


@pytest.fixture(scope="module")
def planted(toy):
    with pytest.warns(UserWarning, match=STILL):
        return specialist_heads(toy, questions(200, seed=0), batch_size=20)


@pytest.fixture(scope="module")
def heard(planted):
    return planted.measured


def test_every_correlation_is_scipys_and_that_of_the_formula():
    found = measured(*noise(40, effect=1.0, of=[(1, 2)]))
    scores = score_heads(found, resamples=50)
    for layer, head in np.ndindex(3, 4):
        column = found.audio_attention[:, layer, head].astype(np.float64)
        expected = pointbiserialr(found.correct, column)
        assert scores.r[layer, head] == pytest.approx(expected.statistic, abs=1e-12)
        assert scores.p[layer, head] == pytest.approx(expected.pvalue, rel=1e-9)
        assert scores.r[layer, head] == pytest.approx(reference.correlation(column.tolist(), found.correct.tolist()))
        assert scores.low[layer, head] < scores.r[layer, head] < scores.high[layer, head]
    np.testing.assert_allclose(scores.q.ravel(), false_discovery_control(scores.p.ravel()))


def test_the_planted_listening_head_is_first_and_the_decoy_is_not_significant(planted):
    scores = planted
    assert scores.top(1) == (PLANTED.listening,)
    assert scores.r[PLANTED.listening] > 0.6
    assert scores.low[PLANTED.listening] > 0.5
    assert scores.q[PLANTED.listening] < 1e-20
    assert np.unravel_index(scores.mean.argmax(), scores.mean.shape) == PLANTED.decoy
    assert scores.p[PLANTED.decoy] > 0.05
    assert scores.stability(1).overlap == 1.0
    assert (scores.provenance.checkpoint, scores.provenance.seed) == ("toy", 0)


def test_heads_that_vary_by_rounding_alone_are_named_and_have_r_0(heard):
    reading = heard.audio_attention[(slice(None), *PLANTED.reading)]
    assert 0 < np.ptp(reading) < 1e-12, "exp(-32), as precisely as float32 has it"
    with pytest.warns(UserWarning, match=rf"^14 of 16 {STILL}.*: \(0, 0\), \(0, 1\), .*, \.\.\.$"):
        scores = score_heads(heard, resamples=50)
    assert {tuple(map(int, head)) for head in np.argwhere(scores.varies)} == {PLANTED.listening, PLANTED.decoy}
    assert scores.constant.sum() == 14
    assert (scores.r[scores.constant] == 0).all()
    assert (scores.p[scores.constant] == 1).all()
    assert (scores.low[scores.constant] == 0).all()
    with pytest.raises(ValueError, match="from 1 to 2, got 3: only 2 of 16 heads vary"):
        scores.top(3)


def test_layers_without_attention_are_nan_and_their_neighbours_keep_their_places():
    attention, correct = noise(60, effect=3.0, of=[(2, 1)])
    attention[:, 1] = np.nan
    attention[:, 2, 3] = 0.25
    with pytest.warns(UserWarning, match=r"1 of 12 heads .*: \(2, 3\)$"):
        scores = score_heads(measured(attention, correct), resamples=50)
    for grid in (scores.r, scores.p, scores.q, scores.low, scores.high):
        assert np.isnan(grid[1]).all()
        assert np.isfinite(grid[[0, 2]]).all()
    assert not scores.constant[1].any()
    assert scores.top(1) == ((2, 1),)
    stable = scores.stability(2)
    assert stable.chosen == scores.top(2)
    assert stable.frequency[2, 1] == 1.0
    assert stable.frequency[2, 3] == 0.0
    assert np.isnan(stable.frequency[1]).all()
    assert np.nansum(stable.frequency) == pytest.approx(2)
    assert {layer for seed in range(20) for layer, _ in scores.random(4, seed=seed)} == {0, 2}


def test_a_model_without_attention_has_no_heads_to_score():
    with pytest.raises(ValueError, match="no layer of this model has attention"):
        score_heads(measured(np.full((5, 2, 2), np.nan), [True, False, True, False, True]))


def test_no_questions_and_numbers_of_heads_that_are_not_whole_are_refused():
    found = measured(*noise(20))
    with pytest.raises(ValueError, match="correct is empty: there is nothing to count without a question"):
        score_heads(found.part([]))
    scores = score_heads(found, resamples=20)
    for ask in (scores.top, scores.random, scores.stability):
        for k in (1.5, True, "2"):
            with unchecked_types(), pytest.raises(TypeError, match=f"k is a whole number, such as 5, got {k!r}"):
                ask(k)


@pytest.mark.filterwarnings(f"ignore:.*{STILL}")
def test_with_shuffled_labels_five_percent_of_the_tests_are_below_five_percent(heard):
    """Of the toy's listening head over 400 shuffles, and of 1024 independent heads."""
    rng, n = np.random.default_rng(0), 400
    column = heard.audio_attention[(slice(None), *PLANTED.listening)].astype(np.float64)
    each = [pointbiserialr(rng.permutation(heard.correct), column).pvalue for _ in range(n)]
    low, high = binom.interval(0.99, n, 0.05)
    assert low <= (np.array(each) < 0.05).sum() <= high
    attention, correct = noise(120, 32, 32, seed=1)
    scores = score_heads(measured(attention, correct), resamples=400)
    low, high = binom.interval(0.99, 1024, 0.05)
    assert low <= (scores.p < 0.05).sum() <= high
    assert (scores.q < 0.05).sum() <= 1
    covers_zero = (scores.low < 0) & (scores.high > 0)
    assert 0.92 < covers_zero.mean() < 0.98, "of 95% intervals"


@pytest.mark.parametrize("effect", [0.3, 0.6])
def test_a_planted_effect_is_found_as_often_as_theory_says(effect):
    """The t test of two groups: its power is that of the noncentral t distribution."""
    n, every = 80, [(layer, head) for layer in range(32) for head in range(32)]
    attention, correct = noise(n, 32, 32, seed=2, effect=effect, of=every)
    scores = score_heads(measured(attention, correct), resamples=20)
    right = correct.sum()
    shift, critical = effect * np.sqrt(right * (n - right) / n), t.ppf(0.975, n - 2)
    power = nct.sf(critical, n - 2, shift) + nct.cdf(-critical, n - 2, shift)
    low, high = binom.interval(0.99, 1024, power)
    assert low <= (scores.p < 0.05).sum() <= high
    assert 0.2 < power < 0.8


def test_ranking_is_by_size_or_by_sign_and_random_heads_are_drawn_by_seed():
    attention, correct = noise(60)
    attention[:, 0, 1] += 0.2 * correct
    attention[:, 2, 0] -= 0.4 * correct
    scores = score_heads(measured(attention, correct), resamples=50)
    assert scores.top(2) == ((2, 0), (0, 1))
    assert scores.top(1, ranking="signed") == ((0, 1),)
    assert (2, 0) not in scores.top(11, ranking="signed")
    assert scores.stability(1, ranking="signed").chosen == ((0, 1),)
    assert scores.random(5, seed=1) == scores.random(5, seed=1) != scores.random(5, seed=2)
    assert len(set(scores.random(12))) == 12
    with (
        unchecked_types(),
        pytest.raises(ValueError, match=r"ranking= is 'magnitude', by \|r\|, or 'signed', by r; got"),
    ):
        scores.top(1, ranking="size")
    with pytest.raises(ValueError, match="from 1 to 12, got 13"):
        scores.random(13)


def test_answers_that_are_all_right_tell_nothing(toy):
    with pytest.warns(UserWarning, match=STILL), pytest.raises(ValueError, match="every answer is right"):
        specialist_heads(toy, questions(4, seed=0, level=(0, 0)))


def test_scores_survive_the_disk_and_rank_the_same(tmp_path):
    scores = score_heads(measured(*noise(30)), resamples=50, seed=5)
    loaded = ma.Result.load(scores.save(tmp_path / "scores"))
    np.testing.assert_array_equal(loaded.r, scores.r)
    assert loaded.top(3) == scores.top(3)
    assert str(loaded.stability(3)) == str(scores.stability(3))


def test_a_head_that_varies_by_the_rounding_of_half_precision_is_constant():
    rng = np.random.default_rng(0)
    attention = np.full((40, 1, 2), 0.3, dtype=np.float32)
    attention[:, 0, 0] *= 1 + 2**-10 * rng.standard_normal(40).astype(np.float32)
    attention[:, 0, 1] *= 1 + 0.1 * rng.standard_normal(40).astype(np.float32)
    exact = measured(attention, rng.random(40) < 0.5)
    assert not score_heads(exact).constant.any()
    with pytest.warns(UserWarning, match=r"\(0, 0\)"):
        rounded = score_heads(replace(exact, precision=2**-7))
    assert rounded.constant.tolist() == [[True, False]]
