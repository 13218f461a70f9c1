"""Results of patching, written batch by batch as they are found (`mechaudio.analyses.kept_batches`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.kept_batches import KeptBatches
from mechaudio.analyses.patching.joined import MeasuredPairs, PatchedPairs
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.results import digest_of
from mechaudio.tracing.audio_lm import AudioLM

FOLDER = "pairs"
Measured = TypeVar("Measured", bound=MeasuredPairs)


class KeptPairs(KeptBatches):
    """The batches of pairs of one run, in their order.

    Args:
        out: The folder of the run; `None` to keep nothing.
        model: The opened model.
        settings: What has to be the same when the run is taken up.

    Raises:
        ValueError: With a folder, forward hooks of others on the network.
        NotADirectoryError: There is something else in the folder's place.
    """

    def __init__(self, out: str | os.PathLike | None, model: AudioLM, settings: Mapping[str, Any]):
        super().__init__(None if out is None else Path(out) / FOLDER, model, settings)

    def of(self, pairs: Iterable[Contrast], measure: Callable[[Contrast], Measured]) -> list[Measured]:
        """Read the pairs that are kept, and measure and keep the others.

        Args:
            pairs: The prompts of each batch, in their order.
            measure: Measures a batch.

        Raises:
            ValueError: The folder holds a batch of another run, or a damaged one.
        """
        return self.measured(pairs, measure, asked=_digest_of_prompts)


def patched_pairs(
    pair: Contrast,
    logits: Float[np.ndarray, "*place pair choice"],
    clean: Float[np.ndarray, "pair choice"],
    corrupted: Float[np.ndarray, "pair choice"],
    **more: Any,
) -> PatchedPairs:
    """The answers of the pairs of a batch, with what is asked of them.

    Args:
        pair: The prompts.
        logits: With each place patched.
        clean: In the clean runs.
        corrupted: In the corrupted runs.
        **more: Other fields of `PatchedPairs`.
    """
    return PatchedPairs(
        logits=logits,
        clean=clean,
        corrupted=corrupted,
        right=pair.right,
        texts=pair.texts,
        wrong=pair.wrong(clean, corrupted),
        ids=pair.ids,
        clip_keys=pair.clip_keys,
        **more,
    )


def _digest_of_prompts(pair: Contrast) -> str:
    questions = [(question.id, question.choices, question.answer) for question in pair.clean.questions]
    return digest_of((tuple(questions), pair.clean.aims, *(dict(side.inputs) for side in (pair.clean, pair.corrupted))))
