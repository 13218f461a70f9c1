"""Which questions choose and which report: what is chosen on some clips is tested on others.

Every split of the package is made here: by a hash of the clip that a question is about. Two questions of one clip are
on the same side, whatever their ids, and a clip stays on its side whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clips_of
from mechaudio.temporal.draws import digest

__all__ = ["clips_of", "in_calibration"]


@checks_arguments
def in_calibration(clips: Sequence[str], share: float = 0.5, seed: int = 0) -> Bool[np.ndarray, " question"]:
    """Draw the questions to choose on; the others are left for testing the choice.

    Each name is drawn by a hash of itself and the seed, so a clip stays on its side whatever else is asked, and so do
    two questions of one clip. The share is met in expectation, not exactly.

    Args:
        clips: Name of each question's clip (`clips_of`), or of whatever must not be on both sides.
        share: Share of the clips that are drawn, between 0 and 1.
        seed: Which draw.

    Raises:
        ValueError: For a share that is not between 0 and 1, or a blank name.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is a number between 0 and 1, such as 0.5, got {share}")
    blank = [place for place, name in enumerate(clips) if not name]
    if blank:
        raise ValueError(
            f"questions {blank[:3]} have no id or clip, so they cannot be split: set AudioQuestion(id=...)"
        )
    return np.array([digest("calibration", seed, name) < share * 2**64 for name in clips], dtype=bool)
