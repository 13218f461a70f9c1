"""Classes whose modules stood elsewhere in older versions of transformers."""

import pytest
from torch import nn

from mechaudio.models.registry import adapter_for


def thinker(name, **parts):
    network = type(name, (nn.Module,), {})()
    for part, module in parts.items():
        network.add_module(part, module)
    return network


@pytest.mark.parametrize(
    "name", ["Qwen2_5OmniThinkerForConditionalGeneration", "Qwen3OmniMoeThinkerForConditionalGeneration"]
)
def test_a_thinker_with_decoder_and_tower_side_by_side_has_the_paths_of_5_20(name):
    inside = nn.Module()
    inside.language_model = nn.Module()
    today, older = adapter_for(thinker(name, model=inside)), adapter_for(thinker(name, model=nn.Module()))
    assert today.decoder_module == "model.language_model"
    assert (older.decoder_module, older.decoder.layers, older.decoder.norm) == ("model", "model.layers", "model.norm")
    assert (older.encoder.layers, older.encoder.norm) == ("audio_tower.layers", "audio_tower.ln_post")
    assert older.projector == today.projector.removeprefix("model.")
    assert older.unembed == today.unembed == "lm_head"
