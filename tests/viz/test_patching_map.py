import numpy as np
import pytest
from plotly.colors import unlabel_rgb

import mechaudio as ma
from mechaudio.viz import patching_map
from mechaudio.viz.grid import WRITTEN_IN
from tests.analyses.maps import effect_map

HEADS = {"layer": (2, 4, 5), "head": (0, 1)}


def values(shape=(3, 2), n=12, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.9, (*shape, n))


def colour(cells, value):
    place = (value - cells.zmin) / (cells.zmax - cells.zmin)
    return np.array(unlabel_rgb(cells.colorscale[round(100 * place)][1]))


def test_each_cell_is_the_mean_of_its_place_with_layers_going_up():
    found = effect_map(values(), axes=HEADS)
    figure = patching_map(found)
    cells = figure.data[0]
    np.testing.assert_array_equal(cells.z, found.mean())
    assert list(figure.layout.yaxis.ticktext) == ["2", "4", "5"]
    assert figure.layout.yaxis.range == (-0.5, 2.5)
    assert (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) == ("layer", "head")


@pytest.mark.parametrize(("direction", "nothing"), [("denoising", 0.0), ("noising", 1.0)])
def test_white_is_where_a_place_does_nothing(direction, nothing):
    cells = patching_map(effect_map(values(), axes=HEADS, direction=direction)).data[0]
    assert (colour(cells, nothing) > 240).all()
    assert colour(cells, 0.5).min() < 220
    assert cells.zmin == min(nothing, np.min(cells.z))
    assert cells.zmax == max(nothing, np.max(cells.z))
    words = dict(zip(cells.colorbar.ticktext, cells.colorbar.tickvals, strict=True))
    assert words["0 corrupted" if nothing == 0 else "1 clean"] == nothing


def test_the_line_below_the_title_says_what_the_numbers_rest_on():
    clean = np.ones(12)
    clean[[3, 7]] = 0
    told = patching_map(effect_map(values(), clean=clean, axes=HEADS)).layout.title.subtitle.text
    assert "denoising: clean into corrupted; logit difference; resid_pre; n = 10 pairs (2 more without" in told
    assert "excludes no effect (0): 6 of 6" in told


def test_a_dot_marks_places_whose_interval_excludes_no_effect_and_rounding_is_none():
    made = values()
    made[0, 0] -= made[0, 0].mean()  # about nothing
    made[1, 0] = 1e-7  # the same in all pairs, and rounding
    figure = patching_map(effect_map(made, axes=HEADS))
    dots = figure.data[1]
    marked = {(round(y), round(x)) for x, y in zip(dots.x, dots.y, strict=True)}
    assert marked == {(0, 1), (1, 1), (2, 0), (2, 1)}


def test_the_hover_says_place_mean_interval_and_pairs():
    made = values()
    made[2, 1, 0] = np.nan
    found = effect_map(made, axes=HEADS)
    told = patching_map(found, confidence=0.9, seed=3).data[0].customdata[2, 1]
    low, high = (ends[2, 1] for ends in found.interval(confidence=0.9, seed=3))
    mean = found.mean()[2, 1]
    assert told == f"layer 5, head 1<br>{mean:.3f}, 90% interval {low:.3f} to {high:.3f}<br>n = 11 pairs"


def test_a_place_that_there_is_not_is_blank():
    made = values()
    made[1, 1] = np.nan
    figure = patching_map(effect_map(made, axes=HEADS))
    assert np.isnan(figure.data[0].z[1, 1])
    assert not figure.data[0].hoverongaps
    assert len(figure.layout.annotations) == 5


def test_one_pair_has_no_interval_and_no_dots():
    figure = patching_map(effect_map(values(n=1), axes=HEADS))
    assert not len(figure.data[1].x)
    assert figure.layout.title.subtitle.text.endswith("n = 1 pair<br>no intervals: they take 6 pairs")


def test_why_no_place_has_an_interval_is_told():
    turned = np.arange(12) % 2 == 0  # in every other pair the corrupted run is the one that does well
    ends = np.where(turned, 0.0, 1.1), np.where(turned, 1.0, 0.0)
    told = patching_map(effect_map(values(), *ends, axes=HEADS)).layout.title.subtitle.text
    assert told.endswith("n = 12 pairs<br>no intervals: clean and corrupted may not differ in the mean")
    apart = np.full((2, 10), np.nan)
    apart[0, :5] = apart[1, 5:] = 0.5  # each place is that of five pairs
    told = patching_map(effect_map(apart)).layout.title.subtitle.text
    assert told.endswith("n = 10 pairs<br>no intervals: they take 6 pairs with the same place")


def test_few_pairs_have_no_intervals_and_no_dots():
    figure = patching_map(effect_map(values(n=5), axes=HEADS))
    assert not len(figure.data[1].x)
    assert figure.layout.title.subtitle.text.endswith("n = 5 pairs<br>no intervals: they take 6 pairs")
    assert "interval" not in figure.data[0].customdata[0, 0]


def test_positions_can_carry_their_tokens():
    axes = {"layer": (0,), "position": (3, 4)}
    found = effect_map(values((1, 2)), axes=axes)
    figure = patching_map(found, tokens=["a", "b", "c", "<b>", "e"])
    assert list(figure.layout.xaxis.ticktext) == ["3 &lt;b&gt;", "4 e"]
    with pytest.raises(ValueError, match="has position 4, and tokens= holds 2"):
        patching_map(found, tokens=["a", "b"])
    with pytest.raises(ValueError, match="tokens= label positions, and this map goes over layer, head"):
        patching_map(effect_map(values(), axes=HEADS), tokens=["a"])


def test_large_maps_have_no_numbers_written_in():
    axes = {"layer": tuple(range(5)), "position": tuple(range(WRITTEN_IN // 5 + 1))}
    figure = patching_map(effect_map(values((5, WRITTEN_IN // 5 + 1)), axes=axes))
    assert not figure.layout.annotations


def test_one_axis_is_a_line_with_its_interval_as_a_band():
    found = effect_map(values((4,)), axes={"second": (0.0, 0.5, 1.0, 1.5)})
    band, line = patching_map(found).data
    np.testing.assert_array_equal(line.y, found.mean())
    low, high = found.interval()
    np.testing.assert_array_equal(band.y, [*high, *low[::-1]])
    assert line.mode == "lines+markers"


def test_roles_have_no_order_and_are_points_with_bars():
    found = effect_map(values((3,)))
    (points,) = patching_map(found).data
    low, high = found.interval()
    assert points.mode == "markers"
    np.testing.assert_allclose(points.error_y.array, high - found.mean())
    np.testing.assert_allclose(points.error_y.arrayminus, found.mean() - low)


def test_what_has_three_axes_is_refused_with_what_to_do():
    found = effect_map(values((2, 2, 2)), axes={"layer": (0, 1), "head": (0, 1), "second": (0.0, 1.0)})
    with pytest.raises(ValueError, match=r"has 3: layer, head, second. Measure over two"):
        patching_map(found)


def test_a_measured_map_of_the_toy_shows_the_planted_head_and_how_many_answers_changed():
    questions = ma.data.toy_questions.questions(6, seed=0, level=(-10, 0))
    toy = ma.load("toy", prove=False)
    found = ma.analyses.activation_patching(toy, questions, over=("layer", "head"), positions="last")
    cells = patching_map(found).data[0]
    assert np.unravel_index(np.argmax(cells.z), cells.z.shape) == (1, 2)
    assert cells.customdata[1, 2].endswith(f"another answer in {found.flips[1, 2]:.0%} of all pairs with this place")
