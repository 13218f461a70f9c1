"""Query rows that are read together: of several rows of a prompt, the mean counts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, select


def query_rows(batch: PromptBatch, queries: str) -> tuple[Where, Float[np.ndarray, "question row"]]:
    """Positions of spans that `+` joins, equally many by repeating the last, and weights that average the real ones.

    Raises:
        ValueError: A prompt without such a row.
        KeyError: No such span.
    """
    positions = select(batch, queries)
    empty = [row for row, own in enumerate(positions) if not own]
    if empty:
        raise ValueError(
            f"span {queries!r} is empty in rows {empty} of this batch: choose other query rows, or other questions"
        )
    longest = max(len(own) for own in positions)
    weights = np.array([[1 / len(own) if place < len(own) else 0.0 for place in range(longest)] for own in positions])
    if queries == "last":
        return queries, weights
    return tuple((*own, *[own[-1]] * (longest - len(own))) for own in positions), weights
