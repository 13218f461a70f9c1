"""Steering of the residual stream and of heads, by hand and by the identities that they must fulfil."""

from dataclasses import replace

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.audio_lm import AudioLM
from tests.families import model_inputs, network


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("qwen2_audio"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("qwen2_audio")


@pytest.fixture(scope="module")
def other():
    return model_inputs("qwen2_audio", seed=7)


def last(model):
    return model.n_layers - 1


def test_the_difference_of_two_runs_taken_away_gives_the_other_run(model, inputs, other):
    first, second = (ma.run(model, one, record=["resid_post"]) for one in (inputs, other))
    gap = first.cache["resid_post", -1][:, -1] - second.cache["resid_post", -1][:, -1]
    steer = ma.Steer(gap, strength=-1.0, layers=[-1], per="question")
    steered = ma.run(model, inputs, interventions=[steer]).logits
    assert (first.logits[:, -1] - second.logits[:, -1]).abs().max() > 0.1
    torch.testing.assert_close(steered[:, -1], second.logits[:, -1], rtol=1e-4, atol=1e-4)
    assert torch.equal(steered[:, :-1], first.logits[:, :-1])


@pytest.mark.parametrize("mode", ["add", "project_out"])
@pytest.mark.parametrize("keep_norm", [False, True])
@pytest.mark.parametrize("hook_point", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])
def test_the_vector_is_the_one_worked_out_by_hand(model, inputs, mode, keep_norm, hook_point):
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    steer = ma.Steer(direction, 0.7, mode, keep_norm, layers=[1], hook_point=hook_point)
    clean = ma.run(model, inputs, record=[hook_point]).cache[hook_point, 1]
    steered = ma.run(model, inputs, record=[hook_point], interventions=[steer]).cache[hook_point, 1]
    for row in range(2):
        h, d = clean[row, -1].double(), direction.double()
        hand = h + 0.7 * d if mode == "add" else h - 0.7 * (h @ d) / (d @ d) * d
        hand = hand * h.norm() / hand.norm() if keep_norm else hand
        torch.testing.assert_close(steered[row, -1].double(), hand, rtol=1e-4, atol=1e-5)
    assert torch.equal(steered[:, :-1], clean[:, :-1])


def test_projected_out_at_strength_one_nothing_is_left_of_the_direction(model, inputs):
    steer = ma.Steer(torch.ones(model.d_model), mode="project_out", layers=[1], positions=None)
    left = ma.run(model, inputs, record=["resid_post"], interventions=[steer]).cache["resid_post", 1]
    assert left.sum(-1).abs().max() < 1e-4


def test_one_direction_for_each_layer_is_one_steer_for_each(model, inputs):
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(2))
    together = ma.Steer(directions, layers=[0, 2], per="layer")
    apart = [ma.Steer(one, layers=[layer]) for one, layer in zip(directions, (0, 2), strict=True)]
    logits = [ma.run(model, inputs, interventions=given).logits for given in ([together], apart)]
    assert torch.equal(*logits)


@pytest.mark.parametrize("phase", ["all", "prefill"])
def test_new_tokens_are_steered_if_they_are_meant(model, inputs, phase):
    steer = ma.Steer(torch.zeros(model.d_model) + 1e4, layers=[-1], phase=phase)
    options = {"eos_token_id": None, "min_new_tokens": 3}
    steps = ma.generate(
        model,
        inputs,
        max_new_tokens=3,
        interventions=[steer],
        record=[ma.HookPoint("resid_post", layers=[-1])],
        **options,
    ).steps
    assert steps[0]["resid_post", -1][:, -1].mean() > 5e3
    assert (steps[1]["resid_post", -1].mean() > 5e3) == (phase == "all")


@pytest.mark.parametrize("positions", [[[-3, -1], [-1]], [[-3, -1], [-2]]])
@pytest.mark.parametrize("kind", ["steer", "heads", "patch"])
def test_prompts_may_have_unequally_many_positions_and_new_tokens_follow_the_last(model, inputs, kind, positions):
    if kind == "steer":
        intervention, point = ma.Steer(torch.ones(model.d_model), layers=[1], positions=positions), "resid_post"
    elif kind == "heads":
        intervention, point = ma.SteerHeads(torch.ones(1, 16), [(1, 2)], positions=positions), "z"
    else:
        other = ma.run(model, model_inputs("qwen2_audio", seed=7), record=["z"]).cache["z", 1]
        intervention, point = ma.Patch("z", other, layer=1, positions=positions, phase="all"), "z"
    clean, changed = (ma.run(model, inputs, record=[point], interventions=given) for given in ((), [intervention]))
    width = inputs["input_ids"].shape[1]
    for row, expected in enumerate(positions):
        differs = (changed.cache[point, 1] != clean.cache[point, 1])[row].flatten(1).any(1).nonzero().flatten()
        assert differs.tolist() == [width + position for position in expected]
        if kind == "patch":
            assert torch.equal(changed.cache["z", 1][row, expected], other[row, expected])
    swept = ma.sweep(model, inputs, [[intervention]], progress=False)
    assert swept.ways == ("shared prefix",)
    torch.testing.assert_close(swept.logits[0], changed.logits[:, -1], rtol=1e-4, atol=1e-4)

    record, options = [ma.HookPoint(point, layers=[1])], {"eos_token_id": None, "min_new_tokens": 2}
    every, prompt_only = (
        ma.generate(
            model,
            inputs,
            max_new_tokens=2,
            interventions=[replace(intervention, phase=phase)],
            record=record,
            **options,
        ).steps
        for phase in ("all", "prefill")
    )
    assert torch.equal(every[0][point, 1], prompt_only[0][point, 1])
    for row, expected in enumerate(positions):
        follows = not torch.equal(every[1][point, 1][row], prompt_only[1][point, 1][row])
        assert follows == (-1 in expected)
        if kind == "patch" and follows:
            assert torch.equal(every[1][point, 1][row, 0], other[row, -1])


