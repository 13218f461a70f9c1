import numpy as np
import pytest

from mechaudio.analyses import listening_score, score_heads
from mechaudio.viz import listening_auc
from tests.analyses.measured import measured, noise


@pytest.fixture(scope="module")
def score():
    chosen, rest = measured(*noise(120, effect=1.0, of=[(0, 1), (2, 3)])).split()
    return listening_score(score_heads(chosen, resamples=50), rest, k=2, draws=60)


def row(figure, name):
    (trace,) = (trace for trace in figure.data if trace.name == name)
    return trace.x[0], trace.x[0] - trace.error_x.arrayminus[0], trace.x[0] + trace.error_x.array[0]


def test_the_diamonds_are_areas_and_the_bars_their_intervals(score):
    figure = listening_auc(score)
    auc, mass = score.auc, score.mass_auc
    assert row(figure, "specialists") == pytest.approx((auc.value, auc.low, auc.high))
    assert row(figure, "specialists, unweighted") == pytest.approx((mass.value, mass.low, mass.high))
    low, middle, high = np.quantile(score.random_auc, [0.025, 0.5, 0.975])
    assert row(figure, "random heads") == pytest.approx((middle, low, high))


def test_every_random_set_is_a_dot(score):
    np.testing.assert_array_equal(listening_auc(score).data[0].x, score.random_auc)


def test_the_title_says_how_many_questions_were_scored_and_how_many_chosen_on(score):
    title = listening_auc(score).layout.title
    assert f"n = {len(score.ids)} questions, {score.correct.sum()} right" in title.text.replace(" <br>", " ")
    assert f"2 heads, chosen on {score.n_calibration} other questions" in title.subtitle.text
    assert "95% intervals; 60 random sets" in title.subtitle.text
