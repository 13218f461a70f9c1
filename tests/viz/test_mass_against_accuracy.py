import numpy as np
import pytest

from mechaudio.metrics import bootstrap_mean, paired_difference
from mechaudio.viz import mass_against_accuracy
from tests.viz.sweeps import dataset


def test_each_variant_is_a_point_of_both_changes_in_points():
    sweep = dataset()
    (points,) = mass_against_accuracy(sweep).data
    mass = (sweep.mass_after - sweep.mass_before).mean("question").values.ravel()
    right = (sweep.correct.mean("question") - sweep.clean_correct.mean()).values.ravel()
    np.testing.assert_allclose(points.x, 100 * mass)
    np.testing.assert_allclose(points.y, 100 * right)


def test_bars_are_intervals_of_the_differences_question_by_question():
    sweep = dataset()
    sweep["mass_after"] = sweep.mass_after * np.linspace(0.5, 1.5, sweep.sizes["question"])
    (points,) = mass_against_accuracy(sweep, seed=2, confidence=0.9).data
    mass = 100 * (sweep.mass_after - sweep.mass_before).sel(layers=2, factor=0.5).values
    low, high = bootstrap_mean(mass, seed=2, confidence=0.9)
    assert points.error_x.array[4] == pytest.approx(high - mass.mean())
    assert points.error_x.arrayminus[4] == pytest.approx(mass.mean() - low)
    change = paired_difference(
        sweep.clean_correct.values, sweep.correct.sel(layers=2, factor=0.5).values, confidence=0.9
    )
    assert points.error_y.array[4] == pytest.approx(100 * (change.high - change.value))
    assert points.error_y.arrayminus[4] == pytest.approx(100 * (change.value - change.low))
    assert points.customdata[4].startswith("layers 2, factor 0.5<br>")


def test_several_sweeps_have_a_colour_a_sign_and_a_name_each():
    figure = mass_against_accuracy({"plain": dataset(seed=1), "<centred>": dataset(seed=1, moved=0.3)})
    assert [trace.name for trace in figure.data] == ["plain", "&lt;centred&gt;"]
    assert (
        len({trace.marker.color for trace in figure.data}) == len({trace.marker.symbol for trace in figure.data}) == 2
    )
    assert figure.layout.showlegend
    assert not mass_against_accuracy(dataset()).layout.showlegend


def test_the_clean_run_is_in_the_middle_and_its_accuracy_in_the_note():
    sweep = dataset()
    figure = mass_against_accuracy(sweep)
    assert sorted((line.x0, line.x1, line.y0, line.y1) for line in figure.layout.shapes) == [(0, 0, 0, 1), (0, 1, 0, 0)]
    baseline = 100 * float(sweep.clean_correct.mean())
    assert (
        f"n = 40 questions; baseline, without intervention: {baseline:.1f}% right" in figure.layout.title.subtitle.text
    )


def test_variants_that_do_not_act_on_scores_are_left_out_and_counted():
    sweep = dataset()
    sweep["mass_before"] = sweep.mass_before.where(sweep.layers != 1)
    figure = mass_against_accuracy(sweep)
    assert len(figure.data[0].x) == 4
    assert "left out: 2 variants without an effect on attention scores" in figure.layout.title.subtitle.text.replace(
        " <br>", " "
    )
    assert not any("layers 1" in told for told in figure.data[0].customdata)
    with pytest.raises(ValueError, match="none of these variants acts on attention scores"):
        mass_against_accuracy(sweep.sel(layers=[1]))


def test_a_list_of_variants_is_drawn_by_its_names():
    (points,) = mass_against_accuracy(dataset(axes={"variant": ["clean", "ScaleAttention(factor=2.0)"]})).data
    assert points.customdata[1].startswith("variant ScaleAttention(factor=2.0)<br>")


def test_sweeps_of_different_questions_and_of_none_are_refused():
    with pytest.raises(ValueError, match="'a' and 'b' are sweeps of different questions"):
        mass_against_accuracy({"a": dataset(n=4), "b": dataset(n=5)})
    with pytest.raises(ValueError, match="there are no sweeps to draw"):
        mass_against_accuracy({})
    with pytest.raises(ValueError, match="intervals need at least two questions, and there is 1"):
        mass_against_accuracy(dataset(n=1))
    with pytest.raises(TypeError, match=r"takes a Dataset or a Sweep .*; got \[1\]: ma.sweep gives it"):
        mass_against_accuracy([1])


def test_answers_without_attention_masses_are_refused_in_words():
    answers_alone = dataset().drop_vars(["mass_before", "mass_after"])
    with pytest.raises(ValueError, match=r"needs `mass_after` of every question.*measured by ma.sweep"):
        mass_against_accuracy(answers_alone)
