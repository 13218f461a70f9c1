"""Attention over a shared prefix: what every variant gives with all keys of its own, one query after another."""

import math

import pytest
import torch

from mechaudio.variants.attend import Changes, Shared, attend

N_PROMPTS, KV, GROUP, D, N_KEYS, N_VARIANTS = 2, 2, 3, 4, 40, 3


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts(n_positions):
    """Queries, keys and values of the positions of three variants, and what they share; the first key is padding."""
    n = N_VARIANTS * n_positions
    query = drawn(N_PROMPTS, KV * GROUP, n, D, seed=0)
    key, value = (drawn(N_PROMPTS, KV, n, D, seed=seed) for seed in (1, 2))
    mask = torch.zeros(N_PROMPTS, 1, n_positions, N_KEYS, dtype=torch.float64)
    first = N_KEYS - n_positions
    for position in range(n_positions):
        mask[:, :, position, first + position + 1 :] = -math.inf
    mask[0, :, :, 0] = -math.inf
    keys, values = (drawn(N_PROMPTS, KV, N_KEYS, D, seed=seed) for seed in (3, 4))
    return query, key, value, Shared(keys, values, mask, scaling=0.5)


def attended(given, changes):
    *parts, shared = given
    return attend(changes, shared, N_VARIANTS, *parts)


def one_by_one(query, key, value, shared, n_positions, change=lambda scores, variant: scores):
    """The definition: softmax over the scores of each query, variant after variant."""
    out = torch.zeros(N_PROMPTS, N_VARIANTS * n_positions, KV * GROUP, D, dtype=torch.float64)
    first = N_KEYS - n_positions
    for prompt in range(N_PROMPTS):
        for variant in range(N_VARIANTS):
            own = slice(variant * n_positions, (variant + 1) * n_positions)
            for head in range(KV * GROUP):
                keys = torch.cat([shared.keys[prompt, head // GROUP, :first], key[prompt, head // GROUP, own]])
                values = torch.cat([shared.values[prompt, head // GROUP, :first], value[prompt, head // GROUP, own]])
                for position in range(n_positions):
                    at = variant * n_positions + position
                    scores = 0.5 * keys @ query[prompt, head, at] + shared.mask[prompt, 0, position]
                    out[prompt, at, head] = change(scores, variant).softmax(0) @ values
    return out


@pytest.mark.parametrize("n_positions", [1, 3, 33])
def test_variants_attend_as_they_do_one_by_one(n_positions):
    given = parts(n_positions)
    torch.testing.assert_close(attended(given, Changes()), one_by_one(*given, n_positions))


@pytest.mark.parametrize("n_positions", [1, 33])
def test_a_change_of_scores_acts_on_its_variant_alone(n_positions):
    given = parts(n_positions)

    def doubled(scores):
        scores[:, :, 1] *= 2

    def expected(scores, variant):
        return 2 * scores if variant == 1 else scores

    found = attended(given, Changes(scores=[doubled]))
    torch.testing.assert_close(found, one_by_one(*given, n_positions, expected))


def test_masked_keys_stay_masked_and_a_query_that_sees_no_key_attends_to_nothing():
    given = parts(3)

    def unmask_and_blind(scores):
        scores[:, :, 0] = 0.0
        scores[:, :, 2] = -math.inf

    def expected(scores, variant):
        return torch.where(scores.isinf(), scores, 0.0) if variant == 0 else scores

    found = attended(given, Changes(scores=[unmask_and_blind], careful=True))
    whole = one_by_one(*given, 3, expected)
    torch.testing.assert_close(found[:, :6], whole[:, :6])
    assert not found[:, 6:].any()


def test_a_change_of_patterns_comes_behind_the_softmax():
    given = parts(1)

    def first_key_only(pattern):
        pattern[:, :, 2] = 0.0
        pattern[:, :, 2, :, 1] = 1.0

    found = attended(given, Changes(pattern=[first_key_only]))
    values = given[3].values[:, :, 1].repeat_interleave(GROUP, dim=1)
    torch.testing.assert_close(found[:, 2], values)
