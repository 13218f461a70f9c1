"""Fewer audio tokens for long clips: of every segment the most important are kept, the rest is merged into a few.

Reference: TimeAudio (arXiv 2511.11039), segment-level token merging, and its released code. They differ: the paper
keeps a quarter of a segment of 88 and measures importance by attention among tokens; the code keeps 22 of every 44, and
its importance is a mean of weights that sum to one, the same for every token but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mechaudio.arguments import checks_arguments
from mechaudio.showing import Shown

#: Tokens of one window of 30 s; clips that make no more are not merged.
WINDOW_TOKENS = 88
KEPT, CONTEXTUAL = 22, 4

Mode = Literal["paper", "released"]


@dataclass(frozen=True)
class Merged(Shown):
    """Merged tokens, and what each is made of.

    Attributes:
        tokens: `[merged token, width]`, behind the axes of clips, if there were any.
        weights: `[merged token, token]`, likewise: `tokens` is `weights @ hidden`.
    """

    tokens: Float[Tensor, "*clip merged width"]
    weights: Float[Tensor, "*clip merged token"]

    @property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """The tokens that went into each merged token of one clip, in order.

        Raises:
            ValueError: These are the tokens of several clips.
        """
        if self.weights.ndim != 2:
            raise ValueError(f"sources are those of one clip, got weights of shape {list(self.weights.shape)}")
        return tuple(tuple(row.nonzero()[:, 0].tolist()) for row in self.weights)

    @property
    def retained(self) -> float:
        """The share of tokens that are left."""
        return self.weights.shape[-2] / self.weights.shape[-1]


@checks_arguments
def merged_count(
    n_tokens: int,
    mode: Mode = "released",
    *,
    window: int = WINDOW_TOKENS,
    kept: int = KEPT,
    contextual: int = CONTEXTUAL,
) -> int:
    """Return how many tokens are left of a clip's.

    Args:
        n_tokens: Tokens before.
        mode: As in `merge`, like all that follow.
        window: Tokens of one window.
        kept: Tokens that stay in each segment.
        contextual: Tokens that are made of the others.

    Raises:
        ValueError: A negative number of tokens, or none that stays or that is made of the others.
    """
    if n_tokens < 0 or kept < 1 or contextual < 1:
        raise ValueError(
            "a clip has no negative number of tokens, and of each segment at least one stays and one is made of the "
            f"others; got {n_tokens=}, {kept=}, {contextual=}"
        )
    if n_tokens <= window:
        return n_tokens
    return _n_segments(n_tokens, mode, window) * (kept + contextual)


@checks_arguments
def merge(
    hidden: Float[Tensor, "*clip token width"],
    importance: Float[Tensor, "*clip token"],
    mode: Mode = "released",
    *,
    keys: Float[Tensor, "*clip token key_width"] | None = None,
    window: int = WINDOW_TOKENS,
    kept: int = KEPT,
    contextual: int = CONTEXTUAL,
) -> Merged:
    """Merge the tokens of one clip, or of several that have as many.

    Of every segment, the `kept` most important tokens stay, in order; of the rest, four that lie evenly apart take in
    the others, each the one that it is most alike, and follow the tokens that stay.

    Args:
        hidden: Tokens in order of time.
        importance: Their importance, such as `received_attention`.
        mode: `released`: segments of half a window, likeness by cosine of `hidden`, and a token plus the mean of those
            that it took in. `paper`: segments of a window, likeness by dot product of `keys`, and the mean of a token
            and those that it took in.
        keys: Keys of the tokens, which `paper` compares; by default `hidden`.
        window: Tokens of one window; as many or fewer are left alone.
        kept: Tokens that stay in each segment: 22, a quarter of the paper's segments and half of the released ones.
        contextual: Tokens that are made of the others of a segment.

    Raises:
        ValueError: Another mode, importance or keys of another number of tokens, NaN among them, infinity in hidden or
            keys, or segments with too few tokens.
    """
    if hidden.ndim < 2 or not hidden.shape[-2]:
        raise ValueError(f"hidden is [token, width], got shape {list(hidden.shape)}")
    n_tokens = hidden.shape[-2]
    for name, tokens in (
        ("importance", importance.shape),
        ("keys", hidden.shape[:-1] if keys is None else keys.shape[:-1]),
    ):
        if tokens != hidden.shape[:-1]:
            raise ValueError(f"{name} is given for {_axes(tokens)} tokens, there are {_axes(hidden.shape[:-1])}")
    recorded = hidden.is_cuda and torch.cuda.is_current_stream_capturing()  # a CUDA graph, which cannot look at values
    for name, given in (("hidden", hidden), ("importance", importance), ("keys", keys)):
        if given is None or recorded:
            continue
        lost = given.isnan() if name == "importance" else ~given.isfinite()  # infinity times a weight of 0 is NaN
        if n_lost := int(lost.sum()):
            raise ValueError(
                f"{name} holds {'NaN' if name == 'importance' else 'NaN or infinity'} in {n_lost} of {given.numel()} "
                "places: nothing says which tokens stay, or what of them. float16 overflows like that: compute them in "
                "bfloat16 or float32"
            )
    if n_tokens <= window:
        weights = torch.eye(n_tokens, dtype=hidden.dtype, device=hidden.device)
        return Merged(hidden, weights.expand(*hidden.shape[:-2], -1, -1))
    segments = _segments(n_tokens, mode, window)
    if min(stop - start for start, stop in segments) < kept + contextual or kept < 1 or contextual < 1:
        raise ValueError(
            f"a segment has at least {kept + contextual} tokens, of which at least one stays and one is made of the "
            f"others; got segments {segments}, {kept=}, {contextual=}"
        )
    alike = functional.normalize(hidden, dim=-1) if mode == "released" or keys is None else keys
    weights = hidden.new_zeros(*hidden.shape[:-2], len(segments) * (kept + contextual), n_tokens)
    for number, (start, stop) in enumerate(segments):
        rows = slice(number * (kept + contextual), (number + 1) * (kept + contextual))
        weights[..., rows, start:stop] = _segment(
            alike[..., start:stop, :], importance[..., start:stop], kept, contextual, mode
        ).to(hidden.dtype)
    return Merged(weights @ hidden, weights)


@checks_arguments
def received_attention(
    queries: Float[Tensor, "*clip token head d_head"],
    keys: Float[Tensor, "*clip token head d_head"],
    window: int = WINDOW_TOKENS,
) -> Float[Tensor, "*clip token"]:
    """Return the paper's importance: the attention that a token receives from those of its segment, mean over heads.

    Args:
        queries: Queries of the tokens.
        keys: Keys of the tokens.
        window: Tokens of a segment.

    Raises:
        ValueError: Queries and keys of different shapes.
    """
    if queries.shape != keys.shape or queries.ndim < 3:
        raise ValueError(
            f"queries and keys are [token, head, d_head] each, got {list(queries.shape)} and {list(keys.shape)}"
        )
    received = []
    for start, stop in _segments(queries.shape[-3], "paper", window):
        of_segment = (given[..., start:stop, :, :] for given in (queries, keys))
        scores = torch.einsum("...qhd,...khd->...hqk", *of_segment) * queries.shape[-1] ** -0.5
        received.append(reduce(scores.softmax(-1), "... head query key -> ... key", "mean"))
    return torch.cat(received, dim=-1)


def _n_segments(n_tokens: int, mode: Mode, window: int) -> int:
    if window < 1:
        raise ValueError(f"a window has at least one token, got {window=}")
    return 2 * n_tokens // window if mode == "released" else max(n_tokens // window, 1)


def _segments(n_tokens: int, mode: Mode, window: int) -> list[tuple[int, int]]:
    count = _n_segments(n_tokens, mode, window)
    length = n_tokens // count
    return [(i * length, n_tokens if i == count - 1 else (i + 1) * length) for i in range(count)]


def _segment(
    alike: Float[Tensor, "*clip token width"],
    importance: Float[Tensor, "*clip token"],
    kept: int,
    contextual: int,
    mode: Mode,
) -> Float[Tensor, "*clip merged token"]:
    """Give the weights of a segment's tokens in those that are left of it."""
    n_tokens = importance.shape[-1]
    staying = importance.topk(kept, dim=-1).indices.sort(dim=-1).values
    stays = torch.zeros_like(importance, dtype=torch.bool).scatter(-1, staying, True)
    rest = stays.to(torch.uint8).argsort(dim=-1, stable=True)[..., : n_tokens - kept]
    # Evenly apart: arithmetic on the device, since an index that is copied there cannot be part of a CUDA graph.
    step, number = max(1, (n_tokens - kept) // contextual), torch.arange(n_tokens - kept, device=importance.device)
    is_target = (number % step == 0) & (number < contextual * step)
    targets, others = rest[..., is_target.argsort(descending=True, stable=True)].split(
        [contextual, n_tokens - kept - contextual], dim=-1
    )
    similarity = _at(alike, others) @ _at(alike, targets).mT
    taken = functional.one_hot(similarity.argmax(-1), contextual).to(alike.dtype).mT
    members = alike.new_zeros(*taken.shape[:-1], n_tokens)
    members = members.scatter(-1, others[..., None, :].expand(taken.shape), taken)
    counts = members.sum(-1, keepdim=True)
    itself = functional.one_hot(targets, n_tokens).to(alike.dtype)
    made = itself + members / counts.clamp(min=1) if mode == "released" else (itself + members) / (1 + counts)
    return torch.cat([functional.one_hot(staying, n_tokens).to(alike.dtype), made], dim=-2)


def _axes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _at(values: Float[Tensor, "*clip token width"], tokens: Tensor) -> Float[Tensor, "*clip picked width"]:
    return values.gather(-2, tokens[..., None].expand(*tokens.shape, values.shape[-1]))
