"""Names that a network knows, and a refusal of those that it would drop without a word."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches

from torch import nn


def refuse_unknown(call: str, option: str, known: Iterable[str], kind: str = "option") -> None:
    """Refuse a keyword that is none of those that are known.

    Args:
        call: What the message calls that which was given the keyword.
        option: The keyword.
        known: Those that are known.
        kind: What the message calls a keyword.

    Raises:
        TypeError: It is not; the message has the nearest one that is.
    """
    known = sorted(set(known))
    if option in known:
        return
    near = get_close_matches(option, known, n=1)
    advice = f"did you mean {near[0]}=?" if near else f"it takes {', '.join(f'{name}=' for name in known)}"
    raise TypeError(f"{call} knows no {kind} {option}=: {advice}")


def inputs_of(network: nn.Module) -> tuple[str, ...]:
    """The inputs that a class's forward pass names."""
    parameters = inspect.signature(type(network).forward).parameters.values()
    named = [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    return tuple(name for name in named if name != "self")
