"""The verbs of the exchange: what is asked is done, beside what others asked, until it is taken back."""

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.fused_or_rows import Spot, serve_weights
from mechaudio.tracing.requests import Requests
from tests.families import model_inputs, network


@pytest.fixture(scope="module")
def model():
    return ma.AudioLM(network("qwen2_audio"), prove=False)


def logits(model, ask=lambda exchange: None):
    """Logits of a run of which something is asked."""
    inputs = model_inputs("qwen2_audio")
    with torch.no_grad(), model.exchange.prepared(None):
        ask(model.exchange)
        return model.interleave("__call__", **inputs, use_cache=False).logits


def doubled(out):
    return (2 * out[0], *out[1:]) if isinstance(out, tuple) else 2 * out


def test_a_change_acts_until_its_handle_is_removed(model):
    mlp = f"{model.adapter.decoder.path(1)}.{model.adapter.decoder.mlp}"

    def asked_and_taken_back(exchange):
        handle = exchange.on_output(mlp, doubled)
        handle.remove()
        handle.remove()

    clean = logits(model)
    assert torch.equal(logits(model, asked_and_taken_back), clean)
    assert not torch.equal(logits(model, lambda exchange: exchange.on_output(mlp, doubled)), clean)
    assert torch.equal(logits(model), clean)


def test_several_changes_of_one_module_act_in_their_order_and_none_drops_another(model):
    layer = model.adapter.decoder.path(0)
    seen = []

    def ask(exchange):
        exchange.on_output(layer, lambda out: torch.zeros_like(out))
        exchange.on_output(layer, lambda out: out + 3)
        exchange.watch(f"model.{layer}.output", lambda out: seen.append(out.clone()))
        exchange.watch(f"model.{layer}.output", lambda out: seen.append(out.clone()))

    logits(model, ask)
    assert len(seen) == 2
    assert all(torch.equal(out, torch.full_like(out, 3.0)) for out in seen)


def test_a_module_that_something_is_given_instead_of_is_not_called(model):
    layer = model.adapter.decoder.path(0)
    given, called = [], []
    clean = logits(
        model, lambda exchange: exchange.watch(f"model.{layer}.output", lambda out: given.append(out.clone()))
    )
    norm = model.network.get_submodule(layer).input_layernorm
    inside = norm.register_forward_hook(lambda *_: called.append("called"))
    try:
        instead = logits(model, lambda exchange: exchange.instead_of(layer, lambda _computed: given[0]))
    finally:
        inside.remove()
    assert torch.equal(instead, clean)
    assert called == []


def test_attention_is_computed_by_whoever_replaces_it_and_watched_by_others(model):
    location = model.site_map.layers["decoder"][1]["z"].location.rpartition(".")[0]
    shapes = []

    def usual(call, query, key, value):
        return serve_weights(Spot(model.exchange, location), call, query, key, value)

    clean = logits(model)
    assert torch.equal(logits(model, lambda exchange: exchange.replace_attention(location, usual)), clean)
    halved = logits(model, lambda exchange: exchange.replace_attention(location, lambda *parts: usual(*parts) / 2))
    assert not torch.equal(halved, clean)
    logits(model, lambda exchange: exchange.watch_attention(location, lambda _, *parts: shapes.append(parts[0].shape)))
    assert [shape[1] for shape in shapes] == [model.n_heads]


def test_while_only_some_requests_are_carried_out_others_wait(model):
    layer = model.adapter.decoder.path(0)
    with model.exchange.prepared(None):
        model.exchange.on_output(layer, doubled)
        assert model.exchange.wanted(f"model.{layer}.output")
        with model.exchange.only(Requests()) as own:
            assert not model.exchange.wanted(f"model.{layer}.output")
            model.exchange.on_input(layer, lambda served: served)
        assert own.wants(f"model.{layer}.input")
        assert not model.exchange.wanted(f"model.{layer}.input")
        assert model.exchange.wanted(f"model.{layer}.output")
    assert model.exchange.idle


def seen_keys(model, call):
    """The view of all rows of a call with 2 heads, 3 queries and 3 keys."""
    made = torch.zeros(1, 2, 3, 4)
    return Spot(model.exchange, "tower").view(None, call, made, made)


def call_of(mask=None, *, causal=False):
    return Call(torch.nn.Identity(), mask, None, 0.0, 1.0, causal, {})


def test_what_rows_may_see_is_worked_out_anew_for_another_direction_mask_or_step_and_kept_once(model):
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    with model.exchange.prepared(None):
        assert seen_keys(model, call_of(causal=True)).hidden.sum() == 3
        assert seen_keys(model, call_of()).hidden.sum() == 0
        first = seen_keys(model, call_of(mask))
        assert seen_keys(model, call_of(mask)) is first
        mask[..., 0] = False  # in place, as a hook may change it between two layers
        assert seen_keys(model, call_of(mask)).hidden.sum() == 3
        for step in range(4):
            model.exchange.step = step
            seen_keys(model, call_of(mask))
        assert len(model.exchange.views) == 1
    with torch.inference_mode(), model.exchange.prepared(None):  # where changes in place are not counted
        mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
        assert seen_keys(model, call_of(mask)).hidden.sum() == 0
        mask[..., 0] = False
        assert seen_keys(model, call_of(mask)).hidden.sum() == 3


def test_a_row_that_a_mask_of_numbers_takes_below_the_smallest_half_sees_nothing(model):
    mask = torch.zeros(1, 1, 2, 3, dtype=torch.float16)
    mask[:, :, 1] = torch.finfo(torch.float16).min
    query = torch.full((1, 1, 2, 4), 8.0, dtype=torch.float16)
    key, read = -query[:, :, :1].expand(1, 1, 3, 4), []
    with model.exchange.prepared(None):
        model.exchange.watch("tower.pattern", read.append)
        serve_weights(Spot(model.exchange, "tower"), call_of(mask), query, key, torch.ones_like(key))
    assert read[0][0, 0, 0].sum() == pytest.approx(1, abs=1e-3)
    assert read[0][0, 0, 1].tolist() == [0, 0, 0]
