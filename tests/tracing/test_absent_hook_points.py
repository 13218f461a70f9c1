"""Hook points that a class or a layer does not have: whoever asks is told which, in which class, and why."""

import pickle
from dataclasses import replace

import pytest
import torch

from mechaudio.models.adapter import DECODER, MixedStack, Stack
from mechaudio.models.registry import ADAPTERS
from mechaudio.tracing.audio_lm import AudioLM, trace
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import NoSuchHookPoint, layer_sites
from tests.families import FAMILIES, model_inputs, network

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")

#: Families that lack a part in one of their stacks, in all layers or in some.
LACKING = [
    adapter.family
    for adapter in ADAPTERS
    if adapter.family in FAMILIES
    and (adapter.encoder.absent or adapter.decoder.absent or isinstance(adapter.decoder, MixedStack))
]


@pytest.fixture(scope="module", params=LACKING)
def model(request):
    return AudioLM(network(request.param), prove=False)


@pytest.fixture
def inputs(model):
    return model_inputs(model.adapter.family, seconds=(1.6, 1.6))


def _part(point, reasons):
    if point == "mlp_post":
        return "mlp" if "mlp" in reasons else "down"
    return {"resid_mid": "mid_norm", "mlp_out": "mlp"}.get(point, "attention")


def absent_points(model):
    """Every hook point that is not there: name, layer and the reason in the adapter."""
    network_config = model.network.config
    for part, prefix, stack in (("encoder", "audio.", model.adapter.encoder), ("decoder", "", model.adapter.decoder)):
        for layer, sites in enumerate(model.site_map.layers[part]):
            for point in sites.absent:
                reasons = stack.in_layer(network_config, layer).absent
                yield (
                    prefix + point,
                    layer,
                    reasons[_part(point, reasons)],
                )
    for name in model.sites.absent:
        stack = model.adapter.encoder if name.startswith("audio.") else model.adapter.decoder
        yield name, None, stack.absent["norm"]


def test_recording_one_says_which_where_and_why(model, inputs):
    found = list(absent_points(model))
    assert found
    for name, layer, reason in found:
        point = HookPoint(name, layers=None if layer is None else [layer])
        with pytest.raises(NoSuchHookPoint) as error:
            run(model, inputs, record=[point])
        told = str(error.value)
        assert name.removeprefix("audio.") in told
        assert f"does not exist in {type(model.network).__name__}: {reason}" in told
        if point.point != "mass":
            with pytest.raises(NoSuchHookPoint):
                run(model, inputs, interventions=[Edit(point, lambda value: value)])


def test_a_trace_block_that_asks_for_one_says_the_same(model, inputs):
    for name, layer, reason in absent_points(model):
        point = name.removeprefix("audio.")
        blocks = model.audio_blocks if name.startswith("audio.") else model.blocks
        where, attribute = (model, name.replace("audio.", "audio_")) if layer is None else (blocks[layer], point)
        if layer is not None and point not in ("attn_out", "resid_mid", "mlp_post", "mlp_out"):
            where = blocks[layer].attn
        if point == "mass":
            continue
        with pytest.raises(NoSuchHookPoint) as error, torch.no_grad(), trace(model, inputs):
            getattr(where, attribute).save()
        assert reason in str(error.value)
        if point in ("scores", "pattern"):
            with pytest.raises(NoSuchHookPoint), torch.no_grad(), trace(model, inputs):
                where.at("last").pattern.save()


def test_every_layer_means_every_layer_that_has_it(model, inputs):
    for name in dict.fromkeys(name for name, layer, _ in absent_points(model) if layer is not None):
        part = "encoder" if name.startswith("audio.") else "decoder"
        have = [
            layer for layer, sites in enumerate(model.site_map.layers[part]) if name.removeprefix("audio.") in sites
        ]
        if have:
            kept = run(model, inputs, record=[name]).cache
            assert sorted(layer for _, layer in kept) == have


def test_a_missing_part_needs_a_reason():
    fields = {"layers": "layers", "attention": "attn", "mlp": "mlp", "norm": "norm", "config": ""}
    with pytest.raises(ValueError, match=r"layers: the parts \['mid_norm'\] are None, reasons are \[\]"):
        Stack(mid_norm=None, **fields)
    with pytest.raises(ValueError, match=r"the parts \[\] are None, reasons are \['mlp'\]"):
        Stack(mid_norm="norm", absent={"mlp": "there is one"}, **fields)
    with pytest.raises(ValueError, match="layers: down is None, and absent= does not say why"):
        Stack(mid_norm="norm", down=None, **fields)
    assert {DECODER: "found"}[replace(DECODER)] == "found"


def test_sites_of_one_layer_are_equal_whenever_they_are_made_and_can_be_pickled():
    sites = list(layer_sites(DECODER, "", 0, "Net").values())
    assert list(layer_sites(DECODER, "", 0, "Net").values()) == sites
    assert pickle.loads(pickle.dumps(sites)) == sites
