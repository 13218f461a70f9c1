"""Variants that change something before the decoder share the rest, and give what they give one by one."""

from functools import cache

import pytest
import torch
from torch.nn import functional

import mechaudio as ma
from mechaudio.interventions.sweep_result import SHARED
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.variants.shared_pass import clean_run
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned
from tests.interventions.kinds import ALONE
from tests.interventions.test_sweep import one_by_one


@pytest.fixture(scope="module")
def opened():
    return cache(lambda family: (AudioLM(network(family), prove=False), model_inputs(family)))


def edited(name, layer=None, change=lambda value: 0.5 * value.flip(-1), **where):
    by_position = "positions" in where
    return ma.Edit(
        ma.HookPoint(name, layers=None if layer is None else [layer], **where), change, by_position=by_position
    )


def one_head(value):
    changed = value.clone()
    changed[:, 1] *= 0.5
    return changed


def turn_of(model):
    """Where a class begins to take turns: what is left out of one is tried in its neighbours."""
    return FAMILIES.index(model.adapter.family)


def variants_of(model):
    """Every hook point of the tower, those between it and the layers, and each together with edits in the decoder.

    A class has each point of the tower in one of its layers, the next class in the other.
    """
    n, last = len(model.audio_blocks), model.n_layers - 1
    tower = [
        [edited(f"audio.{point}", layer)]
        for layer, sites in enumerate(model.site_map.layers["encoder"])
        for number, point in enumerate(sites)
        if point != "scores"  # turned round, a frame may see nothing any more
        if (layer + number + turn_of(model)) % 2 == 0
    ]
    once = [[edited(name)] for name in ("audio.final_norm", "projector_out") if name in model.site_map.once]
    attending = [layer for layer, sites in enumerate(model.site_map.layers["decoder"]) if "pattern" in sites]
    heads = [
        [edited(f"audio.{point}", n - 1, one_head)]
        for point in ("pattern", "scores")
        if point in model.site_map.layers["encoder"][-1]
    ]
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    return [
        *tower,
        *once,
        *heads,
        [edited("embed", positions="audio")],
        [edited("embed", positions=[-2])],
        [edited("audio.resid_post", n - 1), ma.ScaleAttention(2.0, layers=attending)],
        [ma.Steer(direction, layers=[last]), edited("audio.resid_pre", 0), edited("projector_out")],
        [edited("projector_out"), ma.KnockOutAttention(layers=attending[:1], queries=[-4])],
        [edited("audio.resid_post", 0, torch.clone), ma.Steer(direction, layers=[0], positions="audio")],
        [edited("embed", positions=[-3]), edited("resid_pre", 0, positions=[-3, -1])],
        [edited("audio.resid_post", 0, torch.clone)],
        [ma.ScaleAttention(2.0, layers=attending[-1:])],
    ]


@pytest.mark.parametrize("family", thinned(FAMILIES, left=("qwen2_audio", "phi4_multimodal", "nemotron_h_omni")))
def test_edits_before_the_decoder_give_what_they_give_one_by_one(opened, family):
    model, inputs = opened(family)
    variants, half = variants_of(model), slice(turn_of(model) // 2 % 2, -2, 2)
    if family not in KINDS:  # a class of every kind has them all; of the others, each leaves every other one out
        variants = [*variants[half], *variants[-2:]]
    expected = one_by_one(model, inputs, variants)
    moved = check(model, inputs, variants, None, expected, shared=family not in ALONE)
    assert moved[-2] < 1e-5 * expected.abs().amax()
    if family in KINDS:  # a prompt at a time; the tower is given all of them
        check(model, inputs, variants[half], 1, expected[half])


@pytest.mark.whole
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ALONE])
def test_a_single_prompt_and_a_variant_at_a_time_give_it_too(opened, family):
    model, _ = opened(family)
    inputs, variants = model_inputs(family, seconds=(3.2,), words=(9,)), variants_of(model)[turn_of(model) % 3 :: 3]
    check(model, inputs, variants, 1, one_by_one(model, inputs, variants), shared=True)


