"""Everything that a question's two passes give: with its clip, and with silence of the same length.

The attention row of the last position, the answers, and what hearing adds there, in two forward passes per question. It
is what heads are chosen from, scored on and steered with; nothing of it needs a pass of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mechaudio.analyses.attention_and_answers import ATTENTION, AttentionAndAnswers, Measured, refuse_unknown
from mechaudio.analyses.steering_directions import (
    POINTS,
    Differences,
    SteeringDirections,
    difference,
    heard_and_silent,
)
from mechaudio.analyses.streaming import Questions, prepared_batches
from mechaudio.arguments import checks_arguments
from mechaudio.labelled import joined_along
from mechaudio.results import Result
from mechaudio.tracing.clean_run import CleanRun, KeptRuns, clean_run
from mechaudio.tracing.run import run

if TYPE_CHECKING:
    import xarray

    from mechaudio.models.batch import PromptBatch
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedPasses(Result):
    """What the two passes gave.

    Attributes:
        heard: Audio attention and answers with the clip.
        silent: The same with silence.
        directions: Audio minus silence at the last prompt position.
    """

    heard: AttentionAndAnswers
    silent: AttentionAndAnswers
    directions: SteeringDirections

    _table_axes = ("condition", "question", "layer", "head")

    def to_xarray(self) -> "xarray.Dataset":
        """Return what both passes gave, with an axis `condition`; directions are in `directions.to_xarray()`."""
        passes = {one.condition: one.to_xarray() for one in (self.heard, self.silent)}
        return joined_along("condition", passes).assign_attrs(self._attrs)


class Pairs:
    """Paired passes, batch by batch."""

    def __init__(self) -> None:
        """Begin with none."""
        self._heard, self._silent, self._found = Measured("audio"), Measured("silence"), Differences()

    def ask(self, model: AudioLM, batches: tuple[PromptBatch, PromptBatch]) -> tuple[CleanRun, SteeringDirections]:
        """Ask some questions with their clips and with silence.

        Args:
            model: The opened model.
            batches: Their prompts, as `heard_and_silent` makes them.

        Returns:
            The run with the clips, which variants can continue from, and the directions of these questions.

        Raises:
            ValueError: As `paired_passes`.
        """
        asked = batches[0].questions
        refuse_unknown(asked)
        heard = clean_run(model, batches[0], record=[ATTENTION, *POINTS])
        silent = run(model, batches[1], record=[ATTENTION, *POINTS], logits="last")
        self._heard.add(heard.batch, heard.cache, heard.logits)
        self._silent.add(silent.batch, silent.cache, silent.logits[:, -1])
        own, found = Differences(), difference(model, heard.cache, silent.cache)
        for differences in (own, self._found):
            differences.add(found, asked)
        return heard, own.joined(model)

    def joined(self, model: AudioLM) -> PairedPasses:
        """All of them.

        Raises:
            ValueError: For ids that are blank or come twice.
        """
        directions = self._found.joined(model)
        return PairedPasses(
            heard=self._heard.joined(model),
            silent=self._silent.joined(model),
            directions=directions,
            provenance=directions.provenance,
        )


@checks_arguments
def paired_passes(
    model: AudioLM,
    questions: Questions,
    *,
    kept: KeptRuns | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> PairedPasses:
    """Ask every question twice, with its clip and with silence, and keep what heads and directions are made of.

    ```python
    passes = ma.analyses.paired_passes(model, questions)
    scores = ma.analyses.score_heads(passes.heard)
    passes.directions.layer_guided(scores.top(20), 1.0)
    ```

    Args:
        model: The opened model.
        questions: Any number of them, each with its right answer and an id of its own. Clips are read
            by another thread, a batch ahead.
        kept: Takes the runs with the clips, as far as there is room, so that `steering_sweep` can continue from them.
        batch_size: Questions per forward pass.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: As `attention_and_answers` and `steering_directions`.
    """
    pairs, make = Pairs(), partial(heard_and_silent, model)
    for _, batches in prepared_batches(
        model, questions, make, batch_size=batch_size, what="audio and silence", progress=progress
    ):
        heard, _ = pairs.ask(model, batches)
        if kept is not None:
            kept.keep(heard)
    return pairs.joined(model)
