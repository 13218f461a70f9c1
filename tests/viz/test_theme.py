import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from mechaudio.viz.theme import (
    DARK,
    DIVERGING,
    LIGHT,
    SEQUENTIAL,
    VEIL,
    band,
    full_colour,
    level,
    mark_cells,
    number,
    pale,
    two_sided,
    whiskers,
    write_cells,
)


def luminance(colour):
    """Of `rgb(r, g, b)` or `#rrggbb`, by WCAG 2."""
    if colour.startswith("#"):
        channels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    else:
        channels = [float(channel) for channel in colour[4:-1].split(",")]
    shares = [channel / 255 for channel in channels]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_whiskers_reach_from_low_to_high_and_look_as_told():
    bars = whiskers(np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.array([3.0, 2.5]), color="red", width=0)
    assert list(bars["array"]) == [2.0, 0.5]
    assert list(bars["arrayminus"]) == [0.5, 1.0]
    assert (bars["color"], bars["width"], bars["thickness"]) == ("red", 0, 1)


def test_pale_bars_keep_their_colour_as_an_outline():
    one, two = pale("#d55e00"), pale(["#d55e00", "#0072b2"])
    assert (one["color"], one["line"]["color"]) == ("rgba(213, 94, 0, 0.3)", "#d55e00")
    assert (two["color"][1], two["line"]["color"][1]) == ("rgba(0, 114, 178, 0.3)", "#0072b2")


def test_a_band_goes_out_along_its_upper_edge_and_back_along_its_lower_one():
    figure = go.Figure()
    band(figure, np.arange(2), np.array([1.0, 2.0]), np.array([3.0, 4.0]), name="interval")
    band(figure, np.arange(2), np.array([1.0, 2.0]), np.array([3.0, 4.0]), colour="#d55e00")
    grey, coloured = figure.data
    assert (list(grey.x), list(grey.y)) == ([0, 1, 1, 0], [3, 4, 2, 1])
    assert (grey.mode, grey.fill, grey.name, grey.fillcolor) == ("lines", "toself", "interval", VEIL)
    assert (coloured.fillcolor, coloured.opacity) == ("#d55e00", 0.2)


def test_a_level_is_a_line_over_its_band():
    figure = go.Figure()
    level(figure, 2.0, 1.0, 4.0)
    interval, line = figure.layout.shapes
    assert (interval.y0, interval.y1, interval.layer) == (1.0, 4.0, "below")
    assert (line.y0, line.y1) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [(-0.004, "", "0.00"), (-0.004, "+", "+0.00"), (-0.006, "", "-0.01"), (1.0, "+", "+1.00")],
)
def test_a_number_is_never_minus_zero(value, sign, text):
    assert number(value, 2, sign) == text


@pytest.mark.parametrize("scale", [SEQUENTIAL, DIVERGING])
def test_letters_have_the_higher_contrast_with_their_cell(scale):
    z = np.linspace(0, 1, 60).reshape(6, 10)
    figure = go.Figure(go.Heatmap(z=z, x=np.arange(10), y=np.arange(6), zmin=0, zmax=1, colorscale=scale))
    write_cells(figure, ["x"] * z.size)
    drawn = [(note.font.color, sample_colorscale(scale, [z[note.y, note.x]])[0]) for note in figure.layout.annotations]
    assert len(drawn) == 60
    for letters, cell in drawn:
        assert contrast(letters, cell) == pytest.approx(max(contrast(own, cell) for own in (DARK, LIGHT)), rel=0.02)
        assert contrast(letters, cell) > 4


def test_only_cells_with_a_value_of_the_last_heatmap_are_written_into():
    figure = make_subplots(1, 2)
    figure.add_heatmap(z=[[5.0]], row=1, col=1)
    z = np.array([[-1.0, np.nan], [0.5, 1.0]])
    figure.add_heatmap(z=z, x=["a", "b"], y=["c", "d"], **two_sided(-1.0, 1.0, 0.0), row=1, col=2)
    write_cells(figure, "pqrs")
    notes = figure.layout.annotations
    assert [(note.x, note.y, note.text) for note in notes] == [("a", "c", "p"), ("a", "d", "r"), ("b", "d", "s")]
    assert {(note.xref, note.yref) for note in notes} == {("x2", "y2")}
    assert [note.font.color for note in notes] == [LIGHT, DARK, LIGHT]


def test_dots_are_in_the_upper_right_corner_of_the_marked_cells():
    marked = np.array([[False, True], [False, False], [True, False]])
    figure = go.Figure(go.Heatmap(z=np.zeros((3, 2))))
    mark_cells(figure, marked, "sure")
    mark_cells(figure, marked, "sure", downwards=True)
    _, up, down = figure.data
    assert (list(up.x), list(up.y), up.name) == ([1.4, 0.4], [0.32, 2.32], "sure")
    assert list(down.y) == [-0.32, 1.68]


def test_colours_are_full_at_the_largest_effect_where_it_is_sure():
    assert full_colour([-0.5, 0.2, np.nan]) == 0.5
    assert full_colour([-0.5, 0.2], [-0.6, -0.9], [-0.4, 1.3]) == 0.5  # the small one is pale as it is
    assert full_colour([0.0], [np.nan], [np.nan]) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_an_effect_whose_interval_reaches_none_has_half_a_colour_at_most(seed):
    rng = np.random.default_rng(seed)
    effects, below, above = rng.normal(size=(1, 30)), *rng.exponential(size=(2, 1, 30))
    low, high = effects - below, effects + above
    shares = np.abs(effects) / full_colour(effects, low, high)
    unsure = (low <= 0) & (high >= 0)
    assert shares[unsure].max() <= 0.5
    assert shares.max() <= 1


def test_a_scale_ends_where_values_do_also_where_colours_are_full_further_out():
    sure, unsure = (two_sided(0.0, 1.0, 0.0, reach) for reach in (0.2, 4.0))
    (full,), (pale_red,) = (sample_colorscale(DIVERGING, [place]) for place in (1.0, 0.625))
    assert (sure["colorscale"][-1], unsure["colorscale"][-1]) == (full, pale_red)
    assert (unsure["zmin"], unsure["zmax"]) == (0.0, 1.0)
