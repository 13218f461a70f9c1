"""Requests of a run, as plain tables: what to change, to show and to serve, by location.

They are filled through the verbs of the exchange and read where a value passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechaudio.tracing.score_edit import BoundScoreEdit, Way

if TYPE_CHECKING:
    from mechaudio.tracing.attention_call import Call
    from mechaudio.tracing.mass import KeyGroups

Change = Callable[[Any], Any]
#: Is told of an edit of scores: the way taken, and the last query's scores before and after.
Report = Callable[[Way, Tensor, Tensor], None]
#: Is given the call that transformers makes, queries, keys and values.
Attend = Callable[["Call", Tensor, Tensor, Tensor], Any]


@dataclass(frozen=True)
class RowRequest:
    """Query rows of one layer's attention that a run wants on their own.

    Attributes:
        name: What they are served under.
        positions: Their positions in the padded prompt.
        last: Whether they are the last position, in the prompt and at every new token.
        n_positions: Number of positions of the prompts: where a call has fewer, they are the newest ones.
    """

    name: str
    positions: Int[Tensor, "batch query"]
    last: bool
    n_positions: int

    def among(self, n_rows: int, n_there: int, device: torch.device, step: int) -> Int[Tensor, "batch query"] | None:
        """Find them in a call with so many positions: those of the prompt, or the newest one while generating."""
        if step <= 0 and n_there >= self.n_positions:
            return self.positions.to(device, non_blocking=True)
        return torch.full((n_rows, 1), n_there - 1, device=device) if self.last else None


@dataclass
class AttentionRequest:
    """The requests to one attention module.

    Attributes:
        queries: The query rows wanted there, by name.
        groups: The groups of keys whose attention mass is measured.
        score_edits: The edits of scores that fused attention carries out, in their order, each with who is told of it.
        instead: What computes attention; the newest, where several want to.
        watchers: Who is shown the call, and queries, keys and values after every edit.
    """

    queries: dict[str, RowRequest] = field(default_factory=dict)
    groups: list[KeyGroups] = field(default_factory=list)
    score_edits: list[tuple[BoundScoreEdit, Report]] = field(default_factory=list)
    instead: list[Attend] = field(default_factory=list)
    watchers: list[Attend] = field(default_factory=list)


@dataclass
class Requests:
    """The requests of a run, by location.

    Attributes:
        changes: Functions from what is served to what shall be served, applied in turn.
        watchers: Functions that are shown what is served, after every change.
        attention: What is asked of attention modules and of output projections.
    """

    changes: dict[str, list[Change]] = field(default_factory=dict)
    watchers: dict[str, list[Callable[[Any], None]]] = field(default_factory=dict)
    attention: dict[str, AttentionRequest] = field(default_factory=dict)

    def wants(self, location: str) -> bool:
        """Return whether anybody changes or watches what is served at a location."""
        return bool(self.changes.get(location) or self.watchers.get(location))

    def inside(self, attention: str) -> bool:
        """Return whether something is asked inside an attention module."""
        return attention in self.attention or any(where.startswith(f"{attention}.") for where in self.changes)


class Handle:
    """Takes back what was asked, as the handles of torch's hooks do."""

    def __init__(self, asked: list[Any], what: Any):
        """Put it behind what was asked before, to be taken back later."""
        asked.append(what)
        self._asked, self._what = asked, what

    def remove(self) -> None:
        """Take it back; where it is gone already, nothing happens."""
        self._asked[:] = [other for other in self._asked if other is not self._what]
