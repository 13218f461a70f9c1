"""The attention of every query on groups of keys, without a score matrix.

It is measured in one of two ways:

1. on a GPU in half precision, from the logarithms of sums that fused attention works out beside its output, if asking
for them moves no bit of it: a kernel of Triton goes through the keys of the groups and no others (`mass_kernel`);
2. elsewhere, by a second call of fused attention, whose values are indicator columns.

The output comes from the call that the network makes alone, of the same shapes: wider values might be summed by another
kernel, and the network's output would differ in the last bits on some machines.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mechaudio.notices import warn
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.score_edit import keys_now

FEWEST_QUERIES = 16
"""A kernel of its own is worth its launch from so many query rows on."""
WIDEST_HEAD = 256


@dataclass(frozen=True, eq=False)
class KeyGroups:
    """Groups of the keys of a prompt.

    Attributes:
        marks: The keys that are in each group; a key may be in several.
    """

    marks: Bool[Tensor, "batch key group"]
    _chosen: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def now(
        self, step: int, key: Float[Tensor, "batch kv_head key_now d_head"]
    ) -> Float[Tensor, "batch key_now group"]:
        """The marks as the keys are counted at a step of a generation, 1 and 0 in the type of keys."""
        groups = [keys_now(group, step, key.shape[2]) for group in self.marks.unbind(-1)]
        return torch.stack(groups, dim=-1).to(key)

    def chosen(
        self, device: torch.device
    ) -> tuple[Int[Tensor, "batch position"], Float[Tensor, "batch position group"]]:
        """The positions of keys that are in a group, in order, and the groups of each.

        A prompt that has fewer of them than another is filled up with the number of keys, a position that no key has.
        """
        if device not in self._chosen:
            n_keys = self.marks.shape[1]
            positions = torch.arange(n_keys, device=self.marks.device).where(self.marks.any(-1), n_keys).sort(-1).values
            positions = positions[:, : max(1, int((positions < n_keys).sum(-1).max()))]
            index = repeat(positions, "batch position -> batch position group", group=self.marks.shape[-1])
            marks = F.pad(self.marks, (0, 0, 0, 1)).gather(1, index)
            self._chosen[device] = positions.int().to(device), marks.float().to(device)
        return self._chosen[device]


def mixed_and_mass(
    call: Call,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    groups: KeyGroups,
    step: int,
) -> tuple[Float[Tensor, "batch query head d_value"], Float[Tensor, "batch head query group"]]:
    """The values as fused attention mixes them, and the attention of every query on groups of keys."""
    if not _suits_kernel(call, query, key, groups) or (sum_weights := _kernel()) is None:
        return call.fused(query, key, value), by_columns(call, query, key, groups.now(step, key))
    with _LogSums() as log_sums:
        mixed = call.fused(query, key, value)
    if log_sums.value is None:
        return mixed, by_columns(call, query, key, groups.now(step, key))
    mask = None if call.mask is None else call.mask[..., : key.shape[2]]
    mass = sum_weights(
        query,
        key,
        log_sums.value,
        mask,
        *groups.chosen(query.device),
        scaling=call.scaling,
        causal=mask is None and call.causal,
    )
    return mixed, mass.to(query.dtype)


def by_columns(
    call: Call, query: Tensor, key: Tensor, groups: Float[Tensor, "batch key group"]
) -> Float[Tensor, "batch head query group"]:
    """The attention on groups of keys, as fused attention mixes indicator columns in place of values.

    Kernels want values as wide as queries and keys, hence the columns of zeros; where there are more groups than that,
    queries and keys get zeros, which change no score. A row that sees nothing, as padding may, has no attention: some
    kernels of GPUs give it that of all keys.
    """
    n_groups, d_head = groups.shape[-1], query.shape[-1]
    width = max(fused_width(n_groups, query), d_head)
    columns = repeat(F.pad(groups, (0, width - n_groups)), "batch key width -> batch kv key width", kv=key.shape[1])
    mixed = call.fused(F.pad(query, (0, width - d_head)), F.pad(key, (0, width - d_head)), columns)
    mass = rearrange(mixed[..., :n_groups], "batch query head group -> batch head query group")
    if query.device.type == "cpu" or call.mask is None:
        return mass
    return mass.masked_fill(see_nothing(call.mask[..., : key.shape[2]]), 0)


def see_nothing(mask: Shaped[Tensor, " batch #head #query key"]) -> Bool[Tensor, " batch #head #query 1"]:
    """Return which rows a mask lets see no key; in a mask of numbers minus infinity hides one, as in `Call.allowed`."""
    hidden = ~mask if mask.dtype == torch.bool else mask.isneginf()
    return hidden.all(-1, keepdim=True)


def fused_width(width: int, of: Tensor) -> int:
    """The next head size that fused kernels take: on a GPU they want eights."""
    return -(-width // 8) * 8 if of.is_cuda else width


def _suits_kernel(call: Call, query: Tensor, key: Tensor, groups: KeyGroups) -> bool:
    differentiated = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[2] >= FEWEST_QUERIES
        and key.shape[2] == groups.marks.shape[1]
        and query.shape[-1] <= WIDEST_HEAD
        and call.windows is None
        and not call.dropout
        and not differentiated
    )


@cache
def _kernel() -> Any:
    """The kernel; `None` without Triton, of which a warning is given once."""
    from mechaudio.tracing import mass_kernel  # here, as importing Triton takes its time

    if mass_kernel.triton is None:
        warn(
            "the attention on groups of keys is measured by a second call of attention in every layer: with the "
            "package triton it takes a kernel, which is several times faster"
        )
        return None
    return mass_kernel.sum_weights


#: Calls of fused attention, by their shapes -> whether their output is the same where they give their sums, too.
_EXACT: dict[Hashable, bool] = {}


class _LogSums(TorchDispatchMode):
    """Has fused attention give the logarithms of its sums beside its output, if that moves no bit of the output.

    The outputs with and without them are compared once for calls of the same shapes.
    """

    def __init__(self):
        super().__init__()
        self.value: Float[Tensor, "batch head query_and_more"] | None = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, kwargs = torch.ops.aten, kwargs or {}
        if function is aten.scaled_dot_product_attention.default:  # in inference mode it comes whole
            with self:
                return function.decompose(*args, **kwargs)
        if function is aten._scaled_dot_product_flash_attention.default:  # which gives them in any case
            with_sums = function(*args, **kwargs)
            self.value = with_sums[1]
            return with_sums
        if function not in (
            aten._scaled_dot_product_efficient_attention.default,
            aten._scaled_dot_product_cudnn_attention.default,
        ):
            return function(*args, **kwargs)
        shapes = (function, *map(_shape, args), *map(_shape, kwargs.values()))
        plain = None if _EXACT.get(shapes) else function(*args, **kwargs)
        if plain is not None and shapes in _EXACT:
            return plain
        with_sums = function(*args[:4], True, *args[5:], **kwargs)
        if plain is not None:
            _EXACT[shapes] = torch.equal(plain[0], with_sums[0])
        if _EXACT[shapes]:
            log_sums = with_sums[1]
            self.value = log_sums.squeeze(-1) if log_sums.ndim == 4 else log_sums
        return with_sums if plain is None else plain


def _shape(value: Any) -> Hashable:
    return (value.shape, value.stride(), value.dtype, value.device) if isinstance(value, Tensor) else value
