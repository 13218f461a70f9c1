"""Every path gives what the others give: `attn_out` and `mlp_out` are what is added, in every class, read and edited.

`MORE` says, layer by layer in the words of the classes' own modules, how the streams come about where a layer does more
than add: `at(name)` is what a hook point holds, `seen(path)` what a module of the layer gave, by a plain torch hook.
"""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

import mechaudio as ma
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.gradients import graph
from mechaudio.tracing.hook_points import prefix_of
from mechaudio.tracing.sites import HookPointError
from tests.families import FAMILIES, model_inputs, network, thinned

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
SUMS = {
    "resid_mid": lambda at, _seen, _layer: at("resid_pre") + at("attn_out"),
    "resid_post": lambda at, _seen, _layer: at("resid_mid") + at("mlp_out"),
}
#: Where edits are tried without being asked for the whole matrix: one of every way of adding.
WAYS = ("qwen2_audio", "phi4_multimodal", "granite_speech", "gemma3n", "muse_spark", "salmonn")


def conformer(feed_forward, convolution, norm):
    """Half a feed-forward, attention, a convolution, half a feed-forward, a norm."""
    return {
        "resid_mid": lambda at, seen, _: at("resid_pre") + seen(feed_forward) / 2 + at("attn_out"),
        "resid_post": lambda at, seen, layer: layer.get_submodule(norm)(
            at("resid_mid") + seen(convolution) + at("mlp_out")
        ),
    }


def gemma_conformer(feed_forward, norm):
    """The same of modules that add by themselves."""
    return {
        "resid_mid": lambda at, seen, _: seen(feed_forward) + at("attn_out"),
        "resid_post": lambda at, seen, layer: layer.get_submodule(norm)(seen("lconv1d") + at("mlp_out")),
    }


def corrected_by_altup(at, seen, layer):
    """The prediction, which the layer's first norm is given, and its share of what attention and MLP changed."""
    activated = at("resid_mid") + at("mlp_out")
    with torch.no_grad():
        shares = layer.altup.correction_coefs(layer.altup.compute_router_modalities(activated)) + 1
    predicted = seen("input_layernorm.input")
    return predicted + (activated - predicted) * shares[..., :1]


SALMONNS = {
    "beats": {
        "resid_mid": lambda at, _seen, layer: at("resid_pre") * layer.alpha + at("attn_out"),
        "resid_post": lambda at, seen, layer: layer.final_layer_norm(
            seen("self_attn_layer_norm") * layer.alpha + at("mlp_out")
        ),
    },
    "qformer": {
        "resid_mid": lambda at, seen, _: seen("attention.output.LayerNorm") + at("attn_out"),
        "resid_post": lambda at, seen, layer: layer.output_query.LayerNorm(
            seen("crossattention.output.LayerNorm") + at("mlp_out")
        ),
    },
}


def gated(stream, added, gate):
    """The stream and what is added to it, weighed against each other dimension by dimension."""

    def formula(at, _seen, layer):
        logits = layer.get_submodule(gate).gate / layer.get_submodule(gate).temperature
        return at(stream) * (torch.sigmoid(-logits) * (1 + torch.sigmoid(logits))).sqrt() + at(added)

    return formula


GRANITE = conformer("ff1", "conv", "post_norm")
MORE = {
    ("granite_speech", "encoder"): GRANITE,
    ("granite_speech_plus", "encoder"): GRANITE,
    ("phi4_multimodal", "encoder"): conformer("feed_forward_in", "conv", "layer_norm"),
    ("nemotron_h_omni", "encoder"): conformer("feed_forward1", "conv", "norm_out"),
    **{(family, tower): more for family in ("salmonn", "timeaudio") for tower, more in SALMONNS.items()},
    ("desta25", "qformer"): {
        "resid_mid": SALMONNS["qformer"]["resid_mid"],
        "resid_post": lambda at, seen, layer: layer.output.LayerNorm(
            seen("crossattention.output.LayerNorm") + at("mlp_out")
        ),
    },
    ("gemma3n", "encoder"): gemma_conformer("ffw_layer_start", "norm"),
    ("gemma4", "encoder"): gemma_conformer("feed_forward1", "norm_out"),
    ("fun_asr_nano", "encoder"): {
        "resid_mid": lambda at, _seen, _: (
            at("attn_out") + (at("resid_pre") if at("resid_pre").shape == at("attn_out").shape else 0)
        ),
        "resid_post": lambda at, _seen, layer: layer.final_layernorm(at("resid_mid") + at("mlp_out")),
    },
    ("muse_spark", "decoder"): {
        "resid_mid": gated("resid_pre", "attn_out", "post_attention_residual_gate"),
        "resid_post": gated("resid_mid", "mlp_out", "post_feedforward_residual_gate"),
    },
    ("gemma4", "decoder"): {
        "resid_post": lambda at, seen, layer: (
            (at("resid_mid") + at("mlp_out") + seen("post_per_layer_input_norm")) * layer.layer_scalar
        ),
    },
    ("gemma3n", "decoder"): {
        "resid_mid": lambda at, seen, _: (
            (seen("input_layernorm.input") + seen("laurel")) / math.sqrt(2) + at("attn_out")
        ),
        "resid_post": corrected_by_altup,
    },
}


