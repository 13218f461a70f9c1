"""Towers that add numbers to their scores, read as transformers' own eager attention has them."""

import copy

import pytest
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.models.parakeet.modeling_parakeet import eager_attention_forward
from transformers.models.phi4_multimodal.modeling_phi4_multimodal import simple_eager_attention_forward

from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.record import Edit
from mechaudio.tracing.run import run
from tests.families import model_inputs, network

EAGER = {"phi4_multimodal": simple_eager_attention_forward, "nemotron_h_omni": eager_attention_forward}


@pytest.fixture(params=EAGER)
def model(request):
    return AudioLM(network(request.param), prove=False)


def eager_patterns(model, inputs):
    """What the family's own eager attention returns in each layer of the tower."""
    plain, kept = copy.deepcopy(model.network), []
    eager = EAGER[model.adapter.family]

    def watching(module, *args, **kwargs):
        out, weights = eager(module, *args, **kwargs)
        kept.append(weights)
        return out, weights

    AttentionInterface.register("watching the tower", watching)
    layers = plain.get_submodule(model.adapter.encoder.layers)
    for layer in layers:
        layer.self_attn.config = copy.deepcopy(layer.self_attn.config)
        layer.self_attn.config._attn_implementation_internal = "watching the tower"
    with torch.no_grad():
        plain(**inputs, use_cache=False)
    return kept


def test_patterns_are_those_of_eager_attention_in_rows_of_padding_too(model):
    inputs = model_inputs(model.adapter.family, seconds=(1.6, 1.6))
    read = run(model, inputs, record=["audio.pattern"]).cache.stack("audio.pattern")
    torch.testing.assert_close(read, torch.stack(eager_patterns(model, inputs)), atol=1e-5, rtol=1e-5)
    sums = read.sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_an_edit_of_the_scores_acts_under_such_a_mask(model):
    inputs = model_inputs(model.adapter.family, seconds=(1.6, 1.6))
    clean = run(model, inputs).logits
    zeroed = Edit(HookPoint("audio.scores"), torch.zeros_like)
    out = run(model, inputs, record=["audio.pattern"], interventions=[zeroed])
    assert not torch.allclose(out.logits, clean, atol=1e-4)
    pattern = out.cache["audio.pattern", 0][0, 0, 0]
    seen = pattern[pattern > 0]
    torch.testing.assert_close(seen, torch.full_like(seen, 1 / len(seen)))


def test_the_smallest_number_forbids_and_a_row_of_it_sees_everything_alike():
    least = torch.finfo(torch.float32).min
    mask = torch.tensor([[[[0.5, least, -1.0], [least, least, least], [-torch.inf, -torch.inf, -torch.inf]]]])
    call = Call(torch.nn.Identity(), mask, None, 0.0, 1.0, False, {})
    rows = torch.tensor([[0, 1, 2]])
    assert call.allowed(rows, 3, 3)[0, 0].tolist() == [[True, False, True], [True] * 3, [False] * 3]
    assert call.bias(rows, 3)[0, 0, 0].tolist() == [0.5, least, -1.0]
    assert call.allowed(rows[:, 1:2], 3, 3)[0, 0].tolist() == [[True] * 3]
    forbidding = Call(torch.nn.Identity(), mask > 0, None, 0.0, 1.0, False, {})
    assert forbidding.bias(rows, 3) is None
    assert forbidding.allowed(rows, 3, 3)[0, 0, 0].tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_through_rows_that_see_all_keys_alike_as_they_do_forwards(dtype):
    torch.manual_seed(0)
    query, key, value, by = (torch.randn(1, 2, 16, 8, dtype=dtype) for _ in range(4))
    mask = torch.zeros(1, 1, 16, 16, dtype=dtype)
    mask[..., -1, :] = mask[..., -1] = torch.finfo(dtype).min
    call = Call(nn.Identity(), mask, None, 0.0, 8**-0.5, False, {})
    inputs = (key.requires_grad_(), value.requires_grad_())
    gradients = torch.autograd.grad((call.fused(query, key, value).transpose(1, 2) * by).sum(), inputs)
    weights = (query @ key.mT * call.scaling + mask).softmax(-1)
    expected = torch.autograd.grad((weights @ value * by).sum(), inputs)
    torch.testing.assert_close(gradients, expected, atol=64 * torch.finfo(dtype).eps, rtol=1e-2)
