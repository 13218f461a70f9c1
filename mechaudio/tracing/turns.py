"""One run at a time for every network, and what runs of several networks change together.

A network may be opened several times, and called from several threads. Edits that are registered for one run must not
meet another: whoever prepares a run has the network until the run is over; whoever comes meanwhile is refused at once,
not kept waiting, and told who has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import nn

if TYPE_CHECKING:
    from mechaudio.tracing.exchange import Exchange

#: Guards the table below and whatever else several threads share for a moment.
MUTEX = threading.RLock()
_TAKEN: WeakKeyDictionary[nn.Module, Turn] = WeakKeyDictionary()
#: What is changed for runs that are under way, by its key -> what puts it back, and how many they are.
_CHANGED: dict[Hashable, tuple[Callable[[], object], int]] = {}

OTHER_THREAD = (
    "this network is running in another thread, and one network does one run at a time: edits of two would mix. Wait "
    "for that thread, or load the network once per thread; prompts that are to run together go into one batch, "
    "variants into ma.sweep"
)


@dataclass(frozen=True, eq=False)
class Turn:
    """Who has a network: a thread, and the exchange that it was taken by."""

    thread: int
    exchange: Exchange


def has_turn(network: nn.Module, exchange: Exchange) -> bool:
    """Return whether this thread has the network already, by this exchange."""
    turn = _TAKEN.get(network)
    return turn is not None and turn.thread == threading.get_ident() and turn.exchange is exchange


@contextmanager
def turn_of(network: nn.Module, exchange: Exchange) -> Iterator[None]:
    """Have the network to oneself while open.

    Raises:
        RuntimeError: Another thread has it, or this one, in a run of its own.
    """
    with MUTEX:
        turn = _TAKEN.get(network)
        if turn is None:
            _TAKEN[network] = Turn(threading.get_ident(), exchange)
    if turn is not None:
        raise RuntimeError(_refusal(turn, exchange))
    try:
        yield
    finally:
        with MUTEX:
            del _TAKEN[network]


@contextmanager
def changed_for_runs(key: Hashable, change: Callable[[], Callable[[], object]]) -> Iterator[None]:
    """Change what all threads share while any run wants it so, in whatever order they end.

    Args:
        key: What is changed.
        change: Changes it, and returns a function that puts back what was there.
    """
    with MUTEX:
        put_back, n_runs = _CHANGED.get(key) or (change(), 0)
        _CHANGED[key] = put_back, n_runs + 1
    try:
        yield
    finally:
        with MUTEX:
            put_back, n_runs = _CHANGED.pop(key)
            if n_runs > 1:
                _CHANGED[key] = put_back, n_runs - 1
            else:
                put_back()


def _refusal(turn: Turn, exchange: Exchange) -> str:
    if turn.thread != threading.get_ident():
        return OTHER_THREAD
    if turn.exchange is not exchange:
        return (
            "this network is running already, opened as another AudioLM: one network does one run at a time. Run the "
            "two after one another"
        )
    return (
        "the model cannot run while it runs already: what an intervention's edits() needs from a run of its own has to "
        "be there before, so make it first and hand it to the intervention"
    )