def test_the_heads_shares_add_up_to_what_attention_adds(model, inputs):
    cache = ma.run(model, inputs, record=["z", "attn_out"]).cache
    stack = model.adapter.decoder
    projection = model.network.get_submodule(f"{stack.layers}.1.self_attn.o_proj")
    slices = projection.weight.split(cache["z", 1].shape[-1], dim=1)
    shares = sum(cache["z", 1][:, :, head] @ part.T for head, part in enumerate(slices))
    torch.testing.assert_close(shares.detach(), cache["attn_out", 1], rtol=1e-4, atol=1e-4)


def test_steering_all_heads_by_their_difference_doubles_one_run_less_the_other(model, inputs, other):
    record = ["z", "attn_out"]
    first, second = (ma.run(model, one, record=record).cache for one in (inputs, other))
    gap = (first["z", 1] - second["z", 1])[:, -1]
    heads = [(1, head) for head in range(model.n_heads)]
    steer = ma.SteerHeads(gap, heads, per_question=True)
    target = (2 * first["attn_out", 1] - second["attn_out", 1])[:, -1:]
    replaced = ma.Patch("attn_out", target, layer=1, positions="last")
    logits = [ma.run(model, inputs, interventions=[one]).logits for one in (steer, replaced)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    one_by_one = [ma.SteerHeads(gap[:, [head]], [(-2, head - 4)], per_question=True) for head in range(4)]
    torch.testing.assert_close(ma.run(model, inputs, interventions=one_by_one).logits, logits[0], rtol=1e-4, atol=1e-4)
    nothing = ma.SteerHeads(gap, heads, strength=0.0, per_question=True)
    assert torch.equal(ma.run(model, inputs, interventions=[nothing]).logits, ma.run(model, inputs).logits)


@pytest.mark.filterwarnings("ignore:this batch holds clips of different lengths")
def test_prompts_that_run_apart_keep_their_own_directions():
    model = AudioLM(network("phi4_multimodal"), prove=False)
    inputs = model_inputs("phi4_multimodal", seconds=(0.56, 2.4))
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(3))
    clean = ma.run(model, inputs, record=["resid_post"]).cache["resid_post", 1]
    steer = ma.Steer(directions, layers=[1], per="question")
    steered = ma.run(model, inputs, record=["resid_post"], interventions=[steer]).cache["resid_post", 1]
    torch.testing.assert_close((steered - clean)[:, -1], directions, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_is_refused(model, inputs):
    one, many = torch.ones(model.d_model), torch.ones(3, model.d_model)
    for make, error, says in (
        (lambda: ma.Steer([1.0]), TypeError, r"direction= is a tensor or array \[d_model\], got list"),
        (lambda: ma.Steer(many), ValueError, r"direction= must be \[d_model\], got shape \[3, "),
        (lambda: ma.Steer(many, per="layer", layers=[1]), ValueError, "3 directions and"),
        (lambda: ma.Steer(one, hook_point="final_norm", layers=[1]), ValueError, "exists once in the model"),
        (lambda: ma.SteerHeads(many, [(1, 0)]), ValueError, r"3 directions for 1 head\b"),
        (lambda: ma.SteerHeads(many[:2], [(1, 0), (1, 0)]), ValueError, "each once"),
    ):
        with pytest.raises(error, match=says):
            make()
    for intervention, error, says in (
        (ma.Steer(torch.ones(3)), ValueError, "the direction has 3 numbers"),
        (ma.Steer(many, per="question"), ValueError, "3 directions, one per question, and 2 prompts"),
        (ma.Steer(0 * one, mode="project_out"), ValueError, "a direction of zeros"),
        (ma.SteerHeads(torch.ones(1, 1), [(1, 0)]), ValueError, r"the directions have 1 number\b"),
        (ma.SteerHeads(torch.ones(1, 16), [(1, 4)]), IndexError, "no head 4"),
        (ma.SteerHeads(torch.ones(2, 16), [(1, 3), (1, -1)]), ValueError, "twice"),
    ):
        with pytest.raises(error, match=says):
            ma.run(model, inputs, interventions=[intervention])
