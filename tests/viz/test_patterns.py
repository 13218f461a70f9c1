import numpy as np
import pytest

from mechaudio.audio.clock import TokenClock
from mechaudio.viz import pattern
from mechaudio.viz.patterns import cells

TOKENS = ["<s>", *["♪"] * 250, "which", " sound", "\n", "A"]
SPANS = {"template": [0, 253], "audio": list(range(1, 251)), "question": [251, 252], "choices": [254], "last": [254]}
CLOCK = TokenClock(np.arange(251) * 640)


def causal(n, seed=0):
    weights = np.tril(np.random.default_rng(seed).random((n, n)) + 0.01)
    return weights / weights.sum(axis=1, keepdims=True)


def test_every_token_has_its_own_cell_when_there_is_no_audio():
    weights = causal(4)
    (heat,) = pattern(weights, ["a", "b", "c", "d"]).data
    np.testing.assert_allclose(np.nan_to_num(heat.z), weights, rtol=1e-6)
    assert list(heat.x) == ["0: a", "1: b", "2: c", "3: d"]


def test_keys_after_their_query_are_left_empty():
    (heat,) = pattern(causal(3), ["a", "b", "c"]).data
    assert np.isnan(heat.z[0, 1])
    assert np.isnan(heat.z).sum() == 3


def test_neighbours_in_the_audio_share_cells_and_rows_still_sum_to_one():
    weights = causal(len(TOKENS))
    (heat,) = pattern(weights, TOKENS, spans=SPANS, clock=CLOCK, audio_cells=40).data
    assert heat.z.shape == (5 + 36, 5 + 36)  # 250 tokens, 7 a cell
    np.testing.assert_allclose(np.nansum(heat.z, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(heat.z[-1, 1], weights[-1, 1:8].sum(), rtol=1e-6)
    np.testing.assert_allclose(heat.z[2, 0], weights[8:15, 0].mean(), rtol=1e-6)


def test_audio_cells_are_named_by_their_seconds_and_ticked_at_whole_ones():
    columns = cells(TOKENS, SPANS, CLOCK, range(len(TOKENS)), 50)
    audio = [cell for cell in columns if cell.role == "audio"]
    assert audio[0].name == "1: ♪ 0.00 to 0.20 s"
    assert [cell.tick for cell in audio if cell.tick] == [f"{second} s" for second in range(10)]


def test_every_audio_token_can_be_drawn_alone():
    (heat,) = pattern(causal(len(TOKENS)), TOKENS, spans=SPANS, audio_cells=None).data
    assert heat.z.shape == (255, 255)


def test_the_last_row_alone_needs_only_its_position():
    weights = causal(len(TOKENS))[-1:]
    (heat,) = pattern(weights, TOKENS, spans=SPANS, clock=CLOCK, queries=[254]).data
    assert list(heat.y) == ["254: A"]
    assert not np.isnan(heat.z).any()


def test_runs_of_a_role_are_marked_along_both_axes():
    figure = pattern(causal(len(TOKENS)), TOKENS, spans=SPANS, clock=CLOCK)
    assert len(figure.layout.shapes) == 10  # template, audio, question, template, choices; twice
    assert "audio" in [note.text for note in figure.layout.annotations]


def test_line_ends_and_markup_are_visible_in_labels():
    (heat,) = pattern(causal(3), ["<b>", "\n", " "]).data
    assert list(heat.x) == ["0: &lt;b&gt;", "1: ⏎", "2: ␣"]


def test_rows_without_their_positions_are_refused():
    with pytest.raises(ValueError, match="weights holds 1 query row for 3 keys: give queries="):
        pattern(causal(3)[-1:], ["a", "b", "c"])


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one token label per key is needed: 3 keys, 2 labels"):
        pattern(causal(3), ["a", "b"])


def test_padding_is_left_out():
    weights = np.zeros((4, 4))
    weights[2:, 2:] = causal(2)
    (heat,) = pattern(weights, ["<pad>", "<pad>", "a", "b"], spans={"text": [2, 3]}).data
    assert list(heat.x) == list(heat.y) == ["2: a", "3: b"]
    np.testing.assert_allclose(np.nansum(heat.z, axis=1), 1)
