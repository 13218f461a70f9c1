"""Results of patching, written batch by batch as they are found (`mechaudio.analyses.kept_batches`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.kept_batches import KeptBatches
from mechaudio.analyses.patching.joined import MeasuredPairs, PatchedPairs
from mechaudio.analyses.patching.pairs import Contrast, contrasts
from mechaudio.models.batch import PromptBatch
from mechaudio.models.targets import Targets
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance, digest_of
from mechaudio.tracing.audio_lm import AudioLM

FOLDER = "pairs"
Measured = TypeVar("Measured", bound=MeasuredPairs)


def measured_pairs(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"],
    measure: Callable[[Contrast, Provenance], Measured],
    *,
    targets: Targets,
    settings: Mapping[str, Any],
    out: str | os.PathLike | None = None,
    batch_size: int | None,
    what: str,
    progress: bool | None,
) -> list[Measured]:
    """Measure pairs batch by batch, but for the batches that are kept.

    Args:
        model: The opened model.
        clean: As `contrast` takes them.
        corrupted: The same.
        measure: Measures a batch, given the provenance of the run.
        targets: What is measured behind the prompts.
        settings: What else has to be the same for a run to be taken up.
        out: The folder of the run; `None` to keep nothing.
        batch_size: Pairs at a time.
        what: Stands before the progress bar.
        progress: Draw a progress bar.

    Raises:
        ValueError: With a folder, forward hooks of others on the network; it holds a batch of another run, or a damaged
            one; and as `contrasts`.
        NotADirectoryError: There is something else in the folder's place.
    """
    run = {**settings, **targets.given, "batch_size": batch_size}
    kept = KeptBatches(None if out is None else Path(out) / FOLDER, model, run)
    pairs = contrasts(
        model,
        clean,
        corrupted=corrupted,
        targets=targets,
        batch_size=batch_size,
        batch_positions=kept.most_positions,
        what=what,
        progress=progress,
    )
    return kept.measured(pairs, lambda pair: measure(pair, kept.provenance), asked=_digest_of_prompts)


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
