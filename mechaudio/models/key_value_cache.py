"""The key-value cache among the arguments of a call, told by its type.

Its name depends on the version of transformers: `past_key_values`, and `cache` from 5.24 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import Cache


def cache_name(arguments: Mapping[str, Any]) -> str | None:
    """Return the name of the argument that is a key-value cache, `None` if none of them is."""
    return next((name for name, value in arguments.items() if isinstance(value, Cache)), None)


def with_cache(arguments: Mapping[str, Any], cache: Cache | None) -> dict[str, Any]:
    """Put another key-value cache, or none, in the place of the one among the arguments.

    Arguments without a cache stay as they are.
    """
    name = cache_name(arguments)
    return dict(arguments) if name is None else {**arguments, name: cache}
