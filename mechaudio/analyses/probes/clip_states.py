"""One clip as probes see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mechaudio.audio.events import Event
from mechaudio.question import AudioQuestion
from mechaudio.temporal.draws import digest


@dataclass(frozen=True, eq=False)
class ClipStates:
    """One clip as probes see it: of each place one vector per token that is kept, and the mean over all.

    Edges are seconds at which the clip's tokens begin and end. `key` names the recording, `name` the clip or question;
    `tokens` are those that are kept, `None` for all.
    """

    states: Mapping[str, Float[np.ndarray, "token d_model"]]
    edges: Float[np.ndarray, " edge"]
    events: tuple[Event, ...]
    key: str
    name: str
    question: AudioQuestion | None
    correct: bool
    tokens: tuple[int, ...] | None = None
    means: Mapping[str, Float[np.ndarray, " d_model"]] | None = None

    def drawn(self, n: int, seed: int) -> ClipStates:
        """Keep some of its tokens only."""
        rng = np.random.default_rng(digest("tokens", seed, self.key))
        whole = len(self.edges) - 1
        tokens = tuple(sorted(rng.permutation(whole)[:n].tolist()))
        return replace(
            self,
            states={place: own[list(tokens)] for place, own in self.states.items()},
            tokens=tokens,
            means={place: own.mean(0) for place, own in self.states.items()},
        )

    def mean(self, place: str) -> Float[np.ndarray, " d_model"]:
        """The mean over all tokens of the clip."""
        return self.states[place].mean(0) if self.means is None else self.means[place]

    @property
    def middles(self) -> Float[np.ndarray, " token"]:
        """Middle of each token that is kept, in seconds."""
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        return middles if self.tokens is None else middles[list(self.tokens)]

    def first(self, label: str) -> Event | None:
        """The event of a class that begins first."""
        events = [event for event in self.events if event.label == label]
        return min(events, key=lambda event: event.onset) if events else None
