import numpy as np
import pytest

from mechaudio.analyses import score_heads
from mechaudio.viz import specialist_map
from tests.analyses.measured import measured, noise


@pytest.fixture
def scores():
    attention, correct = noise(80, effect=2.0, of=[(0, 1), (2, 3)])
    attention[:, 1] = np.nan
    return score_heads(measured(attention, correct), resamples=100)


def test_cells_are_correlations_and_layers_without_attention_are_empty(scores):
    cells, _ = specialist_map(scores).data
    np.testing.assert_array_equal(cells.z, scores.r)
    assert np.isnan(cells.z[1]).all()
    assert cells.zmin == -cells.zmax
    assert "empty: 4 heads without a correlation" in specialist_map(scores).layout.title.subtitle.text


def test_heads_that_do_not_vary_are_empty_too():
    attention, correct = noise(80)
    attention[:, 2, 1] = 0.1
    with pytest.warns(UserWarning, match=r"\(2, 1\)$"):
        scores = score_heads(measured(attention, correct), resamples=100)
    cells, _ = specialist_map(scores).data
    assert np.argwhere(np.isnan(cells.z)).tolist() == [[2, 1]]


def test_dots_mark_the_heads_below_the_level_and_no_others(scores):
    for level in (0.05, 1e-9):
        _, dots = specialist_map(scores, level=level).data
        marked = {(round(y - 0.38), round(x - 0.38)) for x, y in zip(dots.x, dots.y, strict=True)}
        assert marked == {tuple(head) for head in np.argwhere(scores.q < level).tolist()}
    assert {(0, 1), (2, 3)} == {tuple(head) for head in np.argwhere(scores.q < 0.001).tolist()}


def test_dots_of_a_large_grid_are_in_the_middle_of_their_cells():
    attention, correct = noise(80, 9, 8, effect=3.0, of=[(4, 5)])
    _, dots = specialist_map(score_heads(measured(attention, correct), resamples=100), level=1e-6).data
    assert (list(dots.x), list(dots.y)) == ([5], [4])


def test_the_title_has_the_sample_and_the_hover_has_interval_p_q_and_mean(scores):
    figure = specialist_map(scores)
    right = int(scores.measured.correct.sum())
    assert f"n = 80 questions, {right} right" in figure.layout.title.text.replace(" <br>", " ")
    assert "q < 0.05 among the 8 heads that vary" in figure.layout.title.subtitle.text
    shown = figure.data[0].customdata[2, 3]
    expected = [scores.low, scores.high, scores.p, scores.q, 100 * scores.mean]
    np.testing.assert_allclose(shown, [grid[2, 3] for grid in expected])


def test_a_level_that_is_no_rate_is_refused(scores):
    with pytest.raises(ValueError, match="level is a false discovery rate between 0 and 1"):
        specialist_map(scores, level=5.0)


def test_a_map_of_few_questions_is_pale_for_large_correlations_come_by_chance():
    few, many = (score_heads(measured(*noise(n)), resamples=100) for n in (12, 2000))
    pale, strong = (specialist_map(each).data[0] for each in (few, many))
    assert np.abs(pale.z).max() < 0.9 * pale.zmax
    assert pale.zmax > 0.5 > strong.zmax
