import numpy as np
import pytest

from mechaudio.viz import layer_head_grid


def test_each_cell_is_its_number_with_layers_up_and_heads_across():
    values = np.arange(6.0).reshape(3, 2)
    (cells,) = layer_head_grid(values, "numbers").data
    assert np.array_equal(cells.z, values)
    assert (list(cells.y), list(cells.x)) == ([0, 1, 2], [0, 1])


def test_a_title_of_two_lines_has_room_for_both_and_its_note():
    long, short = (layer_head_grid(np.eye(2), title, note="n = 4") for title in ("word " * 20, "word"))
    assert (long.layout.margin.t, short.layout.margin.t) == (2 * 36 + 34 - 4, 76)


def test_numbers_below_zero_get_colours_that_reach_as_far_to_either_side():
    (cells,) = layer_head_grid(np.array([[-0.5, 0.2]]), "r").data
    assert (cells.zmin, cells.zmax) == (-0.5, 0.5)


def test_shares_start_at_zero():
    (cells,) = layer_head_grid(np.array([[0.4, 0.2]]), "share").data
    assert (cells.zmin, cells.zmax) == (0.0, 0.4)


def test_small_grids_have_their_numbers_written_in_and_large_ones_do_not():
    small = layer_head_grid(np.array([[0.25, np.nan]]), "share", decimals=2)
    assert [note.text for note in small.layout.annotations] == ["0.25"]
    assert not layer_head_grid(np.ones((9, 8)), "share").layout.annotations


def test_a_grid_of_zeros_and_a_grid_with_one_negative_number_can_be_drawn():
    assert layer_head_grid(np.zeros((2, 2)), "nothing").data[0].zmax == 1.0
    assert layer_head_grid(np.array([[-1.0]]), "one").data[0].zmin == -1.0


def test_a_grid_without_a_number_is_refused():
    with pytest.raises(ValueError, match="at least one finite value, got 2 that are not"):
        layer_head_grid(np.full((1, 2), np.nan), "nothing")
