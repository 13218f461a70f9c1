"""What patches one path: a reference in plain linear algebra, and what holds in every family."""

import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import path_patches
from mechaudio.models.inputs import as_batch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.sites import NoSuchHookPoint
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned, unchecked_types


@pytest.fixture(scope="module")
def opened():
    made = {}

    def get(family):
        if family not in made:
            model = AudioLM(network(family), prove=False)
            base = as_batch(model, model_inputs(family))
            source = as_batch(model, model_inputs(family, seed=1))
            made[family] = model, base, source
        return made[family]

    return get


def last_with(model, point):
    return [layer for layer, sites in enumerate(model.site_map.layers["decoder"]) if point in sites]


def logits(model, batch, interventions=()):
    return ma.run(model, batch, interventions=interventions, logits="last").logits[:, -1]


def test_it_is_what_linear_algebra_says(opened):
    """Of a Qwen2 decoder, written out: a head adds its slice of the output projection, and nothing on the way moves."""
    model, base, source = opened("qwen2_audio")
    layers = model.network.model.language_model.layers
    kept, given = (ma.run(model, side, record=["z", "resid_pre", "resid_post"]).cache for side in (base, source))
    first, last, head = 0, len(layers) - 1, 1
    d_head = kept["z", 0].shape[-1]
    weights = layers[first].self_attn.o_proj.weight[:, head * d_head : (head + 1) * d_head]
    added = (given["z", first] - kept["z", first])[:, :, head] @ weights.T

    direct = path_patches(model, base, source=source, sender=("head", first, head), receiver="logits")
    stream = kept["resid_post", last] + added
    by_hand = model.network.lm_head(model.network.model.language_model.norm(stream))[:, -1]
    assert torch.allclose(logits(model, base, direct), by_hand, atol=1e-5)
    assert not torch.allclose(by_hand, logits(model, base), atol=1e-3)

    stream = kept["resid_pre", last] + added
    replaced = ma.run(model, base, record=["q", "k", "v"], interventions=[ma.Patch("resid_pre", stream, last)]).cache
    for name, own in (("q", 3), ("k", 1), ("v", 1)):
        patches = path_patches(model, base, source=source, sender=("head", first, head), receiver=(name, last, 3))
        assert (patches[0].hook_point, patches[0].heads) == (name, (own,))
        assert torch.allclose(patches[0].value[:, :, own], replaced[name, last][:, :, own], atol=1e-5)
        others = [] if name == "q" else [2]
        assert [patch.heads for patch in patches[1:]] == ([(2,)] if others else [])
    before = ma.run(model, base, record=["z"]).cache["z", last]
    after = ma.run(model, base, record=["z"], interventions=patches).cache["z", last]
    assert not torch.allclose(before[:, -1, 3], after[:, -1, 3], atol=1e-4)
    assert torch.equal(before[:, :, :3], after[:, :, :3])


def test_paths_sum_where_nothing_is_between_them_but_the_residual_stream(opened):
    model, base, source = opened("qwen2_audio")

    def arrives(*sender):
        patches = path_patches(model, base, source=source, sender=sender, receiver="logits")
        final = ma.HookPoint("resid_post", layers=[model.n_layers - 1], positions="last")
        return ma.run(model, base, record=[final], interventions=patches).cache["resid_post", -1] - unchanged

    unchanged = ma.run(model, base, record=["resid_post"]).cache["resid_post", -1][:, -1:]
    heads = [arrives("head", 0, head) for head in range(model.n_heads)]
    assert torch.allclose(sum(heads), arrives("attention", 0), atol=1e-5)
    assert all(change.abs().max() > 1e-3 for change in heads)
    layers = [arrives(kind, layer) for kind in ("attention", "mlp") for layer in range(model.n_layers)]
    whole = ma.run(model, source, record=["resid_post"]).cache["resid_post", -1][:, -1:] - unchanged
    assert torch.allclose(sum(layers) + arrives("embed"), whole, atol=1e-5)


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_where_there_is_one_path_it_is_activation_patching(opened, family):
    with unchecked_types():
        model, base, source = opened(family)
        mlp, attention = last_with(model, "mlp_out")[-1], last_with(model, "attn_out")[-1]
        untouched = logits(model, base)
        for kind, point, layer, mlps in (
            ("mlp", "mlp_out", mlp, "frozen"),
            ("attention", "attn_out", attention, "recomputed"),
        ):
            if layer != model.n_layers - 1:
                continue  # another layer follows, and other paths
            given = ma.run(model, source, record=[point]).cache[point, layer]
            path = path_patches(model, base, source=source, sender=(kind, layer), receiver="logits", mlps=mlps)
            plain = ma.Patch(point, given, layer, positions="last")
            patched = logits(model, base, path)
            assert torch.equal(patched, logits(model, base, [plain]))
            assert not torch.equal(patched, untouched)


@pytest.mark.parametrize("family", thinned(KINDS, left=("qwen2_audio", "nemotron_h_omni")))
def test_a_path_from_a_prompt_into_itself_changes_nothing(opened, family):
    with unchecked_types():
        model, base, _ = opened(family)
        layers, untouched = last_with(model, "z"), logits(model, base)
        to = (("head", layers[-1], 0), "logits")
        for receiver in to:
            try:
                patches = path_patches(model, base, source=base, sender=("head", layers[0], 0), receiver=receiver)
            except (NoSuchHookPoint, ValueError):
                assert family == "nemotron_h_omni"
                continue
            assert torch.equal(logits(model, base, patches), untouched)


def test_a_layer_that_cannot_be_kept_and_a_component_that_is_not_there_are_refused(opened):
    model, base, source = opened("nemotron_h_omni")
    sites = model.site_map.layers["decoder"]
    mamba = next(layer for layer, own in enumerate(sites) if "attn_out" not in own and "mlp_out" not in own)
    with pytest.raises(NoSuchHookPoint, match="a Mamba block"):
        path_patches(model, base, source=source, sender=("attention", mamba), receiver="logits")
    with pytest.raises(NoSuchHookPoint, match=f"layer {mamba} lies between sender and receiver"):
        path_patches(model, base, source=source, sender="embed", receiver="logits")