@cache
def opened(family):
    return ma.AudioLM(network(family), prove=False)


@cache
def heard(family):
    return model_inputs(family, seconds=(1.6, 1.6))


def measured(family, places, changes=()):
    """The hook points of layers in one run, and what their modules gave and were given, by plain hooks.

    Returns:
        (part, layer) -> values of its hook points, outputs and first inputs of its modules, and the layer itself.
    """
    model, handles, made = opened(family), [], {}

    def look(given, path):
        def hook(_module, args, output):
            given[path] = (output[0] if isinstance(output, tuple) else output).clone()
            given[f"{path}.input"] = args[0].clone() if args else None

        return hook

    for part, layer in places:
        module, given = model.network.get_submodule(f"{model.adapter.stacks[part].layers}.{layer}"), {}
        handles += [each.register_forward_hook(look(given, path)) for path, each in module.named_modules() if path]
        points = [point for point in STREAM if point in model.site_map.layers[part][layer]]
        made[part, layer] = points, given, module
    record = [
        ma.HookPoint(prefix_of(part) + point, layers=[layer]) for (part, layer), at in made.items() for point in at[0]
    ]
    kept = ma.run(model, heard(family), record=record, interventions=list(changes), logits=None).cache
    for handle in handles:
        handle.remove()
    return {
        (part, layer): ({point: kept[prefix_of(part) + point, layer] for point in points}, given, module)
        for (part, layer), (points, given, module) in made.items()
    }


def layers_that_add(family):
    """Part, layer and what is added there: of every layer that has it."""
    sites = opened(family).site_map.layers
    return [
        (part, layer, point)
        for part in sites
        for layer, points in enumerate(sites[part])
        for point in ("attn_out", "mlp_out")
        if point in points
    ]


def places_of(family):
    return list(dict.fromkeys(place[:2] for place in layers_that_add(family)))


def formulas(family, part, values):
    """How the streams of a layer come about: of one that has no middle, the one part is added to all of it."""
    if "resid_mid" in values:
        sums = SUMS | MORE.get((family, part), {})
        return sums if "attn_out" in values else {"resid_post": sums["resid_post"]}
    only = "attn_out" if "attn_out" in values else "mlp_out"
    return {"resid_post": lambda at, _seen, _layer: at("resid_pre") + at(only)}


