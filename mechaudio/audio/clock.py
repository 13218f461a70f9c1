"""Which stretch of the recording each audio token hears.

Conventions: seconds from the start of the clip outside, whole samples inside (35 * 0.04 is not 1.4 in floating point),
and a time in seconds means the sample nearest to it; token indices count audio tokens only, from 0; intervals are
`[onset, offset)`.
"""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from mechaudio.arguments import n_of
from mechaudio.showing import Shown


@dataclass(frozen=True, eq=False, repr=False)
class TokenClock(Shown):
    """Token `i` hears samples `edges[i]` up to, not including, `edges[i + 1]`.

    Attributes:
        edges: Whole samples, strictly increasing, one more than there are tokens; kept as read-only int64.
        sample_rate: Samples per second that the edges are counted in.

    Raises:
        TypeError: For edges or a rate that are not whole numbers.
        ValueError: For fewer than two edges, a negative one, edges that do not increase, or a rate below 1.
    """

    __no_type_check__ = True  # of the constructor alone: it takes more than it keeps, and refuses the rest with advice

    edges: Int[np.ndarray, " n_tokens_plus_1"]
    sample_rate: int = 16_000

    if TYPE_CHECKING:  # what it takes, beside what it keeps

        def __init__(self, edges: Any, sample_rate: SupportsIndex = 16_000) -> None: ...

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
            n_tokens: How many tokens there are; the last chunk may be begun only.
            samples_per_chunk: Length of a chunk.
            tokens_per_chunk: How many tokens a whole chunk gives, at most one per sample.
            sample_rate: Samples per second.

        Raises:
            ValueError: For a number below 1, or more tokens than samples in a chunk.
        """
        count = np.arange(_positive("n_tokens", n_tokens) + 1, dtype=np.int64)
        samples = _positive("samples_per_chunk", samples_per_chunk)
        tokens = _positive("tokens_per_chunk", tokens_per_chunk)
        if tokens > samples:
            raise ValueError(
                f"a token hears at least one sample, got {n_of(tokens, 'token')} for {n_of(samples, 'sample')}"
            )
        return cls((2 * count * samples + tokens) // (2 * tokens), sample_rate)

    @property
    def n_tokens(self) -> int:
        """The number of audio tokens."""
        return len(self.edges) - 1

    @property
    def contiguous(self) -> bool:
        """True if every token hears one stretch, which begins where that of the token before it ends."""
        return True

    @property
    def end(self) -> float:
        """The end of the last stretch that a token hears, in seconds."""
        return float(self.edges[-1] / self.sample_rate)

    def intervals(self, token: SupportsIndex) -> tuple[tuple[float, float], ...]:
        """The stretches that a token hears, in seconds: one here; several or none in a `ScatteredClock`.

        Raises:
            IndexError: For a token that there is not.
        """
        return (self.seconds(token),)

    def tokens_hearing(self, onset: float | int, offset: float | int) -> tuple[int, ...]:
        """The tokens that hear any part of `[onset, offset)` seconds, in order.

        Raises:
            ValueError: Unless 0 <= onset < offset.
        """
        return tuple(range(self.n_tokens)[self.tokens_between(onset, offset)])

    def first(self, n_tokens: int) -> "TokenClock":
        """The clock of the first `n_tokens` tokens, at least one."""
        return TokenClock(self.edges[: n_tokens + 1], self.sample_rate)

    @property
    def edges_seconds(self) -> Float[np.ndarray, " n_tokens_plus_1"]:
        """The edges in seconds."""
        return self.edges / self.sample_rate

    def seconds(self, token: SupportsIndex) -> tuple[float, float]:
        """When a token begins and ends to hear, in seconds; -1 is the last token.

        Raises:
            IndexError: For a token that there is not.
        """
        index = self._index(token)
        return float(self.edges[index] / self.sample_rate), float(self.edges[index + 1] / self.sample_rate)

    def tokens_between(self, onset: float | int, offset: float | int) -> slice:
        """The tokens that hear any part of `[onset, offset)` seconds; an empty slice where none does.

        Raises:
            ValueError: Unless 0 <= onset < offset.
        """
        begin, end = self._samples(onset, offset)
        first = max(int(np.searchsorted(self.edges, begin, side="right")) - 1, 0)
        stop = min(int(np.searchsorted(self.edges, end, side="left")), self.n_tokens)
        return slice(min(first, stop), stop)

    def token_at(self, time: float | int) -> int:
        """The token that hears a moment, in seconds.

        Raises:
            ValueError: For a time that no token hears.
        """
        first, last = float(self.edges[0] / self.sample_rate), float(self.edges[-1] / self.sample_rate)
        if not first <= time < last:
            raise ValueError(f"no audio token hears {time} s: there are {self._covered()}")
        # The end itself rounds past the last token.
        sample = min(round(time * self.sample_rate), int(self.edges[-1]) - 1)
        return int(np.searchsorted(self.edges, sample, side="right")) - 1

    def _index(self, token: SupportsIndex) -> int:
        index = operator.index(token)
        if not -self.n_tokens <= index < self.n_tokens:
            raise IndexError(f"there is no audio token {index}: there are {self._covered()}")
        return index % self.n_tokens

    def _samples(self, onset: float | int, offset: float | int) -> tuple[int, int]:
        """The first sample of a stretch, and the one behind its last: one at the least."""
        if not 0 <= onset < offset < np.inf:
            raise ValueError(f"need 0 <= onset < offset in seconds, got {onset=}, {offset=}")
        begin = round(onset * self.sample_rate)
        return begin, max(round(offset * self.sample_rate), begin + 1)

    def _covered(self) -> str:
        first, last = self.edges_seconds[[0, -1]]
        return f"{n_of(self.n_tokens, 'audio token')}, 0 to {self.n_tokens - 1}, from {first:.2f} to {last:.2f} s"

    def __repr__(self) -> str:
        return f"TokenClock({self._covered()})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class ScatteredClock(TokenClock):
    """Tokens that hear several stretches of the clip, as merged ones do, or none of their own.

    What has one answer only where every token hears one stretch after the other, raises ValueError: `edges`,
    `tokens_between`, `token_at`, and `seconds` of a token that hears several stretches or none.

    Attributes:
        heard: Per token, the stretches that it hears, `[first sample, one behind the last)`, in order and apart.
        why: Why tokens hear none or several; a sentence without its full stop.
    """

    __no_type_check__ = True

    heard: tuple[tuple[tuple[int, int], ...], ...] = ()
    why: str = ""

    def __init__(self, heard: Any, sample_rate: SupportsIndex = 16_000, *, why: str):
        stretches = tuple(tuple((operator.index(on), operator.index(off)) for on, off in token) for token in heard)
        if not stretches:
            raise ValueError("a clock has at least one token, got none")
        for token, own in enumerate(stretches):
            flat = [sample for stretch in own for sample in stretch]
            apart = all(after[0] > before[1] for before, after in pairwise(own))
            if flat and (flat[0] < 0 or not apart or any(on >= off for on, off in own)):
                raise ValueError(f"stretches are in order and apart, each of at least one sample; token {token}: {own}")
        object.__setattr__(self, "sample_rate", _positive("sample_rate", sample_rate))
        object.__setattr__(self, "heard", stretches)
        object.__setattr__(self, "why", why)

    @classmethod
    def timeless(cls, n_tokens: SupportsIndex, sample_rate: SupportsIndex = 16_000, *, why: str) -> "ScatteredClock":
        """Tokens that hear no stretch of their own."""
        return cls(((),) * _positive("n_tokens", n_tokens), sample_rate, why=why)

    @classmethod
    def from_windows(
        cls, windows: Any, samples_per_window: SupportsIndex, sample_rate: SupportsIndex = 16_000, *, why: str
    ) -> "ScatteredClock":
        """Tokens that hear whole windows of a clip, which are equally long and follow one another from its start.

        Args:
            windows: Per token, the numbers of its windows.
            samples_per_window: Length of a window.
            sample_rate: Samples per second.
            why: Why tokens hear several.
        """
        length = _positive("samples_per_window", samples_per_window)
        per_token = []
        for own in windows:
            stretches: list[tuple[int, int]] = []
            for window in sorted(set(own)):
                if stretches and stretches[-1][1] == window * length:
                    stretches[-1] = (stretches[-1][0], (window + 1) * length)
                else:
                    stretches.append((window * length, (window + 1) * length))
            per_token.append(tuple(stretches))
        return cls(tuple(per_token), sample_rate, why=why)

    @property
    def n_tokens(self) -> int:
        """The number of audio tokens."""
        return len(self.heard)

    @property
    def contiguous(self) -> bool:
        """True if every token hears one stretch, which begins where that of the token before it ends: no."""
        return False

    @property
    def end(self) -> float:
        """The end of the last stretch that a token hears, in seconds; nan where tokens hear none."""
        return max((off for own in self.heard for _, off in own), default=np.nan) / self.sample_rate

    @property
    def edges(self) -> Int[np.ndarray, " n_tokens_plus_1"]:
        """Refused: tokens do not follow one another.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"these audio tokens do not follow one another in time: {self.why}. Ask intervals(token)")

    def intervals(self, token: SupportsIndex) -> tuple[tuple[float, float], ...]:
        """The stretches that a token hears, in seconds, in order; none for a token that has no time of its own.

        Raises:
            IndexError: For a token that there is not.
        """
        rate = self.sample_rate
        return tuple((on / rate, off / rate) for on, off in self.heard[self._index(token)])

    def seconds(self, token: SupportsIndex) -> tuple[float, float]:
        """When a token begins and ends to hear, in seconds, where it hears one stretch.

        Raises:
            IndexError: For a token that there is not.
            ValueError: For one that hears several stretches, or none.
        """
        stretches = self.intervals(token)
        if len(stretches) != 1:
            count = n_of(len(stretches), "stretch") if stretches else "no stretch of its own"
            raise ValueError(f"audio token {operator.index(token)} hears {count}: {self.why}. Ask intervals(token)")
        return stretches[0]

    def tokens_hearing(self, onset: float | int, offset: float | int) -> tuple[int, ...]:
        """The tokens that hear any part of `[onset, offset)` seconds, in order.

        Raises:
            ValueError: Unless 0 <= onset < offset, or if no token hears a stretch of its own.
        """
        begin, stop = self._samples(onset, offset)
        if not any(self.heard):
            raise ValueError(f"no audio token has a time of its own: {self.why}")
        return tuple(token for token, own in enumerate(self.heard) if any(on < stop and off > begin for on, off in own))

    def first(self, n_tokens: int) -> "ScatteredClock":
        """The clock of the first `n_tokens` tokens, at least one."""
        return self.of(range(n_tokens))

    def of(self, tokens: Iterable[int]) -> "ScatteredClock":
        """The clock of some of the tokens, in the order given."""
        return ScatteredClock(tuple(self.heard[token] for token in tokens), self.sample_rate, why=self.why)

    def _covered(self) -> str:
        several = sum(len(own) > 1 for own in self.heard)
        timeless = sum(not own for own in self.heard)
        last = self.n_tokens - 1
        return f"{n_of(self.n_tokens, 'audio token')}, 0 to {last}, {several} of several stretches, {timeless} of none"

    def __repr__(self) -> str:
        return f"ScatteredClock({self._covered()})"


# What a clock of the kind is kept by: its edges are refused.
del ScatteredClock.__dataclass_fields__["edges"]


def _positive(name: str, number: Any) -> int:
    try:
        whole = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} is a whole number, got {number!r}") from None
    if whole < 1:
        raise ValueError(f"{name} is at least 1, got {whole}")
    return whole
