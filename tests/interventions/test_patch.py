"""Patching: a run patched with itself is itself, and with another's values takes them over, where it was told to."""

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import model_inputs, network

POINTS = [
    "resid_pre", "q", "k", "v", "scores", "pattern", "z", "result", "attn_out", "resid_mid", "mlp_post", "mlp_out",
    "resid_post",
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("qwen2_audio")


@pytest.fixture(scope="module")
def donor(model):
    return ma.run(model, model_inputs("qwen2_audio", seed=7), record=POINTS).cache


@pytest.mark.parametrize("point", POINTS)
def test_patched_with_itself_nothing_changes(model, inputs, point):
    clean = ma.run(model, inputs, record=[point])
    same = ma.Patch(point, clean.cache[point, 1], layer=1)
    assert torch.equal(ma.run(model, inputs, interventions=[same]).logits, clean.logits)


@pytest.mark.parametrize("point", ["z", "q", "resid_post"])
@pytest.mark.parametrize("positions", ["last", [-1, -3], [[-1, -4], [-2, -1]]])
def test_the_chosen_positions_are_the_other_runs_and_no_others(model, inputs, donor, point, positions):
    clean = ma.run(model, inputs, record=[point]).cache[point, 1]
    patch = ma.Patch(point, donor[point, 1], layer=1, positions=positions)
    after = ma.run(model, inputs, record=[point], interventions=[patch]).cache[point, 1]
    for row in range(2):
        own = [-1] if positions == "last" else positions[row] if isinstance(positions[0], list) else positions
        expected = clean[row].clone()
        expected[own] = donor[point, 1][row, own]
        assert torch.equal(after[row], expected)


@pytest.mark.parametrize("heads", [[1], [-1, 0]])
def test_the_chosen_heads_are_the_other_runs_and_no_others(model, inputs, donor, heads):
    clean = ma.run(model, inputs, record=["z"]).cache["z", 1]
    whole = ma.Patch("z", donor["z", 1], layer=1, heads=heads)
    part = ma.Patch("z", donor["z", 1][:, :, heads], layer=1, heads=heads)
    expected = clean.clone()
    expected[:, :, heads] = donor["z", 1][:, :, heads]
    for patch in (whole, part):
        assert torch.equal(ma.run(model, inputs, record=["z"], interventions=[patch]).cache["z", 1], expected)


def test_of_logits_the_last_position_is_patched_though_no_other_is_computed(model, inputs):
    clean = ma.run(model, inputs).logits
    patch = ma.Patch("logits", clean.flip(0), positions=[-3, -1])
    whole, last = (ma.run(model, inputs, interventions=[patch], logits=logits).logits for logits in ("all", "last"))
    assert torch.equal(whole[:, [-3, -1]], clean.flip(0)[:, [-3, -1]])
    assert torch.equal(last, whole[:, -1:])


def test_what_does_not_fit_is_refused(model, inputs, donor):
    for make, error, says in (
        (lambda: ma.Patch("z", 3.0, layer=1), TypeError, "value= is a tensor or array, got float"),
        (lambda: ma.Patch("z", torch.ones(1)), ValueError, "exists once in every layer: give layer="),
        (lambda: ma.Patch("resid_post", torch.ones(1), layer=1, heads=[0]), ValueError, "no axis of heads"),
    ):
        with pytest.raises(error, match=says):
            make()
    for patch, error, says in (
        (ma.Patch("z", donor["z", 1], layer=1, heads=[4]), IndexError, "no head 4"),
        (ma.Patch("z", donor["z", 1], layer=1, heads=[3, -1]), ValueError, "twice"),
        (ma.Patch("z", donor["z", 1][:, :-1], layer=1), ValueError, "prompts of one length"),
        (ma.Patch("z", donor["z", 1][:1], layer=1, positions="last"), ValueError, "prompts of one length"),
        (ma.Patch("z", donor["z", 1][:, :2], layer=1, positions=[[-2, -1], [-1]]), ValueError, "one length"),
    ):
        with pytest.raises(error, match=says):
            ma.run(model, inputs, interventions=[patch])