def assert_added(family, part, values, given, module, *, exactly):
    for stream, formula in formulas(family, part, values).items():
        with torch.no_grad():
            expected = formula(values.__getitem__, given.__getitem__, module)
        if exactly and stream not in MORE.get((family, part), {}):
            assert torch.equal(values[stream], expected)
        torch.testing.assert_close(values[stream], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_are_sums_of_what_is_added(family):
    for (part, _), around in measured(family, places_of(family)).items():
        assert_added(family, part, *around, exactly=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_that_do_more_than_add_are_those_that_say_so(family):
    adapter = opened(family).adapter
    for part, stack in adapter.stacks.items():
        gaps = stack.between
        told = {"resid_mid": "attention" in gaps, "resid_post": "mlp" in gaps or stack.end is not None}
        assert {stream for stream, more in told.items() if more} == set(MORE.get((family, part), ()))


@pytest.mark.parametrize("family", thinned(FAMILIES, left=WAYS))
def test_an_edit_lands_on_what_is_added_and_moves_the_stream_by_as_much(family):
    unchanged = measured(family, places_of(family))
    for part, layer, point in layers_that_add(family):
        clean, *_ = unchanged[part, layer]
        by = torch.randn(clean[point].shape, generator=torch.Generator().manual_seed(1))
        name = prefix_of(part) + point
        change = ma.Edit(ma.HookPoint(name, [layer]), lambda v, by=by: v + by)
        edited, *around = measured(family, [(part, layer)], [change])[part, layer]
        torch.testing.assert_close(edited[point], clean[point] + by, atol=1e-5, rtol=1e-5)
        if point == "attn_out" and "resid_mid" in clean:
            torch.testing.assert_close(edited["resid_mid"] - clean["resid_mid"], by, atol=5e-5, rtol=0)
        assert_added(family, part, edited, *around, exactly=False)


@pytest.mark.parametrize("family", ["granite_speech", "gemma4", "gemma3n", "phi4_multimodal", "muse_spark"])
def test_an_edit_that_changes_nothing_changes_no_bit(family):
    model = opened(family)
    same = [
        ma.Edit(ma.HookPoint(f"{prefix}{point}"), torch.clone)
        for prefix in ("audio.", "")
        for point in ("attn_out", "mlp_out")
        if point in model.site_map.layers["encoder" if prefix else "decoder"][0]
    ]
    clean = ma.run(model, heard(family)).logits
    assert torch.equal(ma.run(model, heard(family), interventions=same).logits, clean)


@pytest.mark.parametrize("family", ["granite_speech", "gemma4"])
def test_what_is_set_to_zero_adds_nothing(family):
    model = opened(family)
    nothing = ma.Edit(ma.HookPoint("attn_out", [1]), torch.zeros_like)
    kept = ma.run(model, heard(family), record=["resid_pre", "resid_mid"], interventions=[nothing]).cache
    assert torch.equal(kept["resid_mid", 1], kept["resid_pre", 1])


@pytest.mark.parametrize("family", ["granite_speech", "gemma4"])
@pytest.mark.parametrize("point", ["attn_out", "mlp_out"])
def test_a_block_writes_in_place_as_an_edit_does_and_a_patch_carries_it(family, point):
    model, inputs = opened(family), heard(family)
    by = torch.randn(model.d_model, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), ma.trace(model, inputs):
        block = model.blocks[1]
        added = block.attn_out if point == "attn_out" else block.mlp_out
        added[:, -1] += by
        logits = model.logits.save()
    pushed = ma.Steer(by, layers=[1], hook_point=point, positions="last")
    out = ma.run(model, inputs, record=[point], interventions=[pushed])
    torch.testing.assert_close(logits, out.logits, atol=1e-4, rtol=1e-4)
    patched = ma.run(model, inputs, interventions=[ma.Patch(point, out.cache[point, 1], layer=1)]).logits
    torch.testing.assert_close(patched, out.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["granite_speech", "gemma4", "gemma3n", "muse_spark"])
@pytest.mark.parametrize("point", ["attn_out", "mlp_out"])
def test_gradients_are_finite_differences(family, point):
    model = opened(family)
    batch = as_batch(model, model_inputs(family, seconds=(1.2, 1.2), words=(7, 7)))
    by = torch.randn(model.d_model, generator=torch.Generator().manual_seed(3))

    def margin(logits):
        return (logits[:, -1, 7] - logits[:, -1, 11]).double()

    def moved(step):
        pushed = ma.Steer(by, step, layers=[1], hook_point=point, positions="last")
        return margin(ma.run(model, batch, interventions=[pushed], logits="last").logits)

    gradient = graph(model, batch, [ma.HookPoint(point, [1])], margin).gradients()[point, 1]
    slope = (moved(0.003) - moved(-0.003)) / 0.006
    assert slope.abs().min() > 0.1
    torch.testing.assert_close((gradient[:, -1] @ by).double(), slope, rtol=1e-2, atol=2e-3)


WRONG = {
    "a multiplier that is not told": ("granite_speech", "decoder", {"attention_times": 1.0}),
    "another multiplier": ("granite_speech_plus", "decoder", {"mlp_times": 0.5}),
    "a norm behind the MLP that is not told": ("gemma4", "decoder", {"mlp_norm": None}),
    "a norm behind attention that is not told": ("gemma4", "encoder", {"attention_norm": None}),
    "a feed-forward that is halved": ("phi4_multimodal", "encoder", {"mlp_times": 1.0}),
    "a feed-forward in front of attention that is not told": (
        "nemotron_h_omni",
        "encoder",
        {"between": {"mlp": "a convolution"}},
    ),
    "a stream that is divided": ("gemma3n", "decoder", {"attention_times": 1.0}),
    "gates that are not told": ("muse_spark", "decoder", {"gates": {}, "between": {}}),
    "a gate that stands elsewhere": (
        "muse_spark",
        "decoder",
        {"gates": dict.fromkeys(("attention", "mlp"), "post_attention_residual_gate")},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_opening_refuses_an_adapter_by_which_something_else_is_added(monkeypatch, what):
    family, part, wrong = WRONG[what]
    adapter = opened(family).adapter
    adapter = replace(adapter, **{part: replace(getattr(adapter, part), **wrong)})
    monkeypatch.setattr("mechaudio.tracing.audio_lm.adapter_for", lambda _network: adapter)
    with pytest.raises(HookPointError, match=r"is not .* plus .*: the adapter has to say|so it is not what is added"):
        ma.AudioLM(network(family))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gemma4", {}),
        ("muse_spark", {"softcapped_at": "text_config.final_logit_softcapping"}),
        ("granite_speech", {"divided_by": "text_config.logits_scaling"}),
    ],
)
def test_opening_refuses_an_adapter_by_which_something_else_is_done_to_logits(monkeypatch, family, changes):
    adapter = replace(opened(family).adapter, logits=changes)
    monkeypatch.setattr("mechaudio.tracing.audio_lm.adapter_for", lambda _network: adapter)
    with pytest.raises(
        HookPointError, match=r"are not its last residual stream .* what else is done to them \(`logits`"
    ):
        ma.AudioLM(network(family))


def test_a_layer_without_inputs_of_its_own_still_ends_scaled():
    config = network("gemma4").config
    config.text_config.hidden_size_per_layer_input = config.text_config.num_kv_shared_layers = 0
    torch.manual_seed(0)
    built = type(network("gemma4"))(config).eval()
    for layer in built.model.language_model.layers:
        layer.layer_scalar.fill_(0.8)
    ma.AudioLM(built)  # which proves it
