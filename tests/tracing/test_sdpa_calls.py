"""Towers that call fused attention themselves, on blocks of frames: Granite Speech's."""

import math

import pytest
import torch
from torch.nn import functional
from transformers.models.granite_speech import modeling_granite_speech as modeling

from mechaudio.tracing.audio_lm import AudioLM, HookPointError, trace
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from tests.families import model_inputs, network

BLOCK, FRAMES = 64, 160


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("granite_speech"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("granite_speech", seconds=(3.2, 3.2))


def attention(model, layer=1):
    return model.network.model.encoder.layers[layer].attn


def logits_with(module, register, hook, model, inputs):
    """The logits of plain transformers with one torch hook."""
    handle = getattr(module, register)(hook)
    try:
        with torch.no_grad():
            return model.network(**inputs).logits
    finally:
        handle.remove()


def edited(model, inputs, point, change, layer=1):
    return run(model, inputs, interventions=[Edit(HookPoint(point, layers=[layer]), change)]).logits


def test_a_pattern_is_whole_and_has_its_blocks_on_the_diagonal(model, inputs):
    pattern = run(model, inputs, record=["audio.pattern"]).cache["audio.pattern", 1]
    assert pattern.shape == (2, 4, FRAMES, FRAMES)
    for query in (0, 63, 64, 127, 128, 159):
        first = query // BLOCK * BLOCK
        last = min(first + BLOCK, FRAMES)
        assert torch.all(pattern[:, :, query, first:last] > 0)
        torch.testing.assert_close(pattern[:, :, query, first:last].sum(-1), torch.ones(2, 4))
        assert pattern[:, :, query].count_nonzero() == 2 * 4 * (last - first)


def test_scores_are_products_and_the_bias_of_the_distance(model, inputs):
    cache = run(model, inputs, record=["audio.q", "audio.k", "audio.scores"]).cache
    q, k, scores = (cache[f"audio.{point}", 0] for point in ("q", "k", "scores"))
    embeddings = attention(model, 0).rel_pos_emb.weight
    for query, key in ((5, 9), (63, 0), (130, 159)):
        for clip, head in ((0, 1), (1, 3)):
            near = embeddings[query - key + 80]
            expected = (q[clip, query, head] @ (k[clip, key, head] + near)) / math.sqrt(q.shape[-1])
            torch.testing.assert_close(scores[clip, head, query, key], expected, atol=1e-5, rtol=1e-4)
    assert scores[0, 0, 63, 64] == -torch.inf


@pytest.mark.parametrize(("point", "made_by", "part"), [("q", "to_q", 0), ("k", "to_kv", 0), ("v", "to_kv", 1)])
def test_changed_queries_keys_and_values_are_those_of_a_plain_hook(model, inputs, point, made_by, part):
    """Queries make the position bias too, so that both have to move."""

    def hook(_module, _args, made):
        width = made.shape[-1] if made_by == "to_q" else made.shape[-1] // 2
        changed = made.clone()
        changed[:, :FRAMES, part * width :][..., :width] *= 1.7
        return changed

    module = attention(model).get_submodule(made_by)
    plain = logits_with(module, "register_forward_hook", hook, model, inputs)
    ours = edited(model, inputs, f"audio.{point}", lambda value: 1.7 * value)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(ours, run(model, inputs).logits, atol=1e-3)


def test_a_changed_pattern_makes_the_outputs_of_a_plain_hook(model, inputs):
    values = run(model, inputs, record=["audio.v", "audio.z", "audio.pattern"]).cache
    pattern = values["audio.pattern", 1].clone()
    pattern[:, 2, 70] = pattern[:, 2, 70].flip(-1)  # falls into block 1 and outside of it
    pattern[:, 0, 100] = 0
    allowed = torch.arange(FRAMES) // BLOCK
    pattern[:, 2, 70, allowed != 1] = 0
    z = torch.einsum("chqk,ckhd->cqhd", pattern, values["audio.v", 1])

    def hook(_module, args):
        return (z.flatten(2), *args[1:])

    plain = logits_with(attention(model).to_out, "register_forward_pre_hook", hook, model, inputs)
    torch.testing.assert_close(edited(model, inputs, "audio.pattern", lambda _: pattern), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(edited(model, inputs, "audio.z", lambda _: z), plain, atol=1e-4, rtol=1e-4)


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
    for gradient in (of_z, of_pattern, of_scores, of_v, of_k, of_q):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    model.network.zero_grad()
    made = []
    handle = attention(model, 0).to_q.register_forward_hook(
        lambda _module, _args, output: (output.retain_grad(), made.append(output))[0]
    )
    model.network(**inputs).logits[:, -1].square().sum().backward()
    handle.remove()
    model.network.zero_grad()
    torch.testing.assert_close(of_q.flatten(2), made[0].grad[:, :FRAMES], atol=1e-4, rtol=1e-3)


def test_what_a_block_read_stays_when_the_tower_writes_into_it(model, inputs):
    """Behind its middle layer the tower adds to the layer's output in place."""
    kept = run(model, inputs, record=["audio.resid_post", "audio.resid_pre"]).cache
    assert not torch.equal(kept["audio.resid_post", 0], kept["audio.resid_pre", 1])
    with torch.no_grad(), trace(model, inputs):
        after = model.audio_blocks[0].resid_post.save()
    assert torch.equal(after, kept["audio.resid_post", 0])


def test_the_decoder_scales_what_is_added_to_its_stream(model, inputs):
    cache = run(model, inputs, record=["embed", "resid_pre", "attn_out", "resid_mid"]).cache
    config = model.network.config.text_config
    assert torch.equal(cache["resid_pre", 0], cache["embed"] * config.embedding_multiplier)
    given = []
    handle = model.network.model.language_model.layers[0].self_attn.o_proj.register_forward_hook(
        lambda _module, _args, output: given.append(output)
    )
    with torch.no_grad():
        model.network(**inputs)
    handle.remove()
    assert torch.equal(cache["attn_out", 0], config.residual_multiplier * given[0])
    assert torch.equal(cache["resid_mid", 0], cache["resid_pre", 0] + cache["attn_out", 0])


def test_nothing_is_left_behind_even_after_an_error(model, inputs):
    def fail(_value):
        raise ArithmeticError("on purpose")

    assert modeling.F is functional
    run(model, inputs, record=["audio.pattern"])
    for point in ("audio.q", "audio.scores", "audio.z", "resid_post"):
        with pytest.raises(ArithmeticError, match="on purpose"):
            edited(model, inputs, point, fail)
        assert modeling.F is functional
        for layer in range(2):
            assert not attention(model, layer)._forward_pre_hooks
            assert not attention(model, layer).to_q._forward_hooks


def test_another_network_of_the_class_is_left_alone_inside_a_trace(model, inputs):
    other = network("granite_speech", seed=3)
    with torch.no_grad():
        expected = other(**inputs).logits
    found = []

    def run_the_other(value):
        with torch.no_grad():
            found.append(other(**inputs).logits)
        return value

    clean = run(model, inputs).logits
    assert torch.equal(edited(model, inputs, "audio.q", run_the_other), clean)
    assert torch.equal(found[0], expected)


def test_a_class_that_no_longer_calls_fused_attention_is_refused(monkeypatch):
    net = network("granite_speech")
    monkeypatch.setattr(
        type(attention(AudioLM(net, prove=False))), "forward", lambda self, hidden_states: hidden_states
    )
    with pytest.raises(HookPointError, match=r"expects GraniteSpeechConformerAttention\.forward to call F\.scaled_dot"):
        AudioLM(net, prove=False)
