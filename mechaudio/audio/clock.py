"""Which stretch of the recording each audio token hears.

Conventions: seconds from the start of the clip outside, whole samples inside (35 * 0.04 is not 1.4 in floating point),
and a time in seconds means the sample nearest to it; token indices count audio tokens only, from 0; intervals are
`[onset, offset)`.
"""

import operator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from mechaudio.showing import Shown


@dataclass(frozen=True, eq=False, repr=False)
class TokenClock(Shown):
    """Token `i` hears samples `edges[i]` up to, not including, `edges[i + 1]`.

    Attributes:
        edges: whole samples, strictly increasing, one more than there are tokens; kept as read-only int64.
        sample_rate: samples per second that the edges are counted in.

    Raises:
        TypeError: for edges or a rate that are not whole numbers.
        ValueError: for fewer than two edges, a negative one, edges that do not increase, or a rate below 1.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    edges: Int[np.ndarray, " n_tokens_plus_1"]
    sample_rate: int = 16_000

    def __post_init__(self):
        object.__setattr__(self, "sample_rate", _positive("sample_rate", self.sample_rate))
        edges = np.asarray(self.edges)
        if edges.dtype.kind not in "iu":
            raise TypeError(
                f"edges of a clock are whole samples, got {edges.dtype}: multiply seconds by the sample rate and round"
            )
        if edges.ndim != 1 or len(edges) < 2:
            raise ValueError(f"edges of a clock are one row of at least two samples, got shape {edges.shape}")
        edges = edges.astype(np.int64)  # a copy, so that the caller's array stays writable
        if edges[0] < 0:
            raise ValueError(f"edges of a clock count samples from 0, got {edges[0]} as the first")
        stuck = np.flatnonzero(np.diff(edges) <= 0)
        if len(stuck):
            i = int(stuck[0])
            raise ValueError(f"edges of a clock increase strictly, got {edges[i]} then {edges[i + 1]} around token {i}")
        edges.flags.writeable = False
        object.__setattr__(self, "edges", edges)

    @classmethod
    def uniform(
        cls, n_tokens: SupportsIndex, samples_per_token: SupportsIndex, sample_rate: SupportsIndex = 16_000
    ) -> "TokenClock":
        """Tokens of equal length from the start of the clip: 40 ms are 640 samples at 16 kHz."""
        return cls.from_chunks(n_tokens, samples_per_token, 1, sample_rate)

    @classmethod
    def from_chunks(
        cls,
        n_tokens: SupportsIndex,
        samples_per_chunk: SupportsIndex,
        tokens_per_chunk: SupportsIndex,
        sample_rate: SupportsIndex = 16_000,
    ) -> "TokenClock":
        """Tokens that divide chunks of equal length evenly, to the nearest sample: 13 tokens per 16,000 samples, say.

        Args:
            n_tokens: how many tokens there are; the last chunk may be begun only.
            samples_per_chunk: length of a chunk.
            tokens_per_chunk: how many tokens a whole chunk gives, at most one per sample.
            sample_rate: samples per second.

        Raises:
            ValueError: for a number below 1, or more tokens than samples in a chunk.
        """
        count = np.arange(_positive("n_tokens", n_tokens) + 1, dtype=np.int64)
        samples, tokens = (
            _positive("samples_per_chunk", samples_per_chunk),
            _positive("tokens_per_chunk", tokens_per_chunk),
        )
        if tokens > samples:
            raise ValueError(f"a token hears at least one sample, got {tokens} tokens for {samples} samples")
        return cls((2 * count * samples + tokens) // (2 * tokens), sample_rate)

    @property
    def n_tokens(self) -> int:
        """How many audio tokens there are."""
        return len(self.edges) - 1

    @property
    def edges_seconds(self) -> Float[np.ndarray, " n_tokens_plus_1"]:
        """The edges in seconds."""
        return self.edges / self.sample_rate

    def seconds(self, token: SupportsIndex) -> tuple[float, float]:
        """When a token begins and ends to hear, in seconds; -1 is the last token.

        Raises:
            IndexError: for a token that there is not.
        """
        index = operator.index(token)
        if not -self.n_tokens <= index < self.n_tokens:
            raise IndexError(f"there is no audio token {index}: there are {self._covered()}")
        index %= self.n_tokens
        return float(self.edges[index] / self.sample_rate), float(self.edges[index + 1] / self.sample_rate)

    def tokens_between(self, onset: float | int, offset: float | int) -> slice:
        """The tokens that hear any part of `[onset, offset)` seconds; an empty slice where none does.

        Raises:
            ValueError: unless 0 <= onset < offset.
        """
        if not 0 <= onset < offset < np.inf:
            raise ValueError(f"need 0 <= onset < offset in seconds, got {onset=}, {offset=}")
        begin = round(onset * self.sample_rate)
        end = max(round(offset * self.sample_rate), begin + 1)
        first = max(int(np.searchsorted(self.edges, begin, side="right")) - 1, 0)
        stop = min(int(np.searchsorted(self.edges, end, side="left")), self.n_tokens)
        return slice(min(first, stop), stop)

    def token_at(self, time: float | int) -> int:
        """The token that hears a moment, in seconds.

        Raises:
            ValueError: for a time that no token hears.
        """
        first, last = float(self.edges[0] / self.sample_rate), float(self.edges[-1] / self.sample_rate)
        if not first <= time < last:
            raise ValueError(f"no audio token hears {time} s: there are {self._covered()}")
        sample = min(
            round(time * self.sample_rate), int(self.edges[-1]) - 1
        )  # the end itself rounds past the last token
        return int(np.searchsorted(self.edges, sample, side="right")) - 1

    def _covered(self) -> str:
        first, last = self.edges_seconds[[0, -1]]
        return f"{self.n_tokens} audio tokens, 0 to {self.n_tokens - 1}, from {first:.2f} to {last:.2f} s"

    def __repr__(self) -> str:
        return f"TokenClock({self._covered()})"


def _positive(name: str, number: Any) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} is a whole number, got {number!r}") from None
    if whole < 1:
        raise ValueError(f"{name} is at least 1, got {whole}")
    return whole
