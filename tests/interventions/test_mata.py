"""MATA: which intervention each reading of its formula is."""

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import model_inputs, network, unchecked_types


def test_each_reading_is_one_intervention_of_the_last_token_in_the_papers_layers():
    layers = range(10, 21)
    assert ma.mata() == ma.ScaleAttention(1.1, layers=layers)
    assert ma.mata(0.2, mode="additive") == ma.UpweightAttention(0.2, layers=layers)
    assert ma.mata(0.2, mode="pai") == ma.UpweightAttention(0.2, mode="pai", layers=layers)
    assert (ma.mata().queries, ma.mata().keys, ma.mata().phase) == ("last", "audio", "all")
    with unchecked_types(), pytest.raises(ValueError, match="mode= is one of 'multiplicative', 'additive', 'pai'"):
        ma.mata(mode="minus")
    with pytest.raises(ValueError, match="alpha= must be finite, got nan"):
        ma.mata(float("nan"))
    with (
        unchecked_types(),
        pytest.raises(TypeError, match=r"alpha= is one number, got \[0.1\]; for several, make a grid"),
    ):
        ma.mata([0.1])


@pytest.mark.parametrize("mode", ["multiplicative", "additive", "pai"])
@pytest.mark.bits
def test_without_strength_every_bit_stays(mode):
    model = AudioLM(network("qwen2_audio"), prove=False)
    inputs = model_inputs("qwen2_audio")
    clean = ma.run(model, inputs).logits
    assert torch.equal(ma.run(model, inputs, interventions=[ma.mata(0.0, [1], mode)]).logits, clean)
    assert not torch.equal(ma.run(model, inputs, interventions=[ma.mata(0.5, [1], mode)]).logits, clean)
