from dataclasses import replace

import numpy as np
import pytest

from mechaudio.experiments.over_strength import OverStrength, StrengthLine
from mechaudio.metrics import accuracy
from mechaudio.metrics.bootstrap import bootstrap_mean
from mechaudio.viz import accuracy_over_strength

CLEAN = np.array([True, True, False, False, True, False, True, False])
CHOOSES = np.array([True, False] * 4)
HELPS = StrengthLine("helps", (0.5, 2.0), np.array([CLEAN, ~CLEAN | CLEAN]), chosen=1)
DRAWS = StrengthLine("random heads", (0.5, 1.0), np.array([0.5 * CLEAN, 0.75 * CLEAN]), control=True)


@pytest.fixture
def figure():
    return accuracy_over_strength(OverStrength((HELPS, DRAWS), CLEAN, CHOOSES))


def lines(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_the_left_panel_is_of_the_questions_that_choose_and_the_right_one_of_the_others(figure):
    for trace, half in zip(lines(figure, "helps"), (CHOOSES, ~CHOOSES), strict=True):
        np.testing.assert_allclose(trace.y, 100 * HELPS.correct[:, half].mean(1))
        scores = [accuracy(row[half]) for row in HELPS.correct]
        np.testing.assert_allclose(trace.y + np.array(trace.error_y.array), [100 * score.high for score in scores])
        np.testing.assert_allclose(trace.y - np.array(trace.error_y.arrayminus), [100 * score.low for score in scores])
    assert [heading.text for heading in figure.layout.annotations[:2]] == [
        "the half that chooses (n = 4 questions)",
        "the half that reports (n = 4 questions)",
    ]


def test_controls_are_explained_where_there_are_any(figure):
    assert "; dotted: controls" in figure.layout.title.subtitle.text
    assert "dotted" not in accuracy_over_strength(OverStrength((HELPS,), CLEAN, CHOOSES)).layout.title.subtitle.text


def test_a_mean_over_draws_has_bootstrap_intervals(figure):
    twice = replace(DRAWS, correct=np.tile(DRAWS.correct, 2))
    drawn = accuracy_over_strength(OverStrength((twice,), np.tile(CLEAN, 2), np.tile(CHOOSES, 2)))
    left, _ = lines(drawn, "random heads")
    low, high = bootstrap_mean(twice.correct[:, np.tile(CHOOSES, 2)].T)
    np.testing.assert_allclose(left.error_y.array, 100 * high - left.y)
    assert left.customdata[0][1] == f"95% interval {100 * low[0]:.1f} to {high[0]:.1%}"
    assert left.line.dash == "dot"


def test_a_mean_over_draws_of_few_clips_has_none(figure):
    left, _ = lines(figure, "random heads")
    assert np.isnan(left.error_y.array).all()
    assert [words for _, words in left.customdata] == ["no interval", "no interval"]


def test_the_ring_is_at_the_chosen_strength_on_both_sides_and_nowhere_else(figure):
    rings = [trace for trace in figure.data if trace.marker.symbol == "circle-open" and trace.mode == "markers"]
    assert [list(ring.y) for ring in rings] == [[100.0], [100.0]]
    for ring, trace in zip(rings, lines(figure, "helps"), strict=True):
        assert ring.x[0] == trace.x[1]


def test_band_and_dashes_are_the_answers_without_an_intervention(figure):
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    dashes = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert len(bands) == len(dashes) == 2
    for half, band, dash in zip((CHOOSES, ~CHOOSES), bands, dashes, strict=True):
        score = accuracy(CLEAN[half])
        assert (band.y0, band.y1) == pytest.approx((100 * score.low, 100 * score.high))
        assert dash.y0 == dash.y1 == pytest.approx(100 * score.value)


def test_strengths_of_several_lines_share_one_axis(figure):
    assert list(figure.layout.xaxis.ticktext) == ["0.5", "1", "2"]
    helps, draws = lines(figure, "helps")[0], lines(figure, "random heads")[0]
    assert [round(x) for x in helps.x] == [0, 2]
    assert [round(x) for x in draws.x] == [0, 1]


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="needs ascending strengths and a row of answers for each"):
        StrengthLine("back", (2.0, 1.0), np.array([CLEAN, CLEAN]))
    with pytest.raises(ValueError, match="chosen is a place among 2 strengths, got 2"):
        StrengthLine("none", (1.0, 2.0), np.array([CLEAN, CLEAN]), chosen=2)
    with pytest.raises(ValueError, match="lines is empty"):
        OverStrength((), CLEAN, CHOOSES)
    with pytest.raises(ValueError, match="answer the same questions"):
        OverStrength((HELPS,), CLEAN[:4], CHOOSES[:4])
    with pytest.raises(ValueError, match="one of the two has none"):
        OverStrength((HELPS,), CLEAN, np.ones(8, dtype=bool))


def test_more_lines_than_can_be_told_apart_are_in_rows_by_kind_each_beside_its_controls():
    lines = tuple(
        replace(HELPS, name=name, chosen=None, control="random" in name)
        for name in ("by layer, K = 2", "by layer, random heads", "by head, K = 2", "by head, random heads")
    )
    drawn = accuracy_over_strength(OverStrength(lines, CLEAN, CHOOSES))
    assert [heading.text for heading in drawn.layout.annotations[:4]] == [
        "by layer: the half that chooses (n = 4 questions)",
        "by layer: the half that reports (n = 4 questions)",
        "by head: the half that chooses (n = 4 questions)",
        "by head: the half that reports (n = 4 questions)",
    ]
    rows = {trace.name: trace.yaxis for trace in drawn.data}
    assert rows["by layer, K = 2"] == rows["by layer, random heads"] != rows["by head, K = 2"]
    assert sorted(trace.name for trace in drawn.data if trace.showlegend) == sorted(line.name for line in lines)
    assert len([shape for shape in drawn.layout.shapes if shape.type == "rect"]) == 4


def test_bars_of_one_strength_stand_apart():
    lines = tuple(replace(HELPS, name=f"way {number}") for number in range(3))
    drawn = accuracy_over_strength(OverStrength(lines, CLEAN, CHOOSES))
    left = [trace.x[0] for trace in drawn.data if trace.error_y.array is not None and trace.xaxis == "x"]
    assert np.diff(left) == pytest.approx([0.5 / 3] * 2)
