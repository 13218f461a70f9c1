"""One call of attention as transformers makes it: which keys each query may see, and PyTorch's fused kernel for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward


@dataclass(frozen=True, eq=False)
class View:
    """The keys that some query rows may see.

    Attributes:
        rows: The positions of the rows.
        hidden: The keys that they may not see.
        bias: The addition to their scores; `None` if there is none.
        blind: The rows that may see nothing, as padding may.
    """

    rows: Int[Tensor, "batch row"]
    hidden: Bool[Tensor, " batch #head row key"]
    bias: Float[Tensor, " batch #head row key"] | None
    blind: Bool[Tensor, " batch #head row 1"]


@dataclass(frozen=True)
class Call:
    """One call of attention by transformers: all but queries, keys and values."""

    module: nn.Module
    mask: Tensor | None
    windows: Int[Tensor, " window_edge"] | None
    dropout: float
    scaling: float
    causal: bool
    kwargs: dict[str, Any]

    def fused(self, query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "batch query head d_value"]:
        """PyTorch's fused attention; in packed stacks window by window, as the network itself does it."""
        if self.windows is None:
            return self._fused(query, key, value)
        lengths = self.windows.diff().tolist()
        pieces = zip(*(part.split(lengths, dim=2) for part in (query, key, value)), strict=True)
        return torch.cat([self._fused(*piece) for piece in pieces], dim=1)

    def _fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return sdpa_attention_forward(
            self.module,
            query,
            key,
            value,
            self._mask_with_gradients(),
            dropout=self.dropout,
            scaling=self.scaling,
            is_causal=self.causal,
            **self.kwargs,
        )[0]

    def _mask_with_gradients(self) -> Tensor | None:
        """The mask; one that torch has to compute gradients of where the gradients of others would be wrong.

        On the CPU, the fused kernel takes the weights of a row for 1 on its way back if the mask is the smallest number
        of its type for every key; they are 1 / *n* on its way there. With such a mask torch takes another kernel.
        """
        mask = self.mask
        if mask is None or not mask.is_floating_point() or mask.device.type != "cpu" or not torch.is_grad_enabled():
            return mask
        is_blind = mask.numel() > 0 and bool((mask.amax(-1) == torch.finfo(mask.dtype).min).any())
        return mask.detach().requires_grad_() if is_blind and not mask.requires_grad else mask

    def view(self, rows: Int[Tensor, "batch row"], n_keys: int, n_queries: int) -> View:
        """Return what these query rows may see."""
        hidden = ~self.allowed(rows, n_keys, n_queries)
        return View(rows, hidden, self.bias(rows, n_keys), hidden.all(-1, keepdim=True))

    def sees(self, n_keys: int) -> tuple[Any, ...]:
        """Return all that decides what query rows may see, for `unchanged`."""
        return type(self), n_keys, self.causal, _state(self.mask), _state(self.windows)

    def allowed(
        self, rows: Int[Tensor, "batch row"], n_keys: int, n_queries: int
    ) -> Bool[Tensor, " batch #head row key"]:
        """The keys that each of these query rows may see.

        A mask of numbers is added to the scores (`bias`); it forbids a key where it is the smallest number of its type,
        or minus infinity. Where it is that number for every key of a row, it takes all differences away and forbids
        none: such a row sees all keys alike.
        """
        keys = torch.arange(n_keys, device=rows.device)
        if self.windows is not None:
            edges = self.windows.to(rows.device)
            same = torch.bucketize(rows, edges, right=True)[..., None] == torch.bucketize(keys, edges, right=True)
            return same[:, None]
        if self.mask is not None:
            mask = self._mask_of(rows, n_keys)
            if mask.dtype == torch.bool:
                return mask
            allowed = mask > torch.finfo(mask.dtype).min
            return allowed | (~allowed.any(-1, keepdim=True) & mask.isfinite())
        if self.causal and n_queries > 1:
            return (keys <= rows[..., None])[:, None]
        return torch.ones_like(rows, dtype=torch.bool)[:, None, :, None].expand(-1, 1, -1, n_keys)

    def without(self, blocked: Bool[Tensor, " batch #head 1 key"], n_queries: int, n_keys: int) -> Call:
        """Mask some keys for every query."""
        if self.mask is not None and self.mask.dtype != torch.bool:
            return replace(self, mask=self.mask[..., :n_keys].masked_fill(blocked, -torch.inf))
        rows = repeat(torch.arange(n_queries, device=blocked.device), "query -> batch query", batch=blocked.shape[0])
        return replace(self, mask=self.allowed(rows, n_keys, n_queries) & ~blocked)

    def bias(self, rows: Int[Tensor, "batch row"], n_keys: int) -> Float[Tensor, " batch #head row key"] | None:
        """Return the addition of a mask of numbers to the scores of these query rows; `None` if there is none."""
        if self.mask is None or self.mask.dtype == torch.bool or self.windows is not None:
            return None
        return self._mask_of(rows, n_keys)

    def _mask_of(self, rows: Int[Tensor, "batch row"], n_keys: int) -> Shaped[Tensor, " batch #head row key"]:
        """The mask that transformers gave, at these query rows."""
        assert self.mask is not None
        mask = self.mask.expand(rows.shape[0], *self.mask.shape[1:])[..., :n_keys]
        return mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))


def _state(tensor: Tensor | None) -> tuple[Tensor | None, int | None]:
    """A tensor, and how often it was changed in place; nobody counts that in inference mode, where None stands."""
    return tensor, None if tensor is None or tensor.is_inference() else tensor._version


def unchanged(left: Any, right: Any) -> bool:
    """Return whether two nested tuples are equal, tensors in them the very same and unchanged in place."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(unchanged, left, right))
    if isinstance(left, Tensor):
        return left is right and not left.is_inference()
    return not isinstance(right, Tensor) and left == right


def by_key_heads(
    rows: Float[Tensor, "batch head row inner"], of_keys: Float[Tensor, "batch kv_head inner outer"]
) -> Float[Tensor, "batch head row outer"]:
    """Multiply what each head has with what the heads of its group share, without a copy of that for each."""
    kv = of_keys.shape[1]
    grouped = rearrange(rows, "batch (kv group) row inner -> batch kv (group row) inner", kv=kv)
    return rearrange(grouped @ of_keys, "batch kv (group row) outer -> batch (kv group) row outer", row=rows.shape[2])
