"""What is peculiar to the Gemma classes: sliding windows, shared keys and values, scaled layers, a tower of its own."""

import pytest
import torch

from mechaudio.tracing.audio_lm import AudioLM, trace
from mechaudio.tracing.generation import generate
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run
from tests.families import model_inputs, network
from tests.families.gemma4 import LAST_ALONE

FULL, SLIDING, SHARED, WINDOW = 0, 1, 2, 48


@pytest.fixture(scope="module")
def model():
    return AudioLM(network("gemma4"), prove=False)


@pytest.fixture(scope="module")
def inputs():
    return model_inputs("gemma4")


def test_the_tower_keeps_its_own_attention_while_a_trace_runs(model, inputs):
    seen = {}
    tower = model.network.model.audio_tower

    def look(*_):
        seen["tower"] = tower.config._attn_implementation
        seen["decoder"] = model.network.config.text_config._attn_implementation

    handle = tower.register_forward_hook(look)
    with torch.no_grad(), trace(model, inputs):
        model.logits.save()
    handle.remove()
    assert seen == {"tower": "eager", "decoder": "mechaudio"}
    assert model.network.config.text_config._attn_implementation == "sdpa"


def test_heads_are_wider_where_attention_is_full(model, inputs):
    cache = run(model, inputs, record=["q", "k"]).cache
    assert [cache["q", layer].shape[2:] for layer in range(3)] == [(4, 32), (4, 16), (4, 32)]
    assert [cache["k", layer].shape[2:] for layer in range(3)] == [(2, 32), (2, 16), (2, 32)]


def test_a_layer_that_shares_keys_has_those_of_an_earlier_one(model, inputs):
    cache = run(model, inputs, record=["k", "v"]).cache
    assert torch.equal(cache["k", SHARED], cache["k", FULL])
    assert torch.equal(cache["v", SHARED], cache["v", FULL])


def test_a_sliding_window_sees_the_last_keys_only(model, inputs):
    pattern = run(model, inputs, record=["pattern"]).cache
    last = pattern["pattern", SLIDING][:, :, -1]
    assert (last[..., -WINDOW:] > 0).any()
    assert last[..., :-WINDOW].abs().max() == 0
    assert pattern["pattern", FULL][0, :, -1, :-WINDOW].max() > 0


def test_a_layer_ends_scaled(model, inputs):
    """Unscaled, resid_post is what attention and MLP left plus the layer's own input, whose norm is known."""
    layer = model.network.model.language_model.layers[SLIDING]
    cache = run(model, inputs, record=["resid_mid", "mlp_out", "resid_post"]).cache
    summed = cache["resid_mid", SLIDING] + cache["mlp_out", SLIDING]
    added = cache["resid_post", SLIDING] / layer.layer_scalar - summed
    real = inputs["attention_mask"].bool()
    norms = (added / layer.post_per_layer_input_norm.weight).square().mean(-1)[real]
    assert layer.layer_scalar == pytest.approx(0.8)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-2, rtol=1e-2)


def test_logits_are_within_their_softcap(model, inputs):
    assert run(model, inputs).logits.abs().max() < 30


def test_while_generating_a_window_forgets_and_shared_layers_read_one_position(model, inputs):
    n = inputs["input_ids"].shape[1]
    groups = HookPoint("mass", keys=("audio", "text"))
    made = generate(model, inputs, max_new_tokens=4, record=["resid_post", "pattern", groups])
    assert [made.steps[0]["resid_post", layer].shape[1] for layer in range(3)] == [n, n, 1 if LAST_ALONE else n]
    for new, step in enumerate(made.steps[1:], start=1):
        assert step["pattern", SLIDING].shape[-1] == WINDOW
        assert step["pattern", FULL].shape[-1] == n + new
        for layer, pattern in ((FULL, step["pattern", FULL]), (SLIDING, step["pattern", SLIDING])):
            for group, span in enumerate(("audio", "text")):
                there = torch.nn.functional.pad(made.batch.span_mask(span).float(), (0, new))[:, -pattern.shape[-1] :]
                expected = torch.einsum("bhqk,bk->bhq", pattern, there)
                torch.testing.assert_close(step["mass", layer][..., group], expected, atol=1e-5, rtol=1e-5)
