"""One run at a time for every network: edits that are registered for one run must not meet another.

A network may be opened several times, and called from several threads. Whoever prepares a run has the network until the
run is over; whoever comes meanwhile is refused at once, not kept waiting, and told who has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