def check(model, inputs, variants, memory, expected, *, shared=False):
    found = ma.sweep(model, inputs, variants, memory=memory, progress=False)
    scale = expected.abs().amax()
    assert (found.logits - expected).abs().amax() < 1e-5 * scale
    moved = (expected - found.clean).abs().amax((1, 2))
    assert (moved > 1e-4 * scale).sum() >= len(variants) - 2
    if shared:
        assert set(found.ways) == {SHARED}
    return moved


@pytest.mark.parametrize("behind", [[], [ma.Edit(ma.HookPoint("resid_post", layers=[1]), torch.neg)]])
def test_where_nothing_is_left_of_the_clean_run_a_variant_runs_alone_and_says_so(opened, behind):
    model, inputs = opened("qwen2_audio")
    variants = [[edited("audio.resid_post", 0)], [edited("embed" if not behind else "projector_out"), *behind]]
    found = ma.sweep(model, inputs, variants, progress=False)
    assert found.ways[0] == SHARED
    assert found.ways[1].startswith("one by one: it changes the first position, and begins before the layers")
    expected = one_by_one(model, inputs, variants)
    assert (found.logits - expected).abs().amax() < 1e-5 * expected.abs().amax()


def test_clips_of_one_length_are_patched_from_one_another(opened):
    for family in ("qwen2_audio", "phi4_multimodal", "vibevoice_asr"):
        model, _ = opened(family)
        clean, other = (model_inputs(family, seconds=(1.6, 1.6), seed=seed) for seed in (0, 10))
        other = {**other, "input_ids": clean["input_ids"]}
        points = [
            *(
                (f"audio.{point}", layer)
                for layer in range(len(model.audio_blocks))
                for point in ("resid_pre", "resid_post")
            ),
            ("projector_out", None),
        ]
        names = list(dict.fromkeys(name for name, _ in points))
        for source, same in ((clean, True), (other, False)):
            cache = ma.run(model, source, record=names, logits=None).cache
            variants = [[ma.Patch(name, cache[name, layer], layer)] for name, layer in points]
            found = ma.sweep(model, clean, variants, progress=False)
            assert set(found.ways) == {SHARED}
            expected = one_by_one(model, clean, variants)
            scale = expected.abs().amax()
            assert (found.logits - expected).abs().amax() < 1e-5 * scale
            assert ((found.logits - found.clean).abs().amax((1, 2)) < 1e-6 * scale).all() == same


def test_attention_is_measured_behind_a_changed_tower(opened):
    model, inputs = opened("qwen2_audio")
    one = [edited("audio.resid_post", 0), ma.ScaleAttention(2.0, layers=[1, 2])]
    found = ma.sweep(model, inputs, [one, one[1:]], progress=False)
    (effects,) = ma.run(model, inputs, interventions=one, logits="last").effects
    for ours, theirs in ((found.mass_before, effects.mass_before), (found.mass_after, effects.mass_after)):
        torch.testing.assert_close(ours[0], theirs.mean((0, 2)), atol=1e-5, rtol=1e-4)
    assert (found.mass_before[0] - found.mass_before[1]).abs().max() > 1e-3


def test_variants_of_the_tower_are_refused_in_prompts_without_sound(toy):
    batch = ma.prompt(toy, ma.data.toy_questions.questions(2, seed=0), condition="caption")
    for variant in ([edited("audio.resid_post", 0)], [edited("projector_out")]):
        with pytest.raises(ValueError, match=r"hold no sound \(condition='caption'\), so that .* is never computed"):
            ma.sweep(toy, batch, [variant], progress=False)


def test_prompts_that_run_apart_are_swept_in_groups(opened):
    model, _ = opened("phi4_multimodal")
    inputs = model_inputs("phi4_multimodal", seconds=(0.56, 2.4, 0.56), words=(9, 5, 7))
    variants = [[edited("audio.resid_post", layer)] for layer in range(2)]
    with pytest.warns(UserWarning, match="2 groups of rows"):
        found = ma.sweep(model, inputs, variants, progress=False)
    with pytest.warns(UserWarning, match="2 groups of rows"):
        expected = one_by_one(model, inputs, variants)
    assert set(found.ways) == {SHARED}
    assert (found.logits - expected).abs().max() < 1e-5 * expected.abs().max()


