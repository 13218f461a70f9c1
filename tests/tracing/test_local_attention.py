"""Towers that attend within sliding windows by themselves: a changed part does what a plain hook would have it do."""

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack

from mechaudio.tracing.audio_lm import AudioLM, trace
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import HookPointError
from tests.families import model_inputs, network

#: Frames before its own that a frame sees.
PAST = {"gemma4": 11, "gemma3n": 12}


@pytest.fixture(scope="module", params=PAST)
def model(request):
    return AudioLM(network(request.param), prove=False)


@pytest.fixture(scope="module")
def inputs(model):
    return model_inputs(model.adapter.family)


def core(model, layer=1):
    """The module that computes scores and weights."""
    stack = model.adapter.encoder
    attention = model.network.get_submodule(f"{stack.layers}.{layer}.{stack.attention}")
    return next(module for module in attention.modules() if hasattr(module, "_extract_block_context"))


def edited(model, inputs, point, change, layer=1):
    return run(model, inputs, interventions=[Edit(HookPoint(point, layers=[layer]), change)]).logits


def with_hook(model, inputs, module, register, hook):
    handle = getattr(module, register)(hook)
    try:
        with torch.no_grad():
            return model.network(**inputs, use_cache=False).logits
    finally:
        handle.remove()


def test_a_frame_sees_itself_and_the_frames_of_its_window_before_it(model, inputs):
    pattern = run(model, inputs, record=["audio.pattern"]).cache["audio.pattern", 1]
    for query in (0, 5, 12, 30, 40):
        seen = (pattern[0, :, query] > 0).any(0).nonzero()[:, 0].tolist()
        assert seen == list(range(max(0, query - PAST[model.adapter.family]), query + 1))
        torch.testing.assert_close(pattern[0, :, query].sum(-1), torch.ones(4))


@pytest.mark.parametrize(("point", "made_by"), [("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj")])
def test_changed_queries_keys_and_values_are_those_of_a_plain_hook(model, inputs, point, made_by):
    """Queries and keys are scaled by positive numbers in between."""
    plain = with_hook(
        model, inputs, core(model).get_submodule(made_by), "register_forward_hook", lambda _m, _a, made: made.abs()
    )
    ours = edited(model, inputs, f"audio.{point}", torch.abs)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(ours, run(model, inputs).logits, atol=1e-3)


@pytest.mark.parametrize("key", [38, 33, 3, 70])
def test_a_changed_pattern_makes_the_outputs_of_a_plain_hook_wherever_it_looks(model, inputs, key):
    """Frame 40 looks at a frame inside its window, at one of its block's past only, and at frames out of its reach."""
    values = run(model, inputs, record=["audio.v", "audio.pattern"]).cache
    pattern = values["audio.pattern", 1].clone()
    pattern[:, 2, 40] = 0
    pattern[:, 2, 40, key] = 1
    z = torch.einsum("chqk,ckhd->cqhd", pattern, values["audio.v", 1])
    stack = model.adapter.encoder
    projection = model.network.get_submodule(f"{stack.layers}.1.{stack.mixing}")

    def hook(_module, args):
        heads = args[0].clone()
        heads[:, 40] = z[:, 40].flatten(1)
        return (heads,)

    plain = with_hook(model, inputs, projection, "register_forward_pre_hook", hook)
    torch.testing.assert_close(edited(model, inputs, "audio.pattern", lambda _: pattern), plain, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(plain, run(model, inputs).logits, atol=1e-4)


def test_an_edit_in_place_is_live(model, inputs):
    with torch.no_grad(), trace(model, inputs):
        model.audio_blocks[1].attn.pattern[:, 1] = 0
        in_place = model.logits.save()

    def without_head(pattern):
        return torch.cat([pattern[:, :1], torch.zeros_like(pattern[:, :1]), pattern[:, 2:]], dim=1)

    assert torch.equal(in_place, edited(model, inputs, "audio.pattern", without_head))
    assert not torch.allclose(in_place, run(model, inputs).logits, atol=1e-4)


def test_scores_lead_to_the_pattern_and_masked_ones_stay_masked(model, inputs):
    past = PAST[model.adapter.family]
    cache = run(model, inputs, record=["audio.scores", "audio.pattern"]).cache
    scores, pattern = cache["audio.scores", 1], cache["audio.pattern", 1]
    assert scores[0, 0, 40, 41] == scores[0, 0, 40, 40 - past - 1] == -torch.inf
    torch.testing.assert_close(scores[0, :, 40].softmax(-1), pattern[0, :, 40])
    flat = torch.zeros_like(scores)
    after = []
    edits = [
        Edit(HookPoint("audio.scores", layers=[1]), lambda _: flat),
        Edit(HookPoint("audio.pattern", layers=[1]), lambda value: after.append(value) or value),
    ]
    run(model, inputs, interventions=edits)
    torch.testing.assert_close(after[0][0, :, 40], (pattern[0, :, 40] > 0) / (past + 1))


def test_gradients_arrive_at_everything_inside(model, inputs):
    with trace(model, inputs):
        attn = model.audio_blocks[0].attn
        q = attn.q
        k = attn.k
        v = attn.v
        scores = attn.scores
        pattern = attn.pattern
        z = attn.z
        with model.logits[:, -1].square().sum().backward():
            of_z = z.grad.save()
            of_pattern = pattern.grad.save()
            of_scores = scores.grad.save()
            of_v = v.grad.save()
            of_k = k.grad.save()
            of_q = q.grad.save()
    model.network.zero_grad()
    for gradient in (of_z, of_pattern, of_scores, of_v, of_k, of_q):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    assert of_pattern.shape == of_scores.shape


def test_a_softmax_of_the_user_is_none_of_the_towers(model, inputs):
    plain = run(model, inputs).logits
    with torch.no_grad(), trace(model, inputs):
        v = model.audio_blocks[1].attn.v.save()
        mine = torch.nn.functional.softmax(v[None], dim=-1).save()
        pattern = model.audio_blocks[1].attn.pattern.save()
        logits = model.logits.save()
    assert torch.equal(mine, v[None].softmax(-1))
    assert pattern.ndim == 4
    assert torch.equal(logits, plain)


def test_nothing_is_left_behind_even_after_an_error(model, inputs):
    def fail(_value):
        raise ArithmeticError("on purpose")

    for point in ("audio.q", "audio.v", "audio.scores", "audio.pattern", "audio.z", "resid_post"):
        with pytest.raises(ArithmeticError, match="on purpose"):
            edited(model, inputs, point, fail)
        assert not _get_current_function_mode_stack()
        for layer in range(2):
            module = core(model, layer)
            assert not module._forward_pre_hooks
            assert not module._forward_hooks
            assert not {"_convert_to_block", "_extract_block_context"} & set(vars(module))


def test_another_network_of_the_class_is_left_alone_inside_a_trace(model, inputs):
    other = network(model.adapter.family, seed=3)
    with torch.no_grad():
        expected = other(**inputs).logits
    found = []

    def run_the_other(value):
        with torch.no_grad():
            found.append(other(**inputs).logits)
        return value

    clean = run(model, inputs).logits
    assert torch.equal(edited(model, inputs, "audio.v", run_the_other), clean)
    assert torch.equal(found[0], expected)


def test_a_class_that_cuts_clips_in_another_way_is_refused(monkeypatch, model):
    monkeypatch.delattr(type(core(model)), "_convert_to_block")
    with pytest.raises(HookPointError, match=r"Attention to cut clips into blocks with _convert_to_block"):
        AudioLM(network(model.adapter.family), prove=False)
