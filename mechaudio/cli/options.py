"""Values read from the command line, refused where they are given."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST = 1_000_000
"""Of anything that is counted, such as questions or tokens."""
LARGEST_SEED = 2**63 - 1


def folder(text: str) -> Path:
    """Read a folder to write to from the command line."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: name a folder")
    return Path(text)


def at_least(lowest: int, most: int = MOST) -> Callable[[str], int]:
    """What reads a whole number from the command line, from `lowest` to `most`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text[:40]!r}") from error
        if not lowest <= value <= most:
            bound = f"at least {lowest}" if value < lowest else f"at most {most}"
            raise argparse.ArgumentTypeError(f"must be {bound}, got {text[:40]}")
        return value

    return number


class EachOnce(argparse.Action):
    """Values of which none comes twice: a twin would count twice where tests are corrected."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option_string: str | None = None):  # noqa: ARG002
        """Keep the values."""
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            raise argparse.ArgumentError(self, f"takes each value once, and {twice[0]} comes twice")
        setattr(namespace, self.dest, values)


def finite(text: str) -> float:
    """Read a number from the command line; NaN and infinity are none."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text[:40]!r}") from error
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got {text[:40]}")
    return value
