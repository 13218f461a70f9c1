"""What lies before a hook point gives again what it gave, and opening a model costs what lies behind."""

import pytest
import torch

from mechaudio.models.inputs import place
from mechaudio.models.probe import probe_inputs
from mechaudio.tracing import check
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.replay import Replay
from tests.families import network


def recorded(model):
    replay = Replay(model, decoder=True)
    inputs = place(model.network, model.adapter, probe_inputs(model.network, model.adapter))
    check.last_logits(model, inputs, prepare=replay.record)
    return replay, inputs


# One tower, two side by side, one in chunks, and layers that share a table of keys and values.
@pytest.mark.parametrize("family", ["qwen2_audio", "salmonn", "vibevoice_asr", "gemma3n"])
def test_what_overwriting_moves_is_what_it_moves_where_everything_is_computed(family):
    model = AudioLM(network(family), prove=False)
    moved, (_, inputs) = check.measure_hook_points(model), recorded(model)
    clean = check.last_logits(model, inputs)
    for site in check._one_layer_each(model):
        after = check.last_logits(model, inputs, site, check._overwrite)
        if moved[site.address].what == "its logits":
            assert moved[site.address].change == float((after - clean).abs().max()), site.address


def test_layers_before_a_hook_point_are_not_computed():
    model = AudioLM(network("qwen2_audio"), prove=False)
    replay, inputs = recorded(model)
    site = model.site_map.layers["decoder"][-1]["attn_out"]
    before = replay.untouched([site])
    layers = [model.adapter.decoder.path(layer) for layer in range(model.n_layers)]
    assert set(layers) - set(before) == {layers[-1]}
    computed = []
    handles = [
        model.network.get_submodule(f"{path}.mlp").register_forward_hook(lambda *_, path=path: computed.append(path))
        for path in layers
    ]
    check.last_logits(model, inputs, site, torch.clone, prepare=lambda: replay.give(before))
    for handle in handles:
        handle.remove()
    assert computed == layers[-1:]


def test_a_layer_that_writes_into_a_table_for_others_is_computed():
    model = AudioLM(network("gemma3n"), prove=False)
    replay, _ = recorded(model)
    before = replay.untouched([model.site_map.layers["decoder"][-1]["attn_out"]])
    assert before
    assert not any(path.startswith(f"{model.adapter.decoder.layers}.") for path in before)
