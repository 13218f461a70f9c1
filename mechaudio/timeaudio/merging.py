"""Fewer audio tokens for long clips: of every segment the most important are kept, the rest is merged into a few.

Reference: TimeAudio (arXiv 2511.11039), segment-level token merging, and its released code. They differ: the paper
keeps a quarter of a segment of 88 and measures importance by attention among tokens; the code keeps 22 of every 44, and
its importance is a mean of weights that sum to one, the same for every token but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mechaudio.arguments import names_arguments
from mechaudio.showing import Shown

#: Tokens of one window of 30 s; clips that make no more are not merged.
WINDOW_TOKENS = 88
KEPT, MERGED = 22, 4

Mode = Literal["paper", "released"]


@dataclass(frozen=True)
class Merged(Shown):
    """Merged tokens, and what each is made of.

    Attributes:
        tokens: `[merged token, width]`.
        weights: `[merged token, token]`: `tokens` is `weights @ hidden`.
    """

    tokens: Float[Tensor, "merged width"]
    weights: Float[Tensor, "merged token"]

    @property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """Per merged token, the tokens that went into it, in order."""
        return tuple(tuple(row.nonzero()[:, 0].tolist()) for row in self.weights)


@names_arguments
def merged_count(n_tokens: int, mode: Mode = "released", *, window: int = WINDOW_TOKENS, kept: int = KEPT) -> int:
    """Return how many tokens are left of `n_tokens`."""
    if n_tokens <= window:
        return n_tokens
    return len(_segments(n_tokens, mode, window)) * (kept + MERGED)


@names_arguments
def merge(
    hidden: Float[Tensor, "token width"],
    importance: Float[Tensor, " token"],
    mode: Mode = "released",
    *,
    keys: Float[Tensor, "token key_width"] | None = None,
    window: int = WINDOW_TOKENS,
    kept: int = KEPT,
) -> Merged:
    """Merge the tokens of one clip.

    Of every segment, the `kept` most important tokens stay, in order; of the rest, four that lie evenly apart take in
    the others, each the one that it is most alike, and follow the tokens that stay.

    Args:
        hidden: Tokens in order of time.
        importance: Their importance.
        mode: `released`: segments of half a window, likeness by cosine of `hidden`, and a token plus the mean of those
            that it took in. `paper`: segments of a window, likeness by dot product of `keys`, and the mean of a token
            and those that it took in.
        keys: Keys of the tokens, which `paper` compares; by default `hidden`.
        window: Tokens of one window; as many or fewer are left alone.
        kept: Tokens that stay in each segment.

    Raises:
        ValueError: Another mode, importance or keys of another number of tokens, or segments with too few tokens.
    """
    if mode not in ("paper", "released"):
        raise ValueError(f"mode is 'paper' or 'released', got {mode!r}")
    for name, given in (("importance", importance), ("keys", hidden if keys is None else keys)):
        if len(given) != len(hidden):
            raise ValueError(f"{name} is given for {len(given)} tokens, there are {len(hidden)}")
    if len(hidden) <= window:
        weights = torch.eye(len(hidden), dtype=hidden.dtype, device=hidden.device)
        return Merged(hidden, weights)
    segments = _segments(len(hidden), mode, window)
    if min(stop - start for start, stop in segments) < kept + MERGED:
        raise ValueError(f"a segment has at least {kept + MERGED} tokens, got segments {segments}")
    alike = functional.normalize(hidden, dim=-1) if mode == "released" or keys is None else keys
    rows = [row for start, stop in segments for row in _segment(alike, importance, start, stop, kept, mode)]
    weights = torch.zeros(len(rows), len(hidden), dtype=hidden.dtype, device=hidden.device)
    for token, row in enumerate(rows):
        for source, weight in row.items():
            weights[token, source] = weight
    return Merged(weights @ hidden, weights)


@names_arguments
def received_attention(
    queries: Float[Tensor, "token head d_head"], keys: Float[Tensor, "token head d_head"], window: int = WINDOW_TOKENS
) -> Float[Tensor, " token"]:
    """Return the paper's importance: the attention that a token receives from those of its segment, mean over heads."""
    received = []
    for start, stop in _segments(len(queries), "paper", window):
        scores = torch.einsum("qhd,khd->hqk", queries[start:stop], keys[start:stop]) * queries.shape[-1] ** -0.5
        received.append(scores.softmax(-1).mean(0).mean(0))
    return torch.cat(received)


def _segments(n_tokens: int, mode: Mode, window: int) -> list[tuple[int, int]]:
    count = 2 * n_tokens // window if mode == "released" else max(n_tokens // window, 1)
    length = n_tokens // count
    return [(i * length, n_tokens if i == count - 1 else (i + 1) * length) for i in range(count)]


def _segment(alike: Tensor, importance: Tensor, start: int, stop: int, kept: int, mode: Mode) -> list[dict[int, float]]:
    """Per token that is left of a segment, the tokens that it is made of and their weights."""
    staying = (importance[start:stop].topk(kept).indices.sort().values + start).tolist()
    rest = [token for token in range(start, stop) if token not in set(staying)]
    step = max(1, len(rest) // MERGED)
    targets = rest[::step][:MERGED]
    taken: dict[int, list[int]] = {target: [] for target in targets}
    others = [token for token in rest if token not in taken]
    if others:
        nearest = (alike[others] @ alike[targets].T).argmax(-1).tolist()
        for token, target in zip(others, nearest, strict=True):
            taken[targets[target]].append(token)
    rows = [{token: 1.0} for token in staying]
    for target, members in taken.items():
        if mode == "released":
            rows.append({target: 1.0, **dict.fromkeys(members, 1 / max(len(members), 1))})
        else:
            rows.append(dict.fromkeys([target, *members], 1 / (1 + len(members))))
    return rows
