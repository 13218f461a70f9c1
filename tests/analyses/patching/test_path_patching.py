"""Path patching: the toy's planted path, a reference in plain linear algebra, and what holds in every family."""

import numpy as np
import pytest
import torch

import mechaudio as ma
from mechaudio.analyses import path_patches, path_patching
from mechaudio.data import toy_questions
from mechaudio.models.inputs import as_batch
from mechaudio.models.toy.planted import PLANTED
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.sites import NoSuchHookPoint
from tests.families import FAMILIES, model_inputs, network, unchecked_types

EVIDENCE = ("mlp", PLANTED.collecting[0])
"""The MLP that multiplies evidence with letters."""


@pytest.fixture(scope="module")
def toy():
    return ma.load("toy")


@pytest.fixture(scope="module")
def asked():
    clean = toy_questions.questions(6, seed=0, level=(0.0, 0.0))
    return clean, toy_questions.counterparts(clean)


def patch(model, asked, **settings):
    return path_patching(model, *asked, progress=False, **settings)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_the_planted_head_is_heard_by_the_mlp_that_multiplies_evidence_and_no_other_head_is(toy, asked, direction):
    found = patch(toy, asked, receiver=EVIDENCE, direction=direction)
    changed, unchanged = (0.0, 1.0) if direction == "noising" else (1.0, 0.0)
    expected = np.full((PLANTED.n_layers, PLANTED.n_heads), unchanged)
    expected[PLANTED.listening] = changed
    assert found.axes == {"layer": tuple(range(4)), "head": tuple(range(4))}
    assert np.allclose(found.mean(), expected, atol=1e-4)


@pytest.mark.parametrize("receiver", ["logits", ("head", *PLANTED.collecting), ("mlp", PLANTED.inert_layer)])
def test_no_head_of_the_toy_is_heard_anywhere_else(toy, asked, receiver):
    assert np.allclose(patch(toy, asked, receiver=receiver).mean(), 1.0, atol=1e-4)


def test_a_path_takes_one_head_of_a_group_that_shares_keys_and_values(toy, asked):
    for head, effect in ((PLANTED.listening, 0.0), (PLANTED.decoy, 1.0)):
        found = patch(toy, asked, sender="embed", receiver=("head", *head))
        assert found.axes == {"sender": ("embed",)}
        assert found.mean() == pytest.approx([effect], abs=1e-4)


def test_a_caption_goes_by_the_reading_head(toy):
    clean = toy_questions.questions(4, seed=1)
    prompts = [ma.prompt(toy, side, "caption") for side in (clean, toy_questions.counterparts(clean, "caption"))]
    mean = patch(toy, prompts, receiver=EVIDENCE, at="last").mean()
    assert mean[PLANTED.reading] == pytest.approx(0.0, abs=1e-4)
    assert np.allclose(np.delete(mean.ravel(), np.ravel_multi_index(PLANTED.reading, mean.shape)), 1.0, atol=1e-4)


def test_seconds_of_sound_reach_the_listening_head_where_a_voice_sings(toy):
    question = toy_questions.ask([toy_questions.sung("tenor", 1), toy_questions.sung("alto", 3)], ["tenor", "alto"])
    spans = [f"audio[{second}:{second + 1}]" for second in range(4)]
    found = patch(
        toy, [[question]], sender="embed", receiver=("head", *PLANTED.listening), at=spans, direction="denoising"
    )
    assert found.axes == {"span": tuple(spans)}
    change = found.change[:, 0]
    assert change[1] > 0
    assert change[3] < 0
    assert np.allclose(change[[0, 2]], 0.0, atol=1e-3)


def test_a_map_holds_what_the_interventions_do_one_by_one(toy, asked):
    batches = [ma.prompt(toy, side) for side in asked]
    senders = [("head", *PLANTED.listening), ("attention", 1), ("mlp", 0), "embed"]
    found = patch(toy, asked, sender=senders, receiver=EVIDENCE, metric="probability", batch_size=4)
    assert found.axes == {"sender": ("head 1.2", "attention 1", "mlp 0", "embed")}
    for index, sender in enumerate(senders):
        patches = path_patches(toy, *batches, sender=sender, receiver=EVIDENCE)
        answers = ma.answer(toy, batches[0], interventions=patches)
        right = [one.probabilities[one.choices.index(q.answer)] for one, q in zip(answers, asked[0], strict=True)]
        assert found.values[index] == pytest.approx(right, abs=1e-5)
        chosen = [one.choice_logits for one in answers]
        assert np.allclose(found.logits[index], chosen, atol=1e-4)
    assert np.allclose(found.by("margin").mean()[0], 0.0, atol=1e-4)
    assert found.ways[0] == "shared prefix"


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

    direct = path_patches(model, base, source, sender=("head", first, head), receiver="logits")
    stream = kept["resid_post", last] + added
    by_hand = model.network.lm_head(model.network.model.language_model.norm(stream))[:, -1]
    assert torch.allclose(logits(model, base, direct), by_hand, atol=1e-5)
    assert not torch.allclose(by_hand, logits(model, base), atol=1e-3)

    stream = kept["resid_pre", last] + added
    replaced = ma.run(model, base, record=["q", "k", "v"], interventions=[ma.Patch("resid_pre", stream, last)]).cache
    for name, own in (("q", 3), ("k", 1), ("v", 1)):
        found = path_patches(model, base, source, sender=("head", first, head), receiver=(name, last, 3))
        assert (found[0].hook_point, found[0].heads) == (name, (own,))
        assert torch.allclose(found[0].value[:, :, own], replaced[name, last][:, :, own], atol=1e-5)
        others = [] if name == "q" else [2]
        assert [one.heads for one in found[1:]] == ([(2,)] if others else [])
    before = ma.run(model, base, record=["z"]).cache["z", last]
    after = ma.run(model, base, record=["z"], interventions=found).cache["z", last]
    assert not torch.allclose(before[:, -1, 3], after[:, -1, 3], atol=1e-4)
    assert torch.equal(before[:, :, :3], after[:, :, :3])


