import numpy as np
import pytest
from scipy.stats import hypergeom

from mechaudio.analyses import layer_weights, score_heads
from mechaudio.viz import induced_layers
from tests.analyses.measured import measured, noise


@pytest.fixture
def scores():
    attention, correct = noise(120, 4, 6, effect=3.0, of=[(2, 0), (2, 3), (2, 4), (3, 1)])
    return score_heads(measured(attention, correct), resamples=50)


def test_bars_are_the_weights_of_layer_guided_steering(scores):
    figure = induced_layers(scores, ks=(4, 8))
    for k in (4, 8):
        (bars,) = [trace for trace in figure.data if trace.name == f"K = {k}"]
        weights = layer_weights(scores.top(k))
        np.testing.assert_allclose(bars.y, [100 * weights.get(layer, 0.0) for layer in range(4)])
        assert sum(bars.y) == pytest.approx(100)
    (four,) = [trace for trace in figure.data if trace.name == "K = 4"]
    assert list(four.y) == [0, 0, 75, 25]


def test_the_grey_bars_are_where_random_heads_fall(scores):
    _, grey, dash = induced_layers(scores, ks=(4,)).data  # four of 24 heads, of which a layer has six
    drawn = hypergeom(24, 6, 4)
    np.testing.assert_allclose(np.asarray(grey.base, dtype=float), 100 * drawn.ppf(0.025) / 4)
    np.testing.assert_allclose(
        np.asarray(grey.base, dtype=float) + np.asarray(grey.y, dtype=float), 100 * drawn.ppf(0.975) / 4
    )
    np.testing.assert_allclose(dash.y, 25)


def test_layers_without_attention_have_no_share_and_no_random_heads():
    attention, correct = noise(80)
    attention[:, 1] = np.nan
    figure = induced_layers(score_heads(measured(attention, correct), resamples=50), ks=(3,))
    bars, grey, dash = figure.data
    assert (bars.y[1], grey.y[1], dash.y[1]) == (0, 0, 0)
    assert "8 heads" in figure.layout.title.text.replace(" <br>", " ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": ()}, "ks lists numbers of heads"),
        ({"ks": (4, 4)}, "ks lists numbers of heads"),
        ({"ks": (99,)}, "k is a number of heads from 1 to 24, got 99"),
        ({"ks": (4,), "confidence": 95.0}, "confidence is a share between 0 and 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(scores, options, message):
    with pytest.raises(ValueError, match=message):
        induced_layers(scores, **options)
