"""The kernel that sums attention on groups of keys: its sums are those of a second call of attention, and it moves no
bit of the network's output. It runs on a GPU."""

import os

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing import mass as mass_module
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.mass import KeyGroups, by_columns, mixed_and_mass, see_nothing
from tests.families import model_inputs, network

#: The device of the kernel; `TRITON_INTERPRET=1` has Triton interpret it on the CPU.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else None
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="it is a kernel of a GPU")


class Attention(torch.nn.Module):
    is_causal = True
    num_key_value_groups = 2


def call_of(mask):
    return Call(Attention().eval(), mask, None, 0.0, 0.125, mask is None, {})


def drawn(batch, n, *, kv_heads=2, d_head=64, dtype=torch.bfloat16, device="cuda"):
    generator = torch.Generator().manual_seed(n)
    shapes = [(batch, 2 * kv_heads, n, d_head), (batch, kv_heads, n, d_head), (batch, kv_heads, n, d_head)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def causal_mask(batch, n, padding, device="cuda"):
    mask = torch.ones(n, n, dtype=torch.bool).tril().repeat(batch, 1, 1, 1)
    mask[0, :, :, :padding] = False
    return mask.to(device)


def some_groups(batch, n, n_groups, device="cuda"):
    generator = torch.Generator().manual_seed(7)
    marks = torch.rand(batch, n, n_groups, generator=generator) < 0.2
    marks[0, n // 2 :] = False  # prompts have different numbers of keys
    return KeyGroups(marks.to(device))


@pytest.mark.parametrize("hides", [None, -torch.inf, torch.finfo(torch.bfloat16).min])
def test_rows_see_nothing_where_a_call_allows_no_key(hides):
    mask = causal_mask(2, 6, 3, "cpu")
    if hides is not None:
        mask = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(~mask, hides)
    allowed = call_of(mask).allowed(torch.arange(6).expand(2, -1), 6, 6)
    assert torch.equal(see_nothing(mask), ~allowed.any(-1, keepdim=True))
    assert see_nothing(mask).sum() == (0 if hides not in (None, -torch.inf) else 3)


@gpu
@pytest.mark.parametrize("n_groups", [1, 3, 20])
@pytest.mark.parametrize("padding", [None, 5])
@pytest.mark.parametrize(("n", "d_head"), [(64, 64), (203, 128), (850, 96), (40, 256)])
def test_its_sums_are_those_of_indicator_columns_and_the_output_keeps_its_bits(
    n, d_head, padding, n_groups, monkeypatch
):
    query, key, value = drawn(2, n, d_head=d_head)
    call = call_of(None if padding is None else causal_mask(2, n, padding))
    groups = some_groups(2, n, n_groups)
    with monkeypatch.context() as patch:
        patch.setattr(mass_module, "by_columns", None)  # it is not called
        mixed, mass = mixed_and_mass(call, query, key, value, groups, 0)
    assert torch.equal(mixed, call.fused(query, key, value))
    wide = [part.double() for part in (query, key)]
    scores = wide[0] @ wide[1].repeat_interleave(2, 1).mT * call.scaling
    seen = call.allowed(torch.arange(n, device="cuda").expand(2, -1), n, n)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num()  # of padding, which sees nothing
    expected = weights @ groups.marks[:, None].double()
    columns = by_columns(call, query, key, groups.now(0, key))
    for way in (mass, columns):  # rounded to 8 bits; the kernel takes weights of 11
        assert (way.double() - expected).abs().max() < 2**-8
        assert (way.double() / expected)[expected > 1e-3].sub(1).abs().max() < 2**-7


@pytest.mark.skipif(DEVICE is None, reason="it is a kernel of a GPU, or of an interpreter of Triton")
@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("queries", [1, 20])
def test_a_mask_of_all_queries_and_rows_that_see_nothing(queries, numbers):
    pytest.importorskip("triton")
    from mechaudio.tracing.mass_kernel import sum_weights

    query, key, _ = drawn(2, 20, d_head=16, dtype=torch.float32, device=DEVICE)
    mask = torch.ones(2, 1, queries, 20, dtype=torch.bool, device=DEVICE)
    mask[0, :, :, :7] = False
    mask[1, :, 1:3] = False  # of 20 rows, two see nothing
    groups = some_groups(2, 20, 3, DEVICE)
    hidden = torch.zeros(mask.shape, device=DEVICE).masked_fill(~mask, -torch.inf)
    scores = query @ key.repeat_interleave(2, 1).mT * 0.25 + hidden
    given = hidden if numbers else mask
    mass = sum_weights(
        query, key, scores.logsumexp(-1), given, *groups.chosen(query.device), scaling=0.25, causal=False
    )
    expected = scores.softmax(-1).nan_to_num() @ groups.marks[:, None].float()
    torch.testing.assert_close(mass, expected, atol=1e-3, rtol=1e-3)  # a GPU rounds weights to 11 bits


@gpu
def test_the_logits_keep_their_bits_and_the_masses_their_values(monkeypatch):
    net = network("qwen2_audio", torch.bfloat16).to("cuda")
    model = ma.AudioLM(net, prove=False)
    batch = {
        name: value.to("cuda", net.dtype) if value.is_floating_point() else value.to("cuda")
        for name, value in model_inputs("qwen2_audio").items()
    }
    point = ma.HookPoint("mass", keys="audio")
    plain = ma.run(model, batch)
    measured = ma.run(model, batch, record=[point])
    assert torch.equal(measured.logits, plain.logits)
    monkeypatch.setattr(mass_module, "_kernel", lambda: None)
    other = ma.run(model, batch, record=[point])
    assert torch.equal(other.logits, plain.logits)
    for layer in range(model.n_layers):
        assert torch.allclose(measured.cache["mass", layer], other.cache["mass", layer], atol=2**-7, rtol=2**-7)


def test_keys_of_groups_are_listed_once_and_in_order():
    marks = torch.tensor([[[0, 1], [0, 0], [1, 1], [1, 0]], [[0, 0], [0, 0], [0, 1], [0, 0]]]).bool()
    places, of_groups = KeyGroups(marks).chosen(torch.device("cpu"))
    assert places.tolist() == [[0, 2, 3], [2, 4, 4]]
    assert of_groups.tolist() == [[[0, 1], [1, 1], [1, 0]], [[0, 1], [0, 0], [0, 0]]]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_listening_for_sums_moves_no_bit_of_the_output(mode):
    query, key, value = drawn(1, 30, dtype=torch.float32, device="cpu")
    call = call_of(None)
    seen = []

    class Listening(mass_module._LogSums):
        def __torch_dispatch__(self, function, *rest, **options):
            seen.append(function)
            return super().__torch_dispatch__(function, *rest, **options)

    with mode():
        with Listening():
            listened = call.fused(query, key, value)
        assert torch.equal(listened, call.fused(query, key, value))
    assert torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default in seen
