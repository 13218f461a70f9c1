import numpy as np
import pytest
from plotly.colors import sample_colorscale, unlabel_rgb

from mechaudio.interventions import Sweep
from mechaudio.metrics import accuracy, bootstrap_mean, paired_difference
from mechaudio.viz import sweep_map
from mechaudio.viz.theme import DIVERGING
from tests.viz.sweeps import dataset


def test_each_cell_is_its_share_of_right_answers_in_percent():
    sweep = dataset()
    cells, _ = sweep_map(sweep).data
    np.testing.assert_allclose(cells.z, 100 * sweep.correct.mean("question"))
    assert (list(cells.y), list(cells.x)) == ([0, 1, 2], [0, 1])


def test_the_first_axis_goes_up_whatever_the_order_of_the_questions_axis():
    sweep = dataset()
    figure = sweep_map(sweep.transpose("question", "factor", "layers"))
    assert (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) == ("factor", "layers")
    np.testing.assert_allclose(figure.data[0].z, 100 * sweep.correct.mean("question").T)


def test_the_baseline_is_white_and_colours_are_as_strong_to_either_side_of_it():
    sweep = dataset(n=100)
    sweep.correct[0, 0] = sweep.clean_correct & (np.arange(100) < 50)
    figure = sweep_map(sweep)
    (cells, _), baseline = figure.data, 100 * float(sweep.clean_correct.mean())
    assert (cells.zmin, cells.zmax) == (np.min(cells.z), max(np.max(cells.z), baseline))

    def colour(value):
        place = (value - cells.zmin) / (cells.zmax - cells.zmin)
        return np.array(unlabel_rgb(cells.colorscale[round(100 * place)][1]))

    assert (colour(baseline) > 240).all()
    np.testing.assert_allclose(colour(cells.zmin), unlabel_rgb(sample_colorscale(DIVERGING, [0.0])[0]), atol=4)
    above = (cells.zmax - baseline) / (baseline - cells.zmin) / 2 + 0.5
    np.testing.assert_allclose(colour(cells.zmax), unlabel_rgb(sample_colorscale(DIVERGING, [above])[0]), atol=4)


def test_the_baseline_is_written_with_the_number_of_questions():
    sweep = dataset()
    figure = sweep_map(sweep)
    baseline = 100 * float(sweep.clean_correct.mean())
    assert f"n = 40 questions; baseline, without intervention: {baseline:.1f}%" in figure.layout.title.subtitle.text
    assert figure.data[0].colorbar.ticktext[0] == f"{baseline:.0f} baseline"


def test_the_hover_says_the_intervals_and_how_many_answers_changed():
    sweep = dataset()
    cells, _ = sweep_map(sweep, confidence=0.9).data
    before, after = sweep.clean_correct.values, sweep.correct.sel(layers=1, factor=2.0).values
    told, share, change = (
        cells.customdata[1, 1],
        accuracy(after, confidence=0.9),
        paired_difference(before, after, confidence=0.9),
    )
    assert told.startswith("layers 1, factor 2<br>")
    assert f"{share.count} of 40<br>90% interval {100 * share.low:.1f} to {share.high:.1%}" in told
    assert f"90% interval {100 * change.low:+.1f} to {100 * change.high:+.1f}" in told
    assert f"{(~before & after).sum()} answers fixed, {(before & ~after).sum()} broken" in told


def test_a_dot_marks_the_cells_whose_interval_of_the_change_excludes_zero():
    sweep = dataset(moved=0.02)
    sweep.correct[2, 0] = False
    figure = sweep_map(sweep)
    dots = figure.data[1]
    assert [(round(x), round(y)) for x, y in zip(dots.x, dots.y, strict=True)] == [(0, 2)]
    assert figure.layout.title.subtitle.text.endswith("excludes 0: 1 of 6")


def test_margins_have_bootstrap_intervals_of_their_mean_and_of_their_change():
    sweep = dataset()
    figure = sweep_map(sweep, value="margin", seed=3)
    cells = figure.data[0]
    np.testing.assert_allclose(cells.z, sweep.margin.mean("question"))
    margin = sweep.margin.sel(layers=0, factor=2.0).values
    low, high = bootstrap_mean(margin, seed=3)
    down, up = bootstrap_mean(margin - sweep.clean_margin.values, seed=3)
    told = cells.customdata[0, 1]
    assert f"mean margin {margin.mean():.2f}<br>95% interval {low:.2f} to {high:.2f}" in told
    assert f"logits, 95% interval {down:+.3f} to {up:+.3f}" in told


def test_small_maps_have_their_numbers_written_in_and_large_ones_do_not():
    assert len(sweep_map(dataset()).layout.annotations) == 6
    large = dataset(axes={"layers": list(range(13)), "factor": [0.1, 0.2, 0.5, 2.0, 5.0]})
    assert not sweep_map(large).layout.annotations


def test_values_of_any_kind_are_labels_at_equal_distances():
    sweep = dataset(axes={"layers": ["0", "range(0, 6)"], "keys": ["audio", "<b>", "audio[1.0:2.5]"]})
    figure = sweep_map(sweep)
    assert list(figure.layout.xaxis.ticktext) == ["audio", "&lt;b&gt;", "audio[1.0:2.5]"]
    assert list(figure.layout.yaxis.ticktext) == ["0", "range(0, 6)"]


def test_a_sweep_in_which_no_answer_changes_can_be_drawn():
    cells, dots = sweep_map(dataset(moved=0)).data
    assert cells.zmax > cells.zmin
    assert not len(dots.x)


def test_what_is_no_map_is_refused_with_what_to_do():
    three = dataset(axes={"layers": [0, 1], "factor": [2.0], "mode": ["plain", "centred"]})
    with pytest.raises(ValueError, match=r"this sweep has 3: layers, factor, mode. Take one value"):
        sweep_map(three)
    assert sweep_map(three.sel(mode="plain")).data
    with pytest.raises(ValueError, match=r"has only variant: make it with ma.grid"):
        sweep_map(dataset(axes={"variant": ["clean"]}))
    with pytest.raises(ValueError, match=r"needs `correct` of every question.*holds clean_correct"):
        sweep_map(dataset().drop_vars("correct"))
    with pytest.raises(ValueError, match="take no mean before"):
        sweep_map(dataset().mean("question"))
    with pytest.raises(ValueError, match="no question left"):
        sweep_map(dataset(n=0))
    with pytest.raises(TypeError, match=r"takes a Dataset or a Sweep or a Comparison; got a ndarray: ma.sweep or"):
        sweep_map(np.ones((2, 2)))


def test_margins_that_are_not_there_are_refused_in_words():
    with pytest.raises(ValueError, match=r"needs `margin` of every question.*holds correct.*not from written answers"):
        sweep_map(dataset().drop_vars(["margin", "clean_margin"]), value="margin")
    unknown = dataset()
    unknown.clean_margin[3] = np.nan
    with pytest.raises(ValueError, match=r"the margin of 1 of 40 questions is not a number.*the first is 'q3'"):
        sweep_map(unknown, value="margin")
    assert sweep_map(unknown.isel(question=np.isfinite(unknown.clean_margin)), value="margin").data


def test_a_sweep_is_drawn_as_its_dataset_is():
    data = dataset()
    made = Sweep.__new__(Sweep)
    object.__setattr__(made, "to_xarray", lambda: data)
    assert sweep_map(made).to_json() == sweep_map(data).to_json()
