import numpy as np
import pytest

from mechaudio.analyses import listening_score, score_heads
from mechaudio.viz import listening_curve
from tests.analyses.measured import measured, noise


@pytest.fixture(scope="module")
def scores():
    chosen, rest = measured(*noise(120, effect=1.0, of=[(0, 1), (2, 3)])).split()
    heads = score_heads(chosen, resamples=50)
    return {k: listening_score(heads, rest, k=k, draws=60) for k in (5, 1, 2)}


def line(figure, name):
    (trace,) = (trace for trace in figure.data if trace.name == name)
    return trace


def test_the_lines_are_areas_over_the_numbers_of_heads_in_order(scores):
    figure = listening_curve(scores)
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "5"]
    for name, of in (("specialists", "auc"), ("specialists, unweighted", "mass_auc")):
        areas = [getattr(scores[k], of) for k in (1, 2, 5)]
        drawn = line(figure, name)
        np.testing.assert_allclose(drawn.y, [area.value for area in areas])
        np.testing.assert_allclose(drawn.y + drawn.error_y.array, [area.high for area in areas])
        np.testing.assert_allclose(drawn.y - drawn.error_y.arrayminus, [area.low for area in areas])


def test_the_band_holds_the_share_of_the_random_sets_that_it_says(scores):
    figure = listening_curve(scores)
    band = line(figure, "random heads, 95% of 60 sets")
    high, low = band.y[:3], band.y[3:][::-1]
    for place, k in enumerate((1, 2, 5)):
        drawn = scores[k].random_auc
        assert ((low[place] <= drawn) & (drawn <= high[place])).mean() >= 0.93
        assert line(figure, "random heads, median").y[place] == np.median(drawn)


def test_the_title_says_how_many_questions_there_are(scores):
    title = listening_curve(scores).layout.title
    assert f"n = {len(scores[1].ids)} questions" in title.text
    assert f"chosen on {scores[1].n_calibration} other questions" in title.subtitle.text


def test_scores_of_other_questions_or_none_are_refused(scores):
    with pytest.raises(ValueError, match="scores is empty"):
        listening_curve({})
    others = measured(*noise(60, seed=3), name="other")
    heads = score_heads(measured(*noise(60, seed=4)), resamples=20)
    with pytest.raises(ValueError, match="of different questions"):
        listening_curve(scores | {3: listening_score(heads, others, k=3, draws=5)})
