"""A short way through every class, for versions of other packages that are new or old: open, run, sweep, generate."""

from functools import cache
from itertools import pairwise

import pytest
import torch

import mechaudio as ma
from mechaudio.tracing.decoding import greedy, new_tokens
from tests.families import FAMILIES, KINDS, model_inputs, network, thinned
from tests.interventions.kinds import having

N = 3


@pytest.fixture(scope="module")
def opened():
    """The opened model, with every hook point proven, and its prompts."""
    return cache(lambda family: (ma.AudioLM(network(family)), model_inputs(family)))


def variants_of(model):
    """One variant that attention carries out, one of the residual stream, and both in the last layer that can.

    A class of every kind has all three; the others take turns.
    """
    layer = having(model, "pattern")[-1]
    steer = ma.Steer(torch.ones(model.d_model), layers=[0], strength=0.5)
    variants = [
        [ma.ScaleAttention(3.0, layers=[layer], keys="audio")],
        [steer],
        [ma.KnockOutAttention(layers=[layer]), steer],
    ]
    turn = FAMILIES.index(model.adapter.family)
    return variants if model.adapter.family in KINDS else variants[turn % 3 :][:1]


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_a_run_gives_the_networks_own_logits_and_patterns_that_sum_to_one(opened, family):
    model, inputs = opened(family)
    with torch.no_grad():
        plain = model.network(**inputs, use_cache=False).logits
    layer = having(model, "pattern")[-1]
    out = ma.run(model, inputs, record=[ma.HookPoint("pattern", layers=[layer], queries="last")])
    torch.testing.assert_close(out.logits, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.cache["pattern", layer].sum(-1), torch.ones(len(plain), model.n_heads, 1))


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_a_sweep_gives_what_each_variant_gives_in_a_run(opened, family):
    model, inputs = opened(family)
    variants = variants_of(model)
    swept = ma.sweep(model, inputs, variants, progress=False).logits
    runs = [ma.run(model, inputs, interventions=variant, logits="last").logits[:, -1] for variant in ([], *variants)]
    alone = torch.stack(runs[1:])
    assert (swept - alone).abs().amax() < 1e-5 * alone.abs().amax()
    assert all(not torch.allclose(before, after) for before, after in pairwise(runs))


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_a_generation_is_plain_generation_and_variants_write_what_each_writes_alone(opened, family):
    model, inputs = opened(family)
    variants = variants_of(model)
    with torch.no_grad():
        plain = model.network.generate(**inputs, max_new_tokens=N, **greedy(model.network))
    clean = ma.generate(model, inputs, max_new_tokens=N).tokens
    assert torch.equal(clean, new_tokens(plain, inputs["input_ids"].shape[1]))
    written = ma.generate_variants(model, inputs, variants, max_new_tokens=N, progress=False)
    assert torch.equal(written.clean_tokens, clean)
    for variant, tokens in zip(variants, written.tokens, strict=True):
        assert torch.equal(tokens, ma.generate(model, inputs, max_new_tokens=N, interventions=variant).tokens)
