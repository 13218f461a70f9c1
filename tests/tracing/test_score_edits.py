"""Every way of carrying out an edit of scores gives the same numbers, in every family."""

from itertools import product

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.sites import NoSuchHookPoint
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned

pytestmark = pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
#: Does nothing, but sends edits behind it to the whole score matrix.
EXPLICIT = ma.Edit(ma.HookPoint("scores"), lambda scores: scores)


@pytest.fixture(scope="module", params=thinned(FAMILIES))
def model(request):
    return AudioLM(network(request.param), prove=False)


@pytest.fixture(scope="module")
def clean(model):
    return ma.run(model, inputs(model), record=["scores"])


def inputs(model):
    return model_inputs(model.adapter.family)


def a_few(heads):
    return {
        "scale": ma.ScaleAttention(1.4, heads=heads, queries=None),
        "flatten": ma.ScaleAttention(0.6, heads=heads, queries=None, keys="audio+last"),
        "shift": ma.UpweightAttention(0.8, heads=heads, queries=None),
        "block": ma.KnockOutAttention(heads=heads, queries=None, keys=[-4, -3]),
    }


def real(out, inputs):
    return out.logits[inputs["attention_mask"].bool()]


@pytest.mark.parametrize(
    ("turn", "orders"),
    [
        pytest.param(0, (("scale",), ("shift",), ("block",)), marks=pytest.mark.whole),
        (0, (("scale", "shift", "flatten", "block"),)),
        (1, (("block", "flatten", "shift", "scale"),)),
    ],
)
def test_fused_ways_are_the_whole_matrix(model, clean, turn, orders):
    """Each of all heads and of one alone in a class of every kind; of the others, each takes turns with one of them."""
    family, each = model.adapter.family, list(product(orders, (None, [1])))
    for names, heads in each if family in KINDS else [each[(turn + FAMILIES.index(family)) % len(each)]]:
        edits = [a_few(heads)[name] for name in names]
        fused = ma.run(model, inputs(model), interventions=edits)
        whole = ma.run(model, inputs(model), interventions=[EXPLICIT, *edits])
        scale = whole.logits.abs().max()
        assert not torch.allclose(real(fused, inputs(model)), real(clean, inputs(model)), atol=1e-3)
        assert (real(fused, inputs(model)) - real(whole, inputs(model))).abs().max() < 1e-4 * scale
        for name, ours, theirs in zip(names, fused.effects, whole.effects, strict=True):
            scaled = "scaled keys" if heads is None else "extra columns"
            way = {"scale": scaled, "flatten": scaled, "shift": "extra columns", "block": "mask"}[name]
            assert set(ours.ways) == {way}
            assert set(theirs.ways) == {"whole"}
            assert ours.layers == theirs.layers
            for measured in ("mass_before", "mass_after", "score_mean"):
                torch.testing.assert_close(getattr(ours, measured), getattr(theirs, measured), rtol=1e-3, atol=1e-4)


@pytest.mark.bits
def test_interventions_that_change_nothing_leave_every_bit(model, clean):
    nothing = [
        ma.ScaleAttention(1.0),
        ma.UpweightAttention(0.0, queries=None),
        ma.Steer(torch.ones(model.d_model), strength=0.0),
        EXPLICIT,
    ]
    same = ma.run(model, inputs(model), interventions=nothing)
    assert torch.equal(clean.logits, same.logits)
    assert [(effects.intervention, effects.layers) for effects in same.effects] == [(one, ()) for one in nothing[:2]]


@pytest.mark.parametrize("intervention", [ma.ScaleAttention(1.5), ma.ScaleAttention(1.5, queries=None)])
def test_masked_keys_stay_at_weight_zero(model, clean, intervention):
    edited = ma.run(model, inputs(model), record=["pattern"], interventions=[intervention]).cache
    chosen_anew = model.adapter.family == "dots3_note"  # which keys later layers may see depends on what they are given
    for name, layer in list(clean.cache)[: 1 if chosen_anew else None]:
        never = clean.cache[name, layer].isneginf()  # future, padding, and what a sliding window has left behind
        assert never.any()
        assert edited["pattern", layer][never].abs().max() == 0


@pytest.mark.parametrize("queries", ["last", None])
def test_a_row_that_sees_no_key_gives_zeros(model, queries):
    every = list(range(inputs(model)["input_ids"].shape[1]))
    out = ma.run(model, inputs(model), record=["z"], interventions=[ma.KnockOutAttention(queries=queries, keys=every)])
    for name, layer in out.cache:
        assert out.cache[name, layer][:, -1].abs().max() == 0
    assert real(out, inputs(model)).isfinite().all()


@pytest.mark.parametrize("queries", ["last", None])
def test_each_step_of_a_generation_is_a_row_of_one_pass(model, queries):
    given = model_inputs(model.adapter.family, seconds=(1.6, 1.6), words=(9, 9))
    record = [ma.HookPoint("resid_post", layers=[-1])]
    edit = ma.ScaleAttention(1.5, queries=queries)
    made = ma.generate(
        model, given, max_new_tokens=3, interventions=[edit], record=record, eos_token_id=None, min_new_tokens=3
    )
    longer = given | {
        "input_ids": torch.cat([given["input_ids"], made.tokens], dim=1),
        "attention_mask": torch.cat([given["attention_mask"], torch.ones_like(made.tokens)], dim=1),
    }
    width = given["input_ids"].shape[1]
    rows = None if queries is None else list(range(width - 1, width + 3))
    whole = ma.run(model, longer, record=record, interventions=[ma.ScaleAttention(1.5, queries=rows)]).cache[
        "resid_post", -1
    ]
    for step, cache in enumerate(made.steps):
        ours, theirs = cache["resid_post", -1][:, -1], whole[:, width - 1 + step]
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_in_bfloat16_the_ways_agree_to_its_rounding():
    model = AudioLM(network("qwen2_audio", dtype=torch.bfloat16), prove=False)
    given = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in model_inputs("qwen2_audio").items()
    }
    clean = ma.run(model, given).logits.float()
    for name, edit in a_few([1]).items():
        fused = ma.run(model, given, interventions=[edit]).logits.float()
        whole = ma.run(model, given, interventions=[EXPLICIT, edit]).logits.float()
        mask = given["attention_mask"].bool()
        far = (fused - clean)[mask].norm()
        assert (fused - whole)[mask].norm() < 0.3 * far, name


def test_layers_without_attention_are_left_out_or_refused_by_name():
    model = AudioLM(network("nemotron_h_omni"), prove=False)
    given = model_inputs("nemotron_h_omni")
    layers = tuple(layer for name, layer in ma.run(model, given, record=["z"]).cache)
    out = ma.run(model, given, interventions=[ma.ScaleAttention(1.5)])
    assert out.effects[0].layers == layers
    lacking = next(layer for layer in range(model.n_layers) if layer not in layers)
    with pytest.raises(NoSuchHookPoint, match="scores"):
        ma.run(model, given, interventions=[ma.ScaleAttention(1.5, layers=[lacking])])
