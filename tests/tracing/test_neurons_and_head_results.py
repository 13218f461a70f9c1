"""Neurons and what single heads give to the residual stream: linear algebra says what reading and moving them does."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

import mechaudio as ma
from mechaudio.models.inputs import as_batch
from mechaudio.models.registry import adapter_for
from mechaudio.tracing.audio_lm import AudioLM, trace
from mechaudio.tracing.generation import generate
from mechaudio.tracing.gradients import graph
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import HookPointError, NoSuchHookPoint
from tests.families import FAMILIES, model_inputs, network, thinned

HEAD = 1
LAYER = 1


@pytest.fixture(scope="module")
def opened():
    return cache(lambda family: (AudioLM(network(family), prove=False), model_inputs(family)))


@pytest.fixture
def plain(opened):
    return opened("qwen2_audio")


def places(model, point):
    """The last layer of each stack that has a hook point: its prefix, its number and the stack as it is there."""
    for prefix, part in (("", "decoder"), ("audio.", "encoder")):
        having = [layer for layer, sites in enumerate(model.site_map.layers[part]) if point in sites]
        for layer in having[-1:]:
            yield prefix, layer, model.site_map.stacks[part][layer]


def at(point, change, layer=LAYER, **where):
    return Edit(HookPoint(point, layers=[layer], **where), change)


def louder(heads):
    moved = heads.clone()
    moved[:, :, HEAD] += 0.5
    return moved


def before_the_norm(model, inputs, stack, layer, norm, point, edits=()):
    """What attention or an MLP makes under edits, before any norm and number behind it."""
    if norm is None:
        added = run(model, inputs, record=[HookPoint(point, layers=[layer])], interventions=edits).cache[point, layer]
        return added / stack.times(point.removeprefix("audio."), model.network, layer)
    received = []
    module = model.network.get_submodule(f"{stack.path(layer)}.{norm}")
    hook = module.register_forward_pre_hook(lambda _module, args: received.append(args[0].clone()))
    run(model, inputs, interventions=edits)
    hook.remove()
    return received[0]


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_what_is_added_to_a_heads_result_is_added_to_what_attention_gives(opened, family):
    model, inputs = opened(family)
    for prefix, layer, stack in places(model, "result"):
        where = (model, inputs, stack, layer, stack.attention_norm, f"{prefix}attn_out")
        before, after = (before_the_norm(*where, edits) for edits in ([], [at(f"{prefix}result", louder, layer)]))
        torch.testing.assert_close(after - before, torch.full_like(before, 0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_a_neuron_that_is_moved_moves_what_the_mlp_gives_by_its_column_of_the_down_projection(opened, family):
    model, inputs = opened(family)
    for prefix, layer, stack in places(model, "mlp_post"):

        def more(neurons):
            moved = neurons.clone()
            moved[..., 3] += 2.0
            return moved

        column = model.network.get_submodule(f"{stack.path(layer)}.{stack.projecting_down}").weight[:, 3]
        where = (model, inputs, stack, layer, stack.mlp_norm, f"{prefix}mlp_out")
        before, after = (before_the_norm(*where, edits) for edits in ([], [at(f"{prefix}mlp_post", more, layer)]))
        torch.testing.assert_close(after - before, (2 * column).expand_as(before), atol=1e-4, rtol=0)


@pytest.mark.parametrize("positions", ["last", [-1, -3], [[-1, -4], [-2, -1]]])
def test_chosen_positions_are_those_of_the_whole_result_to_read_and_to_edit(plain, positions):
    model, inputs = plain
    whole, chosen = (
        run(model, inputs, record=[HookPoint("result", positions=where)]).cache["result", LAYER]
        for where in (None, positions)
    )
    each = [[-1]] * 2 if positions == "last" else positions if isinstance(positions[0], list) else [positions] * 2
    expected = torch.stack([row[own] for row, own in zip(whole, each, strict=True)])
    torch.testing.assert_close(chosen, expected, atol=1e-5, rtol=1e-4)

    def louder_there(heads):
        moved = heads.clone()
        for row, own in enumerate(each):
            moved[row, own, HEAD] += 0.5
        return moved

    logits = [
        run(model, inputs, interventions=[edit]).logits
        for edit in (at("result", louder, positions=positions), at("result", louder_there))
    ]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits[0], run(model, inputs).logits, atol=1e-4)


def test_of_chosen_positions_no_others_are_computed(plain, monkeypatch):
    model, inputs = plain
    multiplied, einsum = [], torch.einsum

    def watching(equation, received, *others):
        if equation == "bphd,mhd->bphm":
            multiplied.append(received.shape[1])
        return einsum(equation, received, *others)

    monkeypatch.setattr(torch, "einsum", watching)
    run(model, inputs, record=["z", "attn_out"])
    assert multiplied == []
    run(model, inputs, record=[HookPoint("result", positions="last")])
    assert multiplied == [1] * model.n_layers
    multiplied.clear()
    positions = [HookPoint("result", layers=[LAYER], positions=[-1]), at("result", louder, positions=[-3, -2])]
    run(model, inputs, record=positions[:1], interventions=positions[1:])
    assert multiplied == [3]


@pytest.mark.parametrize("positions", [None, "last", [-1, -3]])
def test_an_edit_that_changes_nothing_leaves_every_bit_in_any_layout_and_in_place(plain, positions):
    model, inputs = plain
    clean = run(model, inputs).logits

    def turned(heads):
        return heads.transpose(1, 3).contiguous().transpose(1, 3)

    def same(heads):
        return heads.mul_(1.0)

    for change in (turned, same, lambda heads: heads):
        edited = run(model, inputs, interventions=[at("result", change, positions=positions)])
        assert torch.equal(edited.logits, clean)


def test_edits_in_a_trace_block_act_in_place_and_by_assignment_alike(plain):
    model, inputs = plain
    expected = run(model, inputs, interventions=[at("result", louder)]).logits
    with torch.no_grad(), trace(model, inputs):
        model.blocks[LAYER].attn.result[:, :, HEAD] += 0.5
        in_place = model.logits.save()
    with torch.no_grad(), trace(model, inputs):
        model.blocks[LAYER].attn.result = louder(model.blocks[LAYER].attn.result)
        assigned = model.logits.save()
    assert torch.equal(in_place, expected)
    assert torch.equal(assigned, expected)


def test_the_order_of_a_trace_block_is_z_result_attn_out_mlp_post_mlp_out(plain):
    model, inputs = plain
    block = model.blocks[LAYER]
    with torch.no_grad(), trace(model, inputs):
        shapes = [tuple(value.shape) for value in (block.attn.z, block.attn.result, block.attn_out)] + [
            tuple(value.shape) for value in (block.mlp_post, block.mlp_out)
        ]
        shapes.save()
    n = inputs["input_ids"].shape[1]
    wide = model.network.config.text_config.intermediate_size
    assert shapes == [(2, n, 4, 16), (2, n, 4, 64), (2, n, 64), (2, n, wide), (2, n, 64)]


@pytest.mark.parametrize("positions", [None, "last"])
def test_a_gradient_at_every_heads_result_is_that_of_what_they_add_up_to(plain, positions):
    model, inputs = plain
    points = [HookPoint("result", layers=[LAYER]), HookPoint("attn_out", layers=[LAYER])]
    gradients = graph(model, as_batch(model, inputs), points, lambda logits: logits.square().sum((-1, -2))).gradients()
    of_result, of_sum = gradients["result", LAYER], gradients["attn_out", LAYER]
    assert of_sum.abs().max() > 0
    torch.testing.assert_close(of_result, of_sum[:, :, None].expand_as(of_result))


def test_reading_results_leaves_the_gradients_of_all_else_as_they_were(plain):
    model, inputs = plain
    projection = model.network.model.language_model.layers[LAYER].self_attn.o_proj
    gradients = []
    for reads in (False, True):
        with trace(model, inputs):
            z = model.blocks[LAYER].attn.z
            result = model.blocks[LAYER].attn.result if reads else None
            with model.logits[:, -1].square().sum().backward():
                of_result = result.grad.save() if reads else None
                of_z = z.grad.save()
        gradients.append((of_z, projection.weight.grad.clone()))
        model.network.zero_grad()
    for without, reading in zip(*gradients, strict=True):
        torch.testing.assert_close(reading, without, rtol=1e-4, atol=1e-6)
    assert of_result.shape[2:] == (4, 64)


def test_new_tokens_have_results_and_edits_act_on_them(plain):
    model, inputs = plain
    options = {"eos_token_id": None, "min_new_tokens": 3}
    record = ["mlp_post", HookPoint("result", layers=[LAYER], positions="last")]
    steps = generate(model, inputs, max_new_tokens=3, record=record, **options).steps
    assert [step["result", LAYER].shape[1] for step in steps] == [1, 1, 1]
    moved = generate(
        model,
        inputs,
        max_new_tokens=3,
        interventions=[at("result", lambda heads: heads * 0 + 1e3, positions="last")],
        record=record,
        **options,
    )
    assert all(bool((step["result", LAYER] == 1e3).all()) for step in moved.steps)


class LowRank(nn.Module):
    """A projection with a part of low rank beside it, as fine-tuning adds one."""

    def __init__(self, base):
        super().__init__()
        self.base, (wide, narrow) = base, base.weight.shape
        self.down, self.up = nn.Linear(narrow, 2, bias=False), nn.Linear(2, wide, bias=False)

    def forward(self, hidden):
        return self.base(hidden) + self.up(self.down(hidden))


class Halved(nn.Linear):
    """A linear layer that multiplies with other numbers than those of its weight, as quantised ones do."""

    def forward(self, hidden):
        return super().forward(hidden) / 2


@pytest.mark.parametrize("kind", ["of low rank", "quantised"])
@pytest.mark.parametrize("biased", [False, True])
def test_a_projection_that_is_no_plain_linear_layer_is_asked_head_by_head(kind, biased):
    torch.manual_seed(0)
    built, inputs = network("qwen2_audio"), model_inputs("qwen2_audio")
    attention = built.model.language_model.layers[LAYER].self_attn
    if kind == "quantised":
        attention.o_proj = Halved(64, 64, bias=biased)
    else:
        base = nn.Linear(64, 64, bias=biased)
        attention.o_proj = LowRank(base)
    model = AudioLM(built.eval())
    cached = run(model, inputs, record=["z", "result", "attn_out"]).cache
    with torch.no_grad():
        bias = attention.o_proj(torch.zeros(64))
        for head in range(4):
            alone = torch.zeros_like(cached["z", LAYER])
            alone[:, :, head] = cached["z", LAYER][:, :, head]
            expected = attention.o_proj(alone.flatten(2)) - bias
            torch.testing.assert_close(cached["result", LAYER][:, :, head], expected, atol=1e-6, rtol=1e-5)
    assert (bias.abs().max() > 0) == biased
    torch.testing.assert_close(cached["result", LAYER].sum(2) + bias, cached["attn_out", LAYER], atol=1e-5, rtol=1e-5)
    after = run(model, inputs, record=["attn_out"], interventions=[at("result", louder)]).cache["attn_out", LAYER]
    torch.testing.assert_close(after, cached["attn_out", LAYER] + 0.5, atol=1e-5, rtol=0)


def test_results_are_those_of_what_the_projection_receives_behind_a_gate(plain):
    model, inputs = plain
    clean = run(model, inputs, record=["result", "attn_out"]).cache
    with torch.no_grad(), trace(model, inputs):
        projection = model.model.language_model.layers[LAYER].self_attn.o_proj
        projection.input = projection.input * 0.25
        result = model.blocks[LAYER].attn.result.save()
        attn_out = model.blocks[LAYER].attn_out.save()
    torch.testing.assert_close(result, 0.25 * clean["result", LAYER])
    torch.testing.assert_close(attn_out, 0.25 * clean["attn_out", LAYER])


def test_a_width_that_heads_do_not_share_is_an_adapters_mistake(plain):
    model, _ = plain
    projection = next(iter(model.exchange.projections.values()))
    with pytest.raises(HookPointError, match="cannot be shared out among 4 heads: the adapter's `output`"):
        projection.n_heads = 4
        projection._results(model.exchange, torch.zeros(1, 1, 63))


def test_layers_with_experts_say_why_they_have_no_neurons_and_dense_layers_have_them():
    built = network("qwen3_omni_moe_thinker")
    with pytest.raises(NoSuchHookPoint, match=r"blocks.0.mlp_post does not exist in .* mixture of experts"):
        run(AudioLM(built, prove=False), model_inputs("qwen3_omni_moe_thinker"), record=["mlp_post"])
    dense = network("qwen3_omni_moe_thinker")
    text = dense.config.text_config
    layers = dense.get_submodule(adapter_for(dense).decoder.layers)
    layers[LAYER].mlp = type(network("qwen3_asr").model.language_model.layers[0].mlp)(text)
    model = AudioLM(dense.eval(), prove=False)
    kept = run(model, model_inputs("qwen3_omni_moe_thinker"), record=["mlp_post"]).cache
    assert [layer for _, layer in kept] == [LAYER]


def test_a_sweep_over_both_gives_what_runs_one_by_one_give_and_says_how(plain):
    model, inputs = plain
    last = model.n_layers - 1
    kept = run(model, model_inputs("qwen2_audio", seed=7), record=["mlp_post", "result"]).cache
    neurons = [
        ma.Patch("mlp_post", kept["mlp_post", layer], layer=layer, positions=positions)
        for layer in (0, last)
        for positions in ("last", [-3, -2], "audio")
    ]
    heads = [ma.Patch("result", kept["result", LAYER], layer=LAYER, heads=[head], positions="last") for head in (0, 3)]
    steer = ma.Steer(kept["mlp_post", last][0, -1], layers=[last], hook_point="mlp_post")
    variants = [*neurons, steer, *heads]
    found = ma.sweep(model, inputs, variants, progress=False)
    in_pieces = ma.sweep(model, inputs, variants, memory=1, progress=False)
    expected = torch.stack([run(model, inputs, interventions=[one], logits="last").logits[:, -1] for one in variants])
    torch.testing.assert_close(found.logits, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(in_pieces.logits, expected, atol=1e-5, rtol=1e-4)
    clean = run(model, inputs, logits="last").logits[:, -1]
    moved = (expected - clean).abs().amax((1, 2)) > 1e-5
    assert moved.tolist() == [True] * 4 + [False] * 2 + [True] * 3  # the last layer's earlier positions reach no one
    assert set(found.ways[:-2]) == {"shared prefix"}
    assert all(way.startswith("one by one: result is as wide") for way in found.ways[-2:])


def test_one_heads_result_patched_is_its_z_patched(plain):
    model, inputs = plain
    kept = run(model, model_inputs("qwen2_audio", seed=7), record=["z", "result"]).cache
    by_result, by_z = (
        run(model, inputs, interventions=[ma.Patch(point, kept[point, LAYER], layer=LAYER, heads=[HEAD])]).logits
        for point in ("result", "z")
    )
    torch.testing.assert_close(by_result, by_z, atol=1e-5, rtol=1e-5)


def test_a_direction_over_neurons_is_as_wide_as_they_are(plain):
    model, inputs = plain
    steer = ma.Steer(torch.ones(model.d_model), layers=[LAYER], hook_point="mlp_post")
    with pytest.raises(ValueError, match=r"the direction has 64 numbers, and blocks.1.mlp_post of this model has 96"):
        run(model, inputs, interventions=[steer])


@pytest.mark.parametrize("family", thinned(["qwen2_audio", "qwen2_5_omni_thinker", "granite_speech"], ["qwen2_audio"]))
def test_edits_in_the_tower_and_at_new_tokens_give_in_a_sweep_what_they_give_one_by_one(opened, family):
    model, _ = opened(family)
    inputs = model_inputs(family, seconds=(1.6, 1.6))

    def more(value):
        moved = value.clone()
        moved[..., 1] += 0.5
        return moved

    variants = [at(point, more, layer) for point in ("audio.result", "audio.mlp_post") for layer in (0, 1)]
    variants += [at("mlp_post", more, positions="last"), at("result", more, positions="last")]
    variants = [replace(edit, by_position=edit.point.part == "decoder") for edit in variants]
    found = ma.sweep(model, inputs, variants, progress=False)
    expected = torch.stack([run(model, inputs, interventions=[one], logits="last").logits[:, -1] for one in variants])
    torch.testing.assert_close(found.logits, expected, atol=1e-5, rtol=1e-4)
    clean = run(model, inputs, logits="last").logits[:, -1]
    assert ((expected - clean).abs().amax((1, 2)) > 1e-4).all()
    written = ma.generate_variants(model, inputs, variants, max_new_tokens=4, progress=False)
    for variant, tokens in zip(variants, written.tokens, strict=True):
        assert torch.equal(tokens, generate(model, inputs, max_new_tokens=4, interventions=[variant]).tokens)


def test_a_map_over_heads_of_results_is_the_one_over_heads_of_z():
    tiny = ma.load("tiny", prove=False)
    questions = ma.data.soundscapes.questions(2, seed=0)
    for patched in (ma.analyses.activation_patching, ma.analyses.attribution_patching):
        of_result, of_z = (
            patched(tiny, questions, over=("layer", "head"), hook_point=point, layers=[1]).mean()
            for point in ("result", "z")
        )
        assert abs(of_z).max() > 1e-3
        torch.testing.assert_close(torch.as_tensor(of_result), torch.as_tensor(of_z), atol=1e-4, rtol=1e-3)
