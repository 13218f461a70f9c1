"""Adding vectors at hook points: one by one as a function of the value there, or those of many variants at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mechaudio.models.selection import heads_among


@dataclass(frozen=True, eq=False)
class Add:
    """The change that adds a vector; what `Edit.change` may be, known by what it does.

    Attributes:
        vectors: `[d]` or one per prompt, `[batch, 1, d]`, for a value `[batch, position, d]`; with heads
            `[head, d_head]` or `[batch, 1, head, d_head]`. Vectors for heads may be wider, if all that is over is zero.
        strength: What they are multiplied with.
        heads: Heads that they are added to, in their order; None for a value without an axis of heads.
    """

    vectors: Tensor
    strength: float
    heads: tuple[int, ...] | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """The value with the vectors added.

        Raises:
            IndexError: A head that there is not.
            ValueError: Vectors of another width.
        """
        if self.heads is None:
            return value + self.strength * self.vectors.to(value)
        heads = self.heads_of(value)
        changed = value.clone()
        changed[:, :, heads] += self.strength * self.vectors[..., : value.shape[-1]].to(value)
        return changed

    def heads_of(self, value: Float[Tensor, "batch position head d_head"]) -> list[int]:
        """The heads, counted from the first.

        Raises:
            IndexError: A head that there is not.
            ValueError: Vectors of another width, or a head that is named twice.
        """
        width = value.shape[-1]
        if self.vectors.shape[-1] < width or self.vectors[..., width:].any():
            raise ValueError(
                f"the directions have {self.vectors.shape[-1]} numbers, and heads of this layer give {width}"
            )
        return heads_among(self.heads or (), value.shape[2])


class Additions:
    """Vectors of many variants at one hook point, each at one row of its own, added together.

    Variants that differ in strength alone share their vectors.
    """

    def __init__(self, rows: Sequence[int], changes: Sequence[Add], n_prompts: int, device: torch.device):
        """Bring everything to the device at once.

        Args:
            rows: The row of each variant among all rows.
            changes: What is added there.
            n_prompts: How many prompts there are.
            device: Where the hook point is.
        """
        self.changes = changes
        parts: dict[Hashable, Float[Tensor, "batch vector d"]] = {}
        which, at, first, n_vectors = [], [], {}, 0
        for row, change in zip(rows, changes, strict=True):
            vectors, n = change.vectors, len(change.heads or (0,))
            key = (vectors.data_ptr(), vectors.shape, vectors.stride(), n)
            if key not in parts:
                first[key], n_vectors = n_vectors, n_vectors + n
                parts[key] = vectors.reshape(-1, n, vectors.shape[-1]).expand(n_prompts, -1, -1)
            which += range(first[key], first[key] + n)
            at += [row] * n
        strengths = [change.strength for change in changes for _ in change.heads or (0,)]
        self._strengths = torch.tensor(strengths, dtype=torch.float64)
        together = device if any(part.device.type != "cpu" for part in parts.values()) else torch.device("cpu")
        widest = max(part.shape[-1] for part in parts.values())
        padded = [F.pad(part.to(together), (0, widest - part.shape[-1])) for part in parts.values()]
        self._vectors = _moved(torch.cat(padded, dim=1), device)
        self._which, self._rows = _moved(torch.tensor(which), device), _moved(torch.tensor(at), device)

    def add_to(self, value: Tensor) -> None:
        """Add all of them, in place."""
        exact = torch.promote_types(value.dtype, torch.float32)  # a strength is not to be rounded before it is used
        vectors, which, rows = (_moved(one, value.device) for one in (self._vectors, self._which, self._rows))
        own = vectors.to(value.dtype).index_select(1, which).to(exact)
        added = (own * _moved(self._strengths.to(exact), value.device)[:, None]).to(value.dtype)
        if self.changes[0].heads is None:
            value[:, rows] += added
            return
        heads = [head for change in self.changes for head in change.heads_of(value)]
        value[:, rows, _moved(torch.tensor(heads), value.device)] += added[..., : value.shape[-1]]


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; one that goes to a GPU does not wait for what the GPU has to do yet."""
    return values.to(device, non_blocking=device.type == "cuda")
