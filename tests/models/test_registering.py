"""Classes that mechaudio does not bring: registered, they open, load and are asked like any other."""

from dataclasses import replace

import pytest
import torch
from transformers import CONFIG_MAPPING, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

import mechaudio as ma
from mechaudio.models import registry
from mechaudio.models.adapter import Adapter, Stack
from mechaudio.models.adapters.qwen2_audio import QWEN2_AUDIO
from mechaudio.models.clips import token_clock
from tests.families import network, noise, processor, unchecked_types


class OwnConfig(Qwen2AudioConfig):
    model_type = "own_audio"


class OwnForConditionalGeneration(Qwen2AudioForConditionalGeneration):
    config_class = OwnConfig


OWN = replace(
    QWEN2_AUDIO,
    family="own_audio",
    network_class="OwnForConditionalGeneration",
    network=OwnForConditionalGeneration,
    checkpoints=(),
)


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.setattr(CONFIG_MAPPING, "_extra_content", {**CONFIG_MAPPING._extra_content})


def own_network():
    given = network("qwen2_audio")
    built = OwnForConditionalGeneration(OwnConfig(**{**given.config.to_dict(), "model_type": "own_audio"})).eval()
    built.load_state_dict(given.state_dict())
    return built


def test_a_registered_class_opens_and_is_asked():
    ma.register(OWN)
    model = ma.AudioLM(own_network(), processor("qwen2_audio"))
    assert model.adapter.family == "own_audio"
    question = ma.AudioQuestion(audio=ma.AudioClip(noise(1.0), 16_000), text="Which?", choices=("dog", "car"))
    plain = ma.AudioLM(network("qwen2_audio"), processor("qwen2_audio"), prove=False)
    for answered in (model, plain):
        answered.logits_of = ma.run(answered, ma.prompt(answered, [question])).logits
    assert torch.equal(model.logits_of, plain.logits_of)


def test_a_registered_class_is_loaded_from_a_folder(tmp_path):
    own_network().save_pretrained(tmp_path)
    processor("qwen2_audio").save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"holds a 'own_audio', which neither this transformers .* nor mechaudio has"):
        ma.load(tmp_path)
    ma.register(OWN)
    model = ma.load(tmp_path, prove=False)
    assert type(model.network) is OwnForConditionalGeneration
    weights = zip(model.network.parameters(), own_network().parameters(), strict=True)
    assert all(torch.equal(value, own) for value, own in weights)


def test_a_class_is_found_by_an_import_path():
    path = "mechaudio.models.salmonn.network:SalmonnForConditionalGeneration"
    assert replace(OWN, network=path).load_class().__name__ == "SalmonnForConditionalGeneration"
    assert replace(OWN, network=None, network_class="Qwen2AudioForConditionalGeneration").load_class() is (
        Qwen2AudioForConditionalGeneration
    )
    with pytest.raises(ValueError, match=r"an import path is written 'package\.module:Class', got 'a\.b\.C'"):
        replace(OWN, network="a.b.C")


@pytest.mark.parametrize(
    ("adapter", "error", "said"),
    [
        (object(), TypeError, "register takes an Adapter"),
        (replace(OWN, network_class="Other"), ValueError, "leads to a class called 'OwnForConditionalGeneration'"),
        (replace(OWN, family="voxtral"), ValueError, "'voxtral' is the model_type of VoxtralForConditionalGeneration"),
        (replace(OWN, network="no_such_module:Class"), ImportError, "no_such_module"),
        (replace(OWN, network="mechaudio.models.adapter:NoSuch"), AttributeError, "NoSuch"),
    ],
)
def test_what_cannot_be_registered_is_refused(adapter, error, said):
    with unchecked_types(), pytest.raises(error, match=said):
        ma.register(adapter)
    assert registry._REGISTERED == {}


@pytest.mark.parametrize("name", ["audio", "blocks", "two words"])
def test_a_tower_has_a_name_of_its_own(name):
    stack = Stack("a", "b", "c", "d", "e", "")
    with pytest.raises(ValueError, match="cannot be the name of a tower"):
        replace(OWN, towers={name: stack})


def test_a_class_whose_tokens_have_no_time_says_so_everywhere():
    why = "64 queries hear the whole clip"
    ma.register(replace(OWN, timing=replace(OWN.timing, timeless=why)))
    model = ma.AudioLM(own_network(), processor("qwen2_audio"), prove=False)
    batch = ma.prompt(model, [ma.AudioQuestion(audio=ma.AudioClip(noise(1.0), 16_000), text="What?")])
    (clock,) = batch.clock
    assert clock.n_tokens == len(batch.spans["audio"][0]) == 25
    assert clock.intervals(24) == ()
    with pytest.raises(ValueError, match=f"audio token 3 hears no stretch of its own: {why}"):
        clock.seconds(3)
    with pytest.raises(ValueError, match=why):
        ma.run(model, batch, record=[ma.HookPoint("resid_post", positions="audio[0.0:0.5]")])
    assert set(batch.tokens(0)) >= {"♪"}
    measured = ma.analyses.audio_attention(model, batch)
    assert torch.from_numpy(measured.mass.sum(-1)).allclose(torch.ones(1).double(), atol=1e-5)
    with pytest.raises(ValueError, match="have no time"):
        measured.per_second()


def test_tokens_share_out_time_where_nothing_else_is_said():
    assert token_clock(OWN.timing, 2, 16_000).intervals(1) == ((0.04, 0.08),)
    assert isinstance(OWN, Adapter)
