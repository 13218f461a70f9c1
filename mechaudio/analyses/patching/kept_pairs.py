"""Results of patching, written batch by batch as they are found: nothing is lost when a run is stopped.

Each batch is a result of its own, which is written whole or not at all. It says which run it is of: settings, network,
prompts and sounds. A run that is taken up reads the batches that are there and goes on behind them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.patching.joined import MeasuredPairs, PatchedPairs
from mechaudio.analyses.patching.pairs import Contrast
from mechaudio.arguments import shown
from mechaudio.results import JSON_NAME, Provenance, digest_of
from mechaudio.tracing.fingerprint import fingerprint
from mechaudio.writing import made_folder

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

FOLDER = "pairs"
Measured = TypeVar("Measured", bound=MeasuredPairs)


class KeptPairs:
    """The batches of one run, in their order.

    Args:
        out: The folder of the run; `None` to keep nothing.
        model: The opened model.
        settings: What has to be the same when the run is taken up.

    Raises:
        ValueError: With a folder, forward hooks of others on the network.
        NotADirectoryError: There is something else in the folder's place.
    """

    def __init__(self, out: str | os.PathLike | None, model: AudioLM, settings: Mapping[str, Any]):
        self.provenance = Provenance.collect(model, settings=settings)
        self._folder = None if out is None else made_folder(out, "a run") / FOLDER
        self._network = "" if out is None else _digest_of_network(model)
        self._n = 0

    def of(self, pair: Contrast, measure: Callable[[], Measured]) -> Measured:
        """Return the next batch as it was kept, or else measure it now and keep it.

        Args:
            pair: The prompts of the batch.
            measure: Measures it.

        Raises:
            ValueError: The folder holds a batch of another run, or a damaged one.
        """
        if self._folder is None:
            return measure()
        place, self._n = self._folder / f"{self._n:06d}", self._n + 1
        digest = _digest_of_prompts(pair)
        if (place / JSON_NAME).exists():
            kept = MeasuredPairs.load(place)
            self._refuse_another(kept, digest, place)
            return cast("Measured", kept)  # settings are the same, so that the same function measured it
        measured = replace(measure(), provenance=self.provenance, network=self._network, asked=digest)
        measured.save(place)
        return measured

    def _refuse_another(self, kept: MeasuredPairs, asked: str, place: Path) -> None:
        there, here = kept.provenance, self.provenance
        differing = [
            f"{name} was {shown(before)} and is {shown(now)}"
            for side in ("settings", "versions")
            for name in {**getattr(there, side), **getattr(here, side)}
            if (before := getattr(there, side).get(name)) != (now := getattr(here, side).get(name))
        ]
        differing += ["the network, its weights or its settings, is another"] if kept.network != self._network else []
        differing += ["the questions, or what is heard, are others"] if kept.asked != asked else []
        if differing:
            raise ValueError(
                f"{os.fspath(place)!r} is of another run: {'; '.join(differing)}. Take it up as it was, or give "
                "another out="
            )


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


def _digest_of_network(model: AudioLM) -> str:
    return hashlib.sha256(json.dumps(fingerprint(model), sort_keys=True).encode()).hexdigest()


def _digest_of_prompts(pair: Contrast) -> str:
    questions = [(question.id, question.choices, question.answer) for question in pair.clean.questions]
    return digest_of((tuple(questions), *(dict(side.inputs) for side in (pair.clean, pair.corrupted))))
