"""Trained networks open with the library, and what is measured of them is what was moved."""

import json

import numpy as np
import pytest
import torch

from recipes.timeaudio import asked, clocks, look, summary
from recipes.timeaudio.network import ARMS


@pytest.fixture(scope="module")
def subject():
    arm, _, model = look.opened()
    return look.Look(arm, model, asked.asked(model.network.speech_encoder, n=8))


def test_rows_of_times_move_and_those_behind_the_end_stay():
    rows = torch.tensor([1, 2, 175, 176, 0])
    assert clocks.moved(rows, 3).tolist() == [4, 5, 176, 176, 0]
    assert clocks.moved(rows, -2).tolist() == [1, 1, 173, 174, 0]
    assert torch.equal(clocks.moved(rows, 0), rows)


def test_every_question_has_one_interval_that_can_be_moved(subject):
    for onset, offset in subject.given.intervals:
        assert asked.FIRST <= onset < offset <= asked.LAST
    assert subject.answers.shape == (8, subject.answers.shape[1])


def test_the_rows_that_write_are_those_of_the_anchors(subject):
    names = subject.model.processor.tokenizer.convert_ids_to_tokens(subject.answers[0].tolist())
    spans = subject.spans()
    assert all(names[place].startswith("<a_") for place in (*spans["onset"], *spans["end"]))
    assert spans["before"] == [spans["onset"][0] - 1]


@pytest.mark.whole
def test_answers_of_the_shipped_network_follow_the_sound(subject):
    doses = subject.doses()
    assert sum(doses["right"]) >= 7
    network = {"doses": doses}
    assert np.median(summary.slopes(network, "sound", look.WINDOW)) == pytest.approx(1, abs=0.1)
    # This network reads both clocks, and neither alone.
    for clock in ("time", "place"):
        assert 0.2 < np.median(summary.slopes(network, clock, look.WINDOW)) < 0.95


def test_the_row_that_writes_looks_at_the_event_and_not_at_others(subject):
    first = subject.attention()["before"]
    layer, head = first["best"]
    assert np.mean(first["best_inside"]) > 5 * first["chance"]
    assert first["other"][layer][head] < first["other_chance"]
    shares = np.array(first["inside"])
    assert shares.shape == (subject.model.n_layers, subject.model.n_heads)
    assert ((shares >= 0) & (shares <= 1)).all()


@pytest.mark.whole
def test_a_patched_layer_of_values_brings_what_the_clock_moved(subject):
    patched = subject.heads("time", n=4)
    assert patched["moved_by"] > 1, "the digit of tens is another"
    assert max(share[0] for share in patched["v"]) > 0.5
    assert np.array(patched["z at all rows"]).shape == (4, 4)
    # Behind the last layer there are no other heads, and what its MLP makes of a change is not on the straight path.
    last = {name: np.array(patched[name][-1]) for name in summary.PATCHED}
    np.testing.assert_allclose(last["through no other head"], last["z at the row that writes"], atol=1e-3)
    assert np.abs(last["straight to the logits"] - last["through no other head"]).max() > 0.01


@pytest.mark.whole
def test_merged_tokens_have_a_time_to_move_and_no_place():
    arm = next(each for each in ARMS if each.name == "markers+encoding+importance")
    model = look.untrained(arm, 0)
    torch.nn.init.normal_(model.network.abs_time_position_embedding)  # training begins with zeros
    scenes = asked.asked(model.network.speech_encoder, n=2, seconds=asked.MERGED_SECONDS)
    merged = look.Look(arm, model, scenes)
    assert merged.clocks() == ("sound", "time")
    still = merged.tokens()
    assert still.shape[:2] == (2, len(merged.audio)) == (2, 52)
    assert not torch.allclose(merged.tokens("time", 9), still)


def test_slopes_are_those_that_were_planted():
    windows = [-18, -9, -3, 3, 9, 18]
    half = [[round(0.5 * each * 0.34, 3), None, 9.0] for each in windows]
    network = {"arm": "a", "seed": 0, "doses": {"right": [True, True, False], "windows": windows, "time": half}}
    assert summary.slopes(network, "time", 0.34) == pytest.approx([0.5], abs=1e-3)
    found = {"settings": {"window": 0.34}, "networks": [network, {**network, "seed": 1}]}
    followed = summary.followed(found)["a"]["time"] if sum(network["doses"]["right"]) > 1 else None
    assert followed["mean"] == pytest.approx(0.5, abs=1e-3)
    assert followed["n"] == 2
    figure = summary.dose_response(found["networks"], 0.34, "half")
    assert figure.data[-1].x == (-6.12, 6.12)


def test_the_recorded_networks_are_summed_up():
    found = json.loads((look.SHIPPED.parent / "opened.json").read_text())
    told = summary.tables(found)
    assert "markers+encoding+none" in told
    assert len(summary.of_arm(found, "markers+encoding+none")) == 5
    merged = summary.followed(found, "merged")
    for arm, clocks_of in merged.items():
        assert ("time" in clocks_of) == ("encoding" in arm)
        assert (clocks_of["sound"]["mean"] > 0.5) == ("encoding" in arm), "without the table nothing tells where"
