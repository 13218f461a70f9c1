"""A tower that adds noise adds none in a run, whether or not the network has an input that leaves it out."""

from dataclasses import replace
from operator import attrgetter

import pytest
import torch

import mechaudio as ma
from mechaudio.models.registry import adapter_for
from mechaudio.tracing.tower_noise import without_noise
from tests.families import build

FAMILY = "vibevoice_asr"
NOISE = "acoustic_tokenizer_encoder_config"


@pytest.fixture
def model():
    """A network with noise to add, opened as if it had no input that leaves the noise out."""
    opened = ma.AudioLM(build.network(FAMILY), prove=False)
    attrgetter(NOISE)(opened.network.config).vae_std = 0.5
    opened.adapter = replace(opened.adapter, noise=replace(opened.adapter.noise, left_out_by={}))
    return opened


@pytest.fixture
def inputs():
    return {name: value for name, value in build.model_inputs(FAMILY).items() if name != "sample"}


def test_the_network_alone_adds_noise_that_a_run_leaves_out(model, inputs):
    with torch.no_grad():
        noisy = [model.network(**inputs, use_cache=False).logits for _ in range(2)]
        with without_noise(model.network, model.adapter):
            plain = model.network(**inputs, use_cache=False).logits
    assert not torch.equal(*noisy)
    assert torch.equal(ma.run(model, inputs).logits, plain)
    assert torch.equal(ma.run(model, inputs).logits, plain)


def test_what_leaves_the_noise_out_is_passed_on_only_where_the_forward_knows_it():
    class Older(type(build.network(FAMILY))):
        def forward(self, input_ids=None, **kwargs):
            raise NotImplementedError

    Older.__name__ = "Older"
    older = Older(build.network(FAMILY).config)
    assert adapter_for(older).always == {}
    assert adapter_for(build.network(FAMILY)).always == build.facts(FAMILY).always


def test_the_scale_of_the_noise_is_the_networks_own_again_after_a_failure(model):
    with pytest.raises(ZeroDivisionError), without_noise(model.network, model.adapter):
        raise ZeroDivisionError
    assert attrgetter(NOISE)(model.network.config).vae_std == 0.5