def test_paths_sum_where_nothing_is_between_them_but_the_residual_stream(opened):
    model, base, source = opened("qwen2_audio")

    def arrives(*sender):
        patches = path_patches(model, base, source, sender=sender, receiver="logits")
        final = ma.HookPoint("resid_post", layers=[model.n_layers - 1], positions="last")
        return ma.run(model, base, record=[final], interventions=patches).cache["resid_post", -1] - unchanged

    unchanged = ma.run(model, base, record=["resid_post"]).cache["resid_post", -1][:, -1:]
    heads = [arrives("head", 0, head) for head in range(model.n_heads)]
    assert torch.allclose(sum(heads), arrives("attention", 0), atol=1e-5)
    assert all(change.abs().max() > 1e-3 for change in heads)
    layers = [arrives(kind, layer) for kind in ("attention", "mlp") for layer in range(model.n_layers)]
    whole = ma.run(model, source, record=["resid_post"]).cache["resid_post", -1][:, -1:] - unchanged
    assert torch.allclose(sum(layers) + arrives("embed"), whole, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_where_there_is_one_path_it_is_activation_patching(opened, family):
    with unchecked_types():
        model, base, source = opened(family)
        mlp, attention = last_with(model, "mlp_out")[-1], last_with(model, "attn_out")[-1]
        for kind, point, layer, mlps in (
            ("mlp", "mlp_out", mlp, "frozen"),
            ("attention", "attn_out", attention, "recomputed"),
        ):
            if layer != model.n_layers - 1:
                continue  # another layer follows, and other paths
            given = ma.run(model, source, record=[point]).cache[point, layer]
            path = path_patches(model, base, source, sender=(kind, layer), receiver="logits", mlps=mlps)
            plain = ma.Patch(point, given, layer, positions="last")
            assert torch.equal(logits(model, base, path), logits(model, base, [plain]))
            assert not torch.equal(logits(model, base, path), logits(model, base))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_from_a_prompt_into_itself_changes_nothing(opened, family):
    with unchecked_types():
        model, base, _ = opened(family)
        layers = last_with(model, "z")
        to = (("head", layers[-1], 0), "logits")
        for receiver in to:
            try:
                patches = path_patches(model, base, base, sender=("head", layers[0], 0), receiver=receiver)
            except (NoSuchHookPoint, ValueError):
                assert family == "nemotron_h_omni"
                continue
            assert torch.equal(logits(model, base, patches), logits(model, base))


def test_a_layer_that_cannot_be_kept_and_a_component_that_is_not_there_are_refused(opened):
    model, base, source = opened("nemotron_h_omni")
    sites = model.site_map.layers["decoder"]
    mamba = next(layer for layer, own in enumerate(sites) if "attn_out" not in own and "mlp_out" not in own)
    with pytest.raises(NoSuchHookPoint, match="a Mamba block"):
        path_patches(model, base, source, sender=("attention", mamba), receiver="logits")
    with pytest.raises(NoSuchHookPoint, match=f"layer {mamba} lies between sender and receiver"):
        path_patches(model, base, source, sender="embed", receiver="logits")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"receiver": ("q", 3)}, ValueError, r"receiver= is written \('q', layer, head\), got \('q', 3\)"),
        ({"receiver": ("z", 3, 1)}, ValueError, "receiver= is one of q, k, v, head, mlp, logits"),
        ({"receiver": ("q", "3", 1)}, TypeError, "layers and heads of receiver= are whole numbers"),
        ({"receiver": ("q", 9, 1)}, IndexError, "this decoder has layers 0 to 3"),
        ({"receiver": ("q", 3, 4)}, IndexError, "there is no head 4: a layer has heads 0 to 3 here"),
        ({"receiver": ("q", 0, 0)}, ValueError, "no head comes before q 0.0"),
        ({"receiver": ("q", 1, 0), "sender": ("mlp", 1)}, ValueError, "mlp 1 does not come before q 1.0"),
        ({"receiver": "logits", "sender": "everything"}, ValueError, "sender= is one of head, attention, mlp, embed"),
        ({"receiver": "logits", "at": "audio"}, ValueError, "leaves out the last position, where the logits are read"),
        ({"receiver": ("q", 1, 0), "at": "caption"}, ValueError, "at='caption' names no position of prompt 0"),
        ({"receiver": ("q", 1, 0), "at": "voice"}, KeyError, "no span 'voice' in this batch"),
        ({"receiver": "logits", "sender": []}, ValueError, "sender= is an empty list"),
        ({"receiver": "logits", "sender": [("mlp", 1), ("mlp", 1)]}, ValueError, "names a component twice"),
        ({"receiver": "logits", "direction": "sideways"}, ValueError, "direction= is one of 'denoising', 'noising'"),
        ({"receiver": "logits", "metric": "loss"}, ValueError, "metric= is one of"),
        ({"receiver": "logits", "batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_patched_is_refused(toy, asked, settings, error, message):
    with unchecked_types(), pytest.raises(error, match=message):
        patch(toy, asked, **settings)