def test_behind_a_clean_run_only_the_last_position_may_change(toy):
    batch = ma.prompt(toy, ma.data.toy_questions.questions(2, seed=0))
    variants = [[edited("audio.resid_post", 0)], [edited("embed", positions="last")]]
    found = ma.sweep(toy, clean_run(toy, batch), variants, progress=False)
    assert ["clean run keeps that one only" in way for way in found.ways] == [True, False]
    expected = ma.sweep(toy, batch, variants, progress=False)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-5)
    assert set(expected.ways) == {SHARED}


@pytest.mark.parametrize(
    ("over", "hook_point"),
    [
        ("second", "audio.resid_post"),
        ("second", "audio.pattern"),
        ("head", "audio.z"),
        ("head", "audio.scores"),
    ],
)
def test_maps_of_the_tower_are_those_of_single_runs(toy, over, hook_point):
    questions = ma.data.toy_questions.questions(3, seed=0)
    settings = {"over": ("layer", over), "hook_point": hook_point}
    found = ma.analyses.activation_patching(toy, questions, **settings)
    expected = ma.analyses.activation_patching(toy, questions, one_by_one=True, **settings)
    assert found.ways == (SHARED,)
    torch.testing.assert_close(torch.tensor(found.logits), torch.tensor(expected.logits), atol=1e-4, rtol=1e-5)


def test_the_last_layers_mlp_is_computed_for_last_rows_unless_others_are_asked_for(toy, monkeypatch):
    batch = ma.prompt(toy, ma.data.toy_questions.questions(2, seed=0))
    inside = toy.network.get_submodule(toy.adapter.decoder.path(toy.n_layers - 1)).mlp.gate_proj
    rows, linear = [], functional.linear

    def counted(hidden, weight, bias=None):
        rows.extend([hidden.shape[1]] if weight is inside.weight else [])
        return linear(hidden, weight, bias)

    monkeypatch.setattr(functional, "linear", counted)
    tower = [[edited("audio.resid_post", layer)] for layer in range(2)]
    mixing = edited("resid_post", toy.n_layers - 1, lambda resid: resid.flip(1), positions=[-2, -1])
    ma.sweep(toy, batch, tower, progress=False)
    ma.sweep(toy, batch, [[*one, mixing] for one in tower], progress=False)
    changed = batch.n_positions - min(positions[0] for positions in batch.spans["audio"])
    assert rows == [changed, 2, changed, 2 * changed]


def test_embeddings_may_be_edited_a_prompt_at_a_time(opened):
    model, inputs = opened("qwen2_audio")
    variants = [[edited("embed", positions="audio")], [edited("embed", positions=[-2]), edited("projector_out")]]
    found = ma.sweep(model, inputs, variants, memory=1, progress=False)
    assert ["all prompts at once" in way for way in found.ways] == [False, True]
    expected = one_by_one(model, inputs, variants)
    assert (found.logits - expected).abs().amax() < 1e-5 * expected.abs().amax()


def test_a_hook_of_somebody_elses_in_the_tower_acts_as_in_single_runs(opened):
    model, inputs = opened("qwen2_audio")
    variants = [[edited(f"audio.{point}", 1)] for point in ("resid_pre", "resid_post")] + [[edited("projector_out")]]
    before = one_by_one(model, inputs, variants)
    layer = model.network.get_submodule(model.adapter.encoder.path(0))
    handle = layer.register_forward_hook(lambda _layer, _args, out: 1.5 * out)
    try:
        found = ma.sweep(model, inputs, variants, progress=False)
        expected = one_by_one(model, inputs, variants)
    finally:
        handle.remove()
    assert set(found.ways) == {SHARED}
    assert (before - expected).abs().max() > 0.1
    assert (found.logits - expected).abs().amax() < 1e-5 * expected.abs().amax()
