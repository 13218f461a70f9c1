"""Many ways of steering on many questions: strengths, numbers of heads, and controls, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from mechaudio.analyses.attention_and_answers import rows_of
from mechaudio.analyses.paired_passes import PairedPasses, Pairs
from mechaudio.analyses.steering_directions import SteeringDirections, heard_and_silent
from mechaudio.analyses.streaming import Questions, prepared_batches, required_questions
from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.interventions.sweep import sweep
from mechaudio.metrics.multiple_choice import AnswerChange, answer_change, best_row
from mechaudio.models.prompt import as_prompts
from mechaudio.results import Provenance, Result
from mechaudio.tracing.record import Intervention
from mechaudio.variants.clean_run import KeptRuns

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


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
    _labels = (
        ("names", "variant"),
        ("ways", "variant"),
    )

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
    variants: Callable[[SteeringDirections], Mapping[str, Intervention]],
    queries: str = "last",
    kept: KeptRuns | None = None,
    batch_size: int | None = None,
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
            by another thread, a batch ahead.
        directions: Directions of all these questions; None to measure them on the way, where the run with the clip is
            the one that the variants continue from: two forward passes per question and a little, instead of three.
        variants: Given the directions of some of the questions, the interventions on these, by name; the same names
            every time.
        queries: For directions that are measured on the way, the rows, as in `steering_directions`.
        kept: Runs with the clips that `paired_passes` kept, of batches of the same questions: the variants continue
            from these, each of which is let go of then. Prompts of other batches run again.
        batch_size: Questions per forward pass; as in `paired_passes`, if runs were kept there.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Without questions or variants, for a question without a known answer or without directions, or names
            that differ between batches.
    """
    if directions is None:
        questions, queries = rows_of(model, questions, queries, progress=progress)
    names: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    ids, found, pairs, keys = [], [], Pairs(queries), []

    def make(asked: Questions) -> Any:
        if directions is None:
            return heard_and_silent(model, asked)
        continued = None if kept is None else kept.take(list(required_questions(asked)))
        return as_prompts(model, asked) if continued is None else continued

    for together, made in prepared_batches(
        model, questions, make, batch_size=batch_size, what="steering", progress=progress
    ):
        batch_questions = list(required_questions(together))
        question_ids = [question.id for question in batch_questions]
        keys += [clip_keys(question) for question in batch_questions]
        batch, here = pairs.ask(model, made) if directions is None else (made, directions.of(question_ids))
        wanted = dict(variants(here))
        if ids and tuple(wanted) != names:
            raise ValueError(f"variants= gave {list(names)} for the first questions, then {list(wanted)}")
        done = sweep(model, batch, list(wanted.values()), progress=False)
        names, ways, ids = tuple(wanted), ways or done.ways, [*ids, *question_ids]
        found.append((done.correct, done.clean_correct[None], done.margin))
    correct, clean, margin = (torch.cat(parts, dim=1).numpy() for parts in zip(*found, strict=True))
    return SteeringSweep(
        names=names,
        correct=correct,
        clean_correct=clean[0],
        margin=margin,
        ways=ways,
        ids=tuple(ids),
        clips=clip_names(keys),
        passes=pairs.joined(model) if directions is None else None,
        provenance=Provenance.collect(model, settings={"n": len(ids)}),
    )
