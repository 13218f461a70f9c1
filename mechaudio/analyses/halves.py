"""Which questions choose and which report: what is chosen on some is tested on others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from mechaudio.arguments import checks_arguments
from mechaudio.temporal.draws import digest


@checks_arguments
def in_calibration(ids: Sequence[str], share: float = 0.5, seed: int = 0) -> Bool[np.ndarray, " question"]:
    """Which questions to choose heads on; the others are left for testing the choice.

    Each id is drawn by a hash of itself and the seed, so a question stays on its side whatever else is asked, and so do
    two questions of one id. The share is met in expectation, not exactly.

    Args:
        ids: Ids of the questions, or whatever must not be on both sides, such as the names of their clips.
        share: Share of the ids that are drawn, between 0 and 1.
        seed: Which draw.

    Raises:
        ValueError: For a share that is not between 0 and 1, or a blank id.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is a number between 0 and 1, such as 0.5, got {share}")
    blank = [place for place, name in enumerate(ids) if not name]
    if blank:
        raise ValueError(f"questions {blank[:3]} have no id, so they cannot be split by it: set AudioQuestion(id=...)")
    return np.array([digest("calibration", seed, name) < share * 2**64 for name in ids], dtype=bool)
