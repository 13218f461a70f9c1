"""Lists of layers: where their config is, layers of several kinds, and a second list beside the first."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mechaudio.models.adapter import DECODER, MixedStack, Stack
from mechaudio.models.adapters.gemma3n import GEMMA_3N
from mechaudio.models.adapters.nemotron_h_omni import NEMOTRON_H_OMNI
from mechaudio.models.adapters.vibevoice_asr import VIBEVOICE_ASR
from mechaudio.models.hearing import audio_token_id

CONFIG = SimpleNamespace(text_config=SimpleNamespace(layer_types=["linear_attention", "full_attention"], width=8))


def test_a_config_may_lie_deeper():
    deep = SimpleNamespace(audio_config=SimpleNamespace(asr_config="the tower's"))
    assert replace(DECODER, config="audio_config.asr_config").own_config(deep) == "the tower's"
    assert replace(DECODER, config="").own_config(deep) is deep


def test_a_config_that_is_not_there_is_named():
    with pytest.raises(
        AttributeError, match=r"config of model.language_model.layers is 'text_config' of the network's"
    ):
        DECODER.own_config(SimpleNamespace(width=8))


def test_layers_of_several_kinds_lie_in_the_list_of_the_whole():
    mixed = replace(NEMOTRON_H_OMNI.decoder, layers="moved.layers", norm="moved.norm")
    assert [mixed.in_layer(CONFIG, layer).attention for layer in (0, 1)] == [None, "mixer"]
    assert {(part.layers, part.norm) for layer in (0, 1) for part in [mixed.in_layer(CONFIG, layer)]} == {
        ("moved.layers", "moved.norm")
    }
    with pytest.raises(KeyError, match=r"moved.layers.0 is of kind 'linear_attention'; the adapter knows \['mlp'\]"):
        replace(mixed, kinds={"mlp": DECODER}).in_layer(CONFIG, 0)


def test_layers_of_a_second_list_are_counted_on_behind_the_first():
    tower = VIBEVOICE_ASR.encoder
    assert len(tower.paths) == 2
    assert [tower.list_at(path, 4 * place).path(5 + 2 * place) for place, path in enumerate(tower.paths)] == [
        "model.acoustic_tokenizer_encoder.conv_layers.5",
        "model.semantic_tokenizer_encoder.conv_layers.3",
    ]
    assert DECODER.paths == (DECODER.layers,)
    assert DECODER.list_at(DECODER.layers, 0) is DECODER


def test_a_module_that_adds_by_itself_is_its_own_middle():
    assert GEMMA_3N.encoder.mid_norm_adds
    assert not DECODER.mid_norm_adds


def test_a_missing_part_without_a_reason_is_refused_unless_layers_differ():
    parts = {"attention": None, "mid_norm": None, "mlp": None, "norm": None, "config": ""}
    with pytest.raises(ValueError, match=r"the parts \['attention', 'mid_norm', 'mlp', 'norm'\] are None, reasons are"):
        Stack(layers="layers", **parts)
    assert MixedStack(layers="layers", **parts, kinds={"full_attention": DECODER}).kinds


@pytest.mark.parametrize(
    "config",
    [
        SimpleNamespace(
            audio_token_id=5, text_config=SimpleNamespace(vocab_size=7), audio_config=SimpleNamespace(audio_token_id=6)
        ),
        SimpleNamespace(text_config=SimpleNamespace(vocab_size=7), audio_config=SimpleNamespace(audio_token_id=5)),
    ],
)
def test_the_placeholder_is_found_in_the_config_of_the_network_or_of_its_tower(config):
    assert audio_token_id(config, replace(VIBEVOICE_ASR, encoder=replace(DECODER, config="audio_config"))) == 5
