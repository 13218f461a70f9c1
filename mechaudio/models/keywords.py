"""Keywords of a network's calls: those that it knows, and which of them is the key-value cache.

The cache is told by its type. Its name depends on the version of transformers: `past_key_values`, and `cache` from 5.24
on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn
from transformers import Cache


def refuse_unknown(call: str, option: str, known: Iterable[str], kind: str = "option") -> None:
    """Refuse a keyword that is none of those that are known.

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
    return tuple(parameter.name for parameter in _parameters(network))


def tensors_of(network: nn.Module) -> tuple[str, ...]:
    """The inputs that a class's forward pass says are tensors."""
    return tuple(each.name for each in _parameters(network) if "Tensor" in str(each.annotation))


def _parameters(network: nn.Module) -> list[inspect.Parameter]:
    parameters = inspect.signature(type(network).forward).parameters.values()
    named = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    return [each for each in named if each.name != "self"]


def cache_name(arguments: Mapping[str, Any]) -> str | None:
    """Return the name of the argument that is a key-value cache, `None` if none of them is."""
    return next((name for name, value in arguments.items() if isinstance(value, Cache)), None)


def with_cache(arguments: Mapping[str, Any], cache: Cache | None) -> dict[str, Any]:
    """Put another key-value cache, or none, in the place of the one among the arguments.

    Arguments without a cache stay as they are.
    """
    name = cache_name(arguments)
    return dict(arguments) if name is None else {**arguments, name: cache}
