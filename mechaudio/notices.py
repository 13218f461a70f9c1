"""Warnings that point at the line of whoever calls the library, however deep inside it they arise.

Filters of Python's warnings are those of all threads at once: what one thread ignores for a moment, others lose, and
two that do so at a time may leave each other's filters behind for good. So the library withholds its own warnings by
other means, in the thread that asks for it alone, and filters those of other packages in the main thread only.
"""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Packages whose frames may stand between the line of the user's that calls the library, and a warning of ours.
BETWEEN = frozenset(("mechaudio", "contextlib", "torch", "transformers", "nnsight", "jaxtyping", "beartype"))

#: Who withholds warnings in this context: the beginnings of their messages, none for all, and where they go instead.
_withheld: ContextVar[tuple[tuple[str, ...], list[str]] | None] = ContextVar("withheld", default=None)


@contextmanager
def withheld(*beginnings: str) -> Iterator[list[str]]:
    """Give warnings of the library as a list of messages while open, in place of warning, in this thread alone.

    Args:
        *beginnings: Only messages that begin so; by default all.
    """
    messages: list[str] = []
    token = _withheld.set((beginnings, messages))
    try:
        yield messages
    finally:
        _withheld.reset(token)


@contextmanager
def ignored(message: str) -> Iterator[None]:
    """Ignore a warning of another package while open; in the main thread alone, others show it.

    Args:
        message: A pattern that its message begins with.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


def warn(message: str) -> None:
    """Warn, and point at the innermost line that is neither the library's nor that of a package it works through.

    Args:
        message: What the user should know.

    Warns:
        UserWarning: With the message, unless whoever calls has it `withheld`.
    """
    if (taken := _withheld.get()) is not None:
        beginnings, messages = taken
        if not beginnings or message.startswith(beginnings):
            messages.append(message)
            return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package(frame.f_globals, frame.f_code.co_filename) in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _package(names: dict, file: str) -> str:
    """The package of a frame; functions that beartype writes belong to none, and say so by their file."""
    return "beartype" if file.startswith("<@beartype(") else str(names.get("__name__", "")).partition(".")[0]
