"""Warnings that point at the line of whoever calls the library, however deep inside it they arise."""

import sys
import warnings

#: Packages whose frames may stand between the line of the user's that calls the library, and a warning of ours.
BETWEEN = frozenset(("mechaudio", "contextlib", "torch", "transformers", "nnsight", "jaxtyping", "beartype"))


def warn(message: str) -> None:
    """Warn, and point at the innermost line that is neither the library's nor that of a package it works through.

    Args:
        message: What the user should know.

    Warns:
        UserWarning: Always, with the message.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package(frame.f_globals, frame.f_code.co_filename) in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _package(names: dict, file: str) -> str:
    """The package of a frame; functions that beartype writes belong to none, and say so by their file."""
    return "beartype" if file.startswith("<@beartype(") else str(names.get("__name__", "")).partition(".")[0]
