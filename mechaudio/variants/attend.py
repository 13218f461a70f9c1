"""Attention of variants: to the keys and values of the prompts, which all share and none copies, and to their own.

Conventions: axes are named `b` (prompts), `head` = `kv g` (key-value heads, queries of each), `v` (variants), `p` and
`q` (positions of a variant, as queries and as keys), `s` (positions that variants share), `d` (width of a head). The
positions of all variants lie behind one another, `v p`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

#: Changes what is there of all variants in place: scores or patterns, `[b, head, v, p, key]`, or values by position.
InPlace = Callable[[Tensor], None]
#: From so many positions on, a variant is given keys and values of its own, which a fused kernel can take.
_MANY = 32


@dataclass(frozen=True, eq=False)
class Shared:
    """The keys and values that variants share in one layer.

    Attributes:
        keys: Keys of the whole prompts.
        values: Values.
        mask: What is added to the scores of the last positions: `-inf` where a query may not see a key.
        scaling: What products of queries and keys are multiplied with.
    """

    keys: Float[Tensor, "b kv key d"]
    values: Float[Tensor, "b kv key d"]
    mask: Float[Tensor, " b #head p key"]
    scaling: float


@dataclass(frozen=True, eq=False)
class Changes:
    """Changes of the weights of one attention module.

    Attributes:
        scores: Those of scores.
        pattern: Those of patterns.
        careful: Whether they may leave a query without any key, or show it a masked one.
    """

    scores: Sequence[InPlace] = ()
    pattern: Sequence[InPlace] = ()
    careful: bool = False


def attend(
    changes: Changes,
    shared: Shared,
    n_variants: int,
    query: Float[Tensor, "b head vp d"],
    key: Float[Tensor, "b kv vp d"],
    value: Float[Tensor, "b kv vp d"],
) -> Float[Tensor, "b vp head d"]:
    """Attend from the positions of all variants to what they share and to what each has on its own."""
    n_positions, kv = query.shape[2] // n_variants, key.shape[1]
    if n_positions >= _MANY and not changes.scores and not changes.pattern:
        return _attend_fused(query, key, value, shared, n_variants)
    single, n_shared = n_positions == 1, shared.keys.shape[2] - n_positions
    own_keys, own_values = (rearrange(part, "b kv (v q) d -> b kv 1 v q d", v=n_variants) for part in (key, value))
    keys, values = shared.keys[:, :, :n_shared], shared.values[:, :, :n_shared]
    queries = rearrange(query, "b (kv g) (v p) d -> b kv g v p d", kv=kv, v=n_variants)
    to_shared = einsum(queries, keys, "b kv g v p d, b kv s d -> b kv g v p s")
    # a single position has a single key of its own
    to_own = (queries * own_keys).sum(-1, keepdim=True) if single else queries @ own_keys.mT
    products = rearrange(torch.cat([to_shared, to_own], dim=-1), "b kv g v p key -> b (kv g) v p key")
    pattern = rearrange(_weigh(products, shared, changes), "b (kv g) v p key -> b kv g v p key", kv=kv)
    of_shared, of_own = pattern.split([n_shared, n_positions], dim=-1)
    mixed = einsum(of_shared, values, "b kv g v p s, b kv s d -> b kv g v p d")
    mixed += of_own * own_values if single else of_own @ own_values
    return rearrange(mixed, "b kv g v p d -> b (v p) (kv g) d")


def _weigh(products: Float[Tensor, "b head v p key"], shared: Shared, changes: Changes) -> Tensor:
    """From products of queries and keys to patterns, with all changes on the way."""
    n_positions = products.shape[3]
    mask = shared.mask[:, :, None, -n_positions:]
    scores = torch.add(mask, products, alpha=shared.scaling)
    for change in changes.scores:
        change(scores)
    if changes.careful:
        scores = scores.masked_fill(mask.isneginf(), -torch.inf)
    pattern = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    if n_positions > 1 or changes.careful:  # padding, or queries that see no key any more
        pattern = pattern.masked_fill(scores.isneginf().all(-1, keepdim=True), 0.0)
    pattern = pattern.to(products.dtype)
    for change in changes.pattern:
        change(pattern)
    return pattern


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, shared: Shared, n_variants: int) -> Tensor:
    """Attend by a fused kernel, where nobody changes scores: every variant as a prompt with all its keys."""
    n_positions = query.shape[2] // n_variants
    n_shared, group = shared.keys.shape[2] - n_positions, query.shape[1] // key.shape[1]

    def whole(before: Tensor, suffix: Tensor) -> Float[Tensor, "bv head key d"]:
        before = repeat(before[:, :, :n_shared], "b kv s d -> b v kv s d", v=n_variants)
        every = torch.cat([before, rearrange(suffix, "b kv (v q) d -> b v kv q d", v=n_variants)], dim=3)
        return repeat(every, "b v kv key d -> (b v) (kv g) key d", g=group)

    mask = shared.mask[:, :, -n_positions:]
    mask = mask.masked_fill(mask.isneginf().all(-1, keepdim=True), 0.0)  # padding sees something, whatever it is
    out = F.scaled_dot_product_attention(
        rearrange(query, "b head (v p) d -> (b v) head p d", v=n_variants),
        whole(shared.keys, key),
        whole(shared.values, value),
        attn_mask=repeat(mask, "b head p key -> (b v) head p key", v=n_variants),
        scale=shared.scaling,
    )
    return rearrange(out, "(b v) head p d -> b (v p) head d", v=n_variants)
