"""Everything that a question's two passes give: with its clip, and with silence of the same length.

The attention row of the last position, the answers, and what hearing adds there, in two forward passes per question. It
is what heads are chosen from, scored on and steered with; nothing of it needs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mechaudio.analyses.attention_and_answers import (
    AttentionAndAnswers,
    attending,
    measured,
    refuse_unknown,
    rows_of,
)
from mechaudio.analyses.kept_batches import KeptBatches, measured_questions
from mechaudio.analyses.steering_directions import SteeringDirections, directions_in, heard_and_silent, points
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
from mechaudio.variants.shared_pass import CleanRun, KeptRuns, clean_run

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
    """The passes of several batches, one behind another, their clips named among each other by the `clip_keys` of all.

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


def ask_both(model: AudioLM, prompts: tuple[PromptBatch, PromptBatch], queries: str) -> tuple[CleanRun, PairedPasses]:
    """Ask some questions with their clips and with silence.

    Returns:
        The run with the clips, which variants can continue from, and what both passes gave.

    Raises:
        ValueError: As `paired_passes`.
    """
    refuse_unknown(prompts[0].questions)
    record = [[attending(batch, queries), *points(batch, queries)] for batch in prompts]
    audible = _heard_run(model, prompts[0], record[0], queries)
    silent = run(model, prompts[1], record=record[1], logits="last")
    with_clips = answers_in(audible.batch, audible.logits, required=True)
    without = answers_in(silent.batch, silent.logits[:, -1], required=True)
    directions = directions_in(model, prompts, queries, audible.cache, silent.cache)
    return audible, PairedPasses(
        heard=measured(model, audible.batch, "audio", queries, audible.cache, with_clips),
        silent=measured(model, silent.batch, "silence", queries, silent.cache, without),
        directions=directions,
        provenance=directions.provenance,
    )


def _heard_run(model: AudioLM, batch: PromptBatch, record: Sequence[HookPoint], queries: str) -> CleanRun:
    """The run with the clips; one that reads rows in front of the last is no run to continue from."""
    if queries == "last":
        return clean_run(model, batch, record=record)
    out = run(model, batch, record=record, logits="last")
    return CleanRun(model, batch, out.logits[:, -1], out.cache, None, f"the rows {queries!r} were read")


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
        audible, passes = ask_both(model, prepared, queries)
        if kept is not None:
            kept.keep(audible)
        return passes

    make = partial(heard_and_silent, model)
    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    parts, keys = measured_questions(model, questions, batches, measure, make, what="audio and silence", **running)
    return joined_passes(parts, keys)
