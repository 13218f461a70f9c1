"""A kernel of Triton that sums the attention weights of groups of keys, on a GPU.

It multiplies queries with the keys of the groups only, and divides by the sum over all keys that fused attention found,
of which it is given the logarithm. No weight is ever in memory.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

#: Triton and its language, which come with torch for GPUs; None where they are not installed.
triton: Any = None
tl: Any = None
with suppress(ModuleNotFoundError):
    triton, tl = import_module("triton"), import_module("triton.language")
#: Query rows and keys of a block.
ROWS, KEYS = 128, 64


def _sum_weights(
    query,
    key,
    log_sums,
    mask,
    positions,
    marks,
    masses,
    query_batch,
    query_head,
    query_row,
    key_batch,
    key_head,
    key_row,
    sums_batch,
    sums_head,
    mask_batch,
    mask_head,
    mask_row,
    n_queries,
    n_keys,
    n_positions,
    n_groups,
    n_heads,
    heads_per_key,
    d_head,
    scaling,
    causal: tl.constexpr,  # type: ignore[valid-type]
    masked: tl.constexpr,  # type: ignore[valid-type]
    rows_of_block: tl.constexpr,  # type: ignore[valid-type]
    keys_of_block: tl.constexpr,  # type: ignore[valid-type]
    width: tl.constexpr,  # type: ignore[valid-type]
    groups: tl.constexpr,  # type: ignore[valid-type]
):
    # One axis counts blocks: a GPU takes 65,535 along a second one.
    n_blocks = tl.cdiv(n_queries, rows_of_block)
    any_head = tl.program_id(0) // n_blocks
    batch, head = (any_head // n_heads).to(tl.int64), (any_head % n_heads).to(tl.int64)
    rows = tl.program_id(0) % n_blocks * rows_of_block + tl.arange(0, rows_of_block)
    columns, group = tl.arange(0, width), tl.arange(0, groups)
    row_there, column_there = rows < n_queries, columns < d_head
    queries = tl.load(
        query + batch * query_batch + head * query_head + rows[:, None] * query_row + columns[None, :],
        mask=row_there[:, None] & column_there[None, :],
        other=0.0,
    )
    log_sum = tl.load(log_sums + batch * sums_batch + head * sums_head + rows, mask=row_there, other=0.0)
    log_sum = tl.where(log_sum == float("-inf"), 0.0, log_sum)  # of a row that sees nothing: its weights are 0, not NaN
    of_head = key + batch * key_batch + (head // heads_per_key) * key_head
    of_mask = mask + batch * mask_batch + head * mask_head + rows.to(tl.int64)[:, None] * mask_row
    total = tl.zeros((rows_of_block, groups), dtype=tl.float32)
    for first in range(0, n_positions, keys_of_block):
        entries = first + tl.arange(0, keys_of_block)
        entry_there = entries < n_positions
        position = tl.load(positions + batch * n_positions + entries, mask=entry_there, other=n_keys)
        there = position < n_keys
        keys = tl.load(
            of_head + position[None, :].to(tl.int64) * key_row + columns[:, None],
            mask=there[None, :] & column_there[:, None],
            other=0.0,
        )
        scores = tl.dot(queries, keys, input_precision="ieee") * scaling
        seen = row_there[:, None] & there[None, :]
        if causal:
            seen = seen & (position[None, :] <= rows[:, None])
        if masked == 1:
            seen = seen & (tl.load(of_mask + position[None, :], mask=seen, other=0) != 0)
        if masked == 2:
            scores += tl.load(of_mask + position[None, :], mask=seen, other=0.0).to(tl.float32)
        weights = tl.where(seen, tl.exp2((scores - log_sum[:, None]) * 1.4426950408889634), 0.0)
        mark = tl.load(
            marks + (batch * n_positions + entries[:, None]) * n_groups + group[None, :],
            mask=entry_there[:, None] & (group < n_groups)[None, :],
            other=0.0,
        )
        total = tl.dot(weights, mark, total, input_precision="tf32")
    tl.store(
        masses + ((batch * n_heads + head) * n_queries + rows[:, None]) * n_groups + group[None, :],
        total,
        mask=row_there[:, None] & (group < n_groups)[None, :],
    )


_compiled: Any = None if triton is None else triton.jit(_sum_weights)


def sum_weights(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    log_sums: Float[Tensor, "batch head query_and_more"],
    mask: Tensor | None,
    positions: Int[Tensor, "batch position"],
    marks: Float[Tensor, "batch position group"],
    *,
    scaling: float,
    causal: bool,
) -> Float[Tensor, "batch head query group"]:
    """Sum the attention weights of groups of keys.

    Args:
        query: Queries.
        key: Keys.
        log_sums: Natural logarithms of the sums of the exponentials of all scores that a query sees.
        mask: What each query may see, or what is added to its scores; of each batch, head and query, or of all.
        positions: The positions of keys that are in a group; the number of keys, or more, stands for none.
        marks: 1 for such a key and a group that it is in, else 0.
        scaling: Factor of scores.
        causal: A query sees no key behind it.

    Returns:
        The sums, in single precision.
    """
    n_batch, n_heads, n_queries, d_head = query.shape
    n_positions, n_groups = marks.shape[1:]
    query, key = (part if part.stride(-1) == 1 else part.contiguous() for part in (query, key))
    seen = mask
    if mask is not None:
        seen = mask if mask.stride(-1) == 1 else mask.contiguous()
        seen = seen.expand(n_batch, n_heads, n_queries, -1)
    masses = query.new_empty(n_batch, n_heads, n_queries, n_groups, dtype=log_sums.dtype)
    _compiled[(triton.cdiv(n_queries, ROWS) * n_batch * n_heads,)](
        query,
        key,
        log_sums,
        query if seen is None else seen,
        positions,
        marks,
        masses,
        *query.stride()[:3],
        *key.stride()[:3],
        *log_sums.stride()[:2],
        *((0, 0, 0) if seen is None else seen.stride()[:3]),
        n_queries,
        key.shape[2],
        n_positions,
        n_groups,
        n_heads,
        n_heads // key.shape[1],
        d_head,
        scaling,
        causal=causal,
        masked=0 if seen is None else 2 if seen.is_floating_point() else 1,
        rows_of_block=ROWS,
        keys_of_block=KEYS,
        width=max(16, triton.next_power_of_2(d_head)),
        groups=max(16, triton.next_power_of_2(n_groups)),
        num_warps=8,
    )
    return masses
