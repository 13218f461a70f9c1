"""Many ways of steering on many questions: strengths, numbers of heads, and controls, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.attention_and_answers import rows_of
from mechaudio.analyses.kept_batches import KeptBatches, measured_questions
from mechaudio.analyses.paired_passes import PairedPasses, ask_both, joined_passes
from mechaudio.analyses.steering_directions import SteeringDirections, heard_and_silent
from mechaudio.analyses.streaming import Questions, required_questions
from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clip_names
from mechaudio.interventions.sweep import sweep
from mechaudio.metrics.multiple_choice import AnswerChange, answer_change, best_row
from mechaudio.models.prompt import as_prompts
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.record import Intervention
from mechaudio.variants.shared_pass import KeptRuns


@dataclass(frozen=True, eq=False, kw_only=True)
class SteeringSweep(Result):
    """Right and wrong answers under every variant.

    Attributes:
        names: Names of the variants.
        correct: Whether the answer is right, with each variant.
        clean_correct: Whether it is without any.
        margin: Logit of the right choice minus that of the best wrong one, with each variant; NaN without an answer.
        ways: Per variant, `shared prefix`, or `one by one` and why, as it was in the first batch.
        ids: Ids of the questions.
        passes: What each question's two passes gave, where directions were measured on the way.
    """

    names: tuple[str, ...]
    correct: Bool[np.ndarray, "variant question"]
    clean_correct: Bool[np.ndarray, " question"]
    margin: Float[np.ndarray, "variant question"]
    ways: tuple[str, ...]
    ids: tuple[str, ...]
    passes: PairedPasses | None = None
    clips: tuple[str, ...] = ()

    _table_axes = ("variant", "question")
    _derived = ("unanswered",)
    _labels = (("names", "variant"), ("ways", "variant"))

    @property
    def _summary(self) -> str:
        return f"{self.clean_correct.mean():.1%} right without any, best {self.accuracy.max():.1%}"

    @property
    def accuracy(self) -> Float[np.ndarray, " variant"]:
        """The share of right answers with each variant."""
        return self.correct.mean(1)

    @property
    def unanswered(self) -> Bool[np.ndarray, "variant question"]:
        """Questions without an answer under a variant, because logits of their choices are NaN or overflow."""
        return np.isnan(self.margin)

    @property
    def best(self) -> str:
        """The variant with most right answers; of equal ones, that of the largest mean margin, then one by lot.

        A variant chosen here is to be judged on other questions.
        """
        return self.names[best_row(self.correct, self.margin)]

    def change(self, name: str) -> AnswerChange:
        """Measure the answers under a variant: accuracies, fix and break rate, McNemar's test.

        Raises:
            KeyError: No such variant.
        """
        if name not in self.names:
            raise KeyError(f"no variant {name!r}; there are {', '.join(self.names)}")
        row = self.names.index(name)
        change = answer_change(self.clean_correct, self.correct[row], clips=self.clips or None)
        return replace(change, after=replace(change.after, unanswered=int(self.unanswered[row].sum())))


@checks_arguments
def steering_sweep(
    model: AudioLM,
    questions: Questions,
    *,
    directions: SteeringDirections | None,
    queries: str = "last",
    variants: Callable[[SteeringDirections], Mapping[str, Intervention]],
    kept: KeptRuns | None = None,
    batches: KeptBatches | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> SteeringSweep:
    """Answer every question with every variant; all variants of a batch share the work of the prompt.

    ```python
    found = ma.analyses.steering_sweep(model, questions, directions=directions, variants=lambda own: {
        f"strength {strength}": own.layer_guided(heads, strength) for strength in (0.5, 1.0, 2.0)
    })
    found.best, found.change("strength 1.0")
    ```

    Args:
        model: The opened model.
        questions: Each with its right answer, and directions of its own. Clips are read
            ahead of the model.
        directions: Directions of all these questions; None to measure them on the way, where the run with the clip is
            the one that the variants continue from: two forward passes per question and a little, instead of three.
        queries: For directions that are measured on the way, the rows, as in `steering_directions`.
        variants: Given the directions of some of the questions, the interventions on these, by name; the same names
            every time.
        kept: Runs with the clips that `paired_passes` kept, of batches of the same questions: the variants continue
            from these, each of which is let go of then. Prompts of other batches run again.
        batches: Keeps what each batch gives in a folder, for a study that is taken up or shared by several processes.
        batch_size: Questions per forward pass; as in `paired_passes`, if runs were kept there.
        workers: Processes that make prompts, as in `ma.evaluate`.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Without questions or variants, for a question without a known answer or without directions, or names
            that differ between batches.
    """
    if directions is None:
        questions, queries = rows_of(model, questions, queries, progress=progress)
    batches = KeptBatches(None, model, {}) if batches is None else batches
    if directions is not None and kept is not None and len(kept):
        workers = 0  # a worker has no runs to continue

    def make(asked: Questions) -> Any:
        if directions is None:
            return heard_and_silent(model, asked)
        continued = None if kept is None else kept.take(list(required_questions(asked)))
        return as_prompts(model, asked) if continued is None else continued

    def measure(together: Questions, made: Any) -> SteeringSweep:
        ids = tuple(question.id for question in required_questions(together))
        if directions is None:
            batch, passes = ask_both(model, made, queries)
            wanted = dict(variants(passes.directions))
        else:
            batch, passes, wanted = made, None, dict(variants(directions.of(ids)))
        done = sweep(model, batch, list(wanted.values()), progress=False)
        return SteeringSweep(
            names=tuple(wanted),
            correct=done.correct.numpy(),
            clean_correct=done.clean_correct.numpy(),
            margin=done.margin.numpy(),
            ways=done.ways,
            ids=ids,
            passes=passes,
            provenance=Provenance.collect(model, settings={"n": len(ids)}),
        )

    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    parts, keys = measured_questions(model, questions, batches, measure, make, what="steering", **running)
    return _joined(parts, model, keys)


def _joined(parts: Sequence[SteeringSweep], model: AudioLM, keys: Sequence[tuple[str, ...]]) -> SteeringSweep:
    """The answers of several batches, one behind another.

    Raises:
        ValueError: Variants of other names in one batch than in another.
    """
    first, ids = parts[0], tuple(name for part in parts for name in part.ids)
    other = next((part.names for part in parts if part.names != first.names), None)
    if other is not None:
        raise ValueError(f"variants= gave {list(first.names)} for the first questions, then {list(other)}")
    passes = [part.passes for part in parts if part.passes is not None]
    return replace(
        first,
        correct=np.concatenate([part.correct for part in parts], axis=1),
        clean_correct=np.concatenate([part.clean_correct for part in parts]),
        margin=np.concatenate([part.margin for part in parts], axis=1),
        ids=ids,
        clips=clip_names(keys),
        passes=joined_passes(passes, keys) if passes else None,
        provenance=Provenance.collect(model, settings={"n": len(ids)}),
    )
