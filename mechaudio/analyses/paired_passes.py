"""Everything that a question's two passes give: with its clip, and with silence of the same length.

The attention row of the last position, the answers, and what hearing adds there, in two forward passes per question. It
is what heads are chosen from, scored on and steered with; nothing of it needs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers, Measured, refuse_unknown, rows_of
from mechaudio.analyses.kept_batches import KeptBatches, measured_questions
from mechaudio.analyses.query_rows import query_rows
from mechaudio.analyses.steering_directions import (
    Differences,
    SteeringDirections,
    difference,
    heard_and_silent,
    points,
)
from mechaudio.analyses.streaming import Questions
from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clip_names
from mechaudio.labelled import joined_along
from mechaudio.models.batch import PromptBatch
from mechaudio.results import Result
from mechaudio.tracing.answers import answers_in
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run
from mechaudio.variants.clean_run import CleanRun, KeptRuns, clean_run

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedPasses(Result):
    """Results of the two passes.

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


def joined_passes(parts: Sequence[PairedPasses], keys: Sequence[tuple[str, ...]]) -> PairedPasses:
    """The passes of several batches, one behind another.

    Args:
        parts: Of each batch.
        keys: `clip_keys` of all questions, whose clips are named among each other.

    Raises:
        ValueError: For ids that come twice.
    """
    clips = clip_names(keys)
    heard, silent = (
        replace(AttentionAndAnswers.concatenated([getattr(part, name) for part in parts]), clips=clips)
        for name in ("heard", "silent")
    )
    directions = SteeringDirections.concatenated([part.directions for part in parts], clips)
    return PairedPasses(heard=heard, silent=silent, directions=directions, provenance=directions.provenance)


class Pairs:
    """Paired passes, batch by batch."""

    def __init__(self, queries: str = "last") -> None:
        """Args: queries: the rows whose attention and difference are kept."""
        self._queries, self._of_all = queries, Differences(queries)
        self._heard, self._silent = Measured("audio", queries), Measured("silence", queries)

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
        questions = batches[0].questions
        refuse_unknown(questions)
        record = [[self._heard.point(batch), *points(batch, self._queries)] for batch in batches]
        audible = self._heard_run(model, batches[0], record[0])
        silent = run(model, batches[1], record=record[1], logits="last")
        self._heard.add(audible.batch, audible.cache, answers_in(audible.batch, audible.logits, required=True))
        self._silent.add(silent.batch, silent.cache, answers_in(silent.batch, silent.logits[:, -1], required=True))
        weights = query_rows(batches[0], self._queries)[1]
        moved = difference(model, audible.cache, silent.cache, weights)
        of_batch = Differences(self._queries)
        for differences in (of_batch, self._of_all):
            differences.add(moved, questions)
        return audible, of_batch.joined(model)

    def _heard_run(self, model: AudioLM, batch: PromptBatch, record: Sequence[HookPoint]) -> CleanRun:
        """The run with the clips; one that reads rows in front of the last is no run to continue from."""
        if self._queries == "last":
            return clean_run(model, batch, record=record)
        out = run(model, batch, record=record, logits="last")
        return CleanRun(model, batch, out.logits[:, -1], out.cache, None, f"the rows {self._queries!r} were read")

    def joined(self, model: AudioLM) -> PairedPasses:
        """All of them.

        Raises:
            ValueError: For ids that are blank or come twice.
        """
        directions = self._of_all.joined(model)
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
    queries: str = "last",
    kept: KeptRuns | None = None,
    batches: KeptBatches | None = None,
    batch_size: int | None = None,
    workers: int = 0,
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
            ahead of the model.
        queries: The rows whose attention and difference are kept, as in `attention_and_answers`.
        kept: Takes the runs with the clips, as far as there is room, so that `steering_sweep` can continue from them.
        batches: Keeps what each batch gives in a folder, for a study that is taken up or shared by several processes.
        batch_size: Questions per forward pass.
        workers: Processes that make prompts, as in `ma.evaluate`.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: As `attention_and_answers` and `steering_directions`.
    """
    questions, queries = rows_of(model, questions, queries, progress=progress)
    batches = KeptBatches(None, model, {}) if batches is None else batches

    def measure(_: Any, prepared: Any) -> PairedPasses:
        pairs = Pairs(queries)
        heard, _ = pairs.ask(model, prepared)
        if kept is not None:
            kept.keep(heard)
        return pairs.joined(model)

    parts, keys = measured_questions(
        model,
        questions,
        batches,
        measure,
        partial(heard_and_silent, model),
        batch_size=batch_size,
        workers=workers,
        what="audio and silence",
        progress=progress,
    )
    return joined_passes(parts, keys)
