"""Whether somebody speaks in a clip."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float

RATE = 16_000


class Silero:
    """The detector of speech that the release uses; it needs the package silero-vad, which holds its weights.

    ```python
    model.processor.finds_speech = Silero()
    ```
    """

    def __init__(self) -> None:
        """Load the detector.

        Raises:
            ImportError: The package is not installed.
        """
        if find_spec("silero_vad") is None:
            raise ImportError(
                "Silero() needs the package silero-vad: pip install 'mechaudio[desta]'. Any function of samples that "
                "says whether somebody speaks will do as well"
            )
        from silero_vad import get_speech_timestamps, load_silero_vad

        self._detector, self._stretches = load_silero_vad(), get_speech_timestamps

    def __call__(self, samples: Float[np.ndarray, " samples"]) -> bool:
        """Return True where somebody speaks in a clip at 16 kHz."""
        return bool(self._stretches(torch.from_numpy(np.ascontiguousarray(samples)), self._detector))
