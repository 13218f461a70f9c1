"""Whether somebody speaks in a clip."""

from __future__ import annotations

import warnings
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
        if not self.installed():
            raise ImportError(
                "Silero() needs the package silero-vad: pip install 'mechaudio[desta]'. Any function of samples that "
                "says whether somebody speaks will do as well"
            )
        n_threads = torch.get_num_threads()
        try:
            with warnings.catch_warnings():
                # The package reads its weights in a way that PyTorch is about to give up.
                warnings.filterwarnings("ignore", r".*torch\.jit\.load", DeprecationWarning)
                from silero_vad import get_speech_timestamps, load_silero_vad

                self._detector, self._stretches = load_silero_vad(), get_speech_timestamps
        finally:
            torch.set_num_threads(n_threads)  # importing it sets one, for all that the process does from then on

    @staticmethod
    def installed() -> bool:
        """Return whether the package is there."""
        return find_spec("silero_vad") is not None

    def __reduce__(self) -> tuple[type[Silero], tuple[()]]:
        """Pickle and copy it as a detector to be loaded again: what it holds can be neither."""
        return Silero, ()

    def __call__(self, samples: Float[np.ndarray, " samples"]) -> bool:
        """Return True where somebody speaks in a clip at 16 kHz, for a quarter of a second at the least."""
        return bool(self._stretches(torch.tensor(samples, dtype=torch.float32), self._detector))
