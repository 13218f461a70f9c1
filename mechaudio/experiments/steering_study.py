"""Does steering from silence to audio make answers right, and is it the specialists that do it?

After "Audio-specialist heads" (arXiv 2603.06854), with a protocol that never chooses and reports on the same clips:

1. Questions are split by a hash of their clips. One half chooses, the other reports.
2. On the half that chooses, every question runs with its clip and with silence. Heads are chosen by the correlation of
   their audio attention with right answers, and every way of steering is tried: layer-guided, from a single layer, head
   by head, with K heads, over strengths, before and behind the final norm.
3. Of each kind the best is taken, and so is that of each control: as many random heads, which induce layers in the same
   way; random directions of the same lengths; the directions of other questions. Controls choose as freely as what they
   control.
4. On the other half, what was chosen is held against no steering and against its controls.

First it is found, on at most 48 questions of the half that chooses, which rows of the prompt listen
(`where_it_listens`), for about two passes of each. Then a question costs two passes: all variants continue from the
pass with its clip. On the half that chooses, heads are known only after all questions have run, so what that pass left
behind is kept in memory; a question whose keys and values do not fit in costs a third pass, and so does each where
other rows than the last are read (`benchmarks/steering_cost.py` measures both).

Conventions: heads are `(layer, head)`; shares are from 0 to 1; intervals are at 95%.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers
from mechaudio.analyses.halves import clips_of, in_calibration
from mechaudio.analyses.kept_batches import KeptBatches
from mechaudio.analyses.paired_passes import paired_passes
from mechaudio.analyses.specialist_heads import score_heads
from mechaudio.analyses.steering_directions import SteeringDirections
from mechaudio.analyses.steering_sweep import SteeringSweep, steering_sweep
from mechaudio.analyses.streaming import Questions, sequence_of
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.steering_arms import Aim, SteeringArm, SteeringSettings, steering_arms
from mechaudio.experiments.steering_result import AgainstControl, SteeringStudy
from mechaudio.experiments.study import begin
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.temporal.draws import digest
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.memory import memory_of
from mechaudio.variants.shared_pass import KeptRuns

__all__ = ["AgainstControl", "SteeringArm", "SteeringSettings", "SteeringStudy", "steering_study"]


@checks_arguments
def steering_study(
    model: AudioLM,
    questions: Questions,
    *,
    settings: SteeringSettings | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    memory: int | float | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> SteeringStudy:
    """Run the study.

    ```python
    study = steering_study(model, ma.data.soundscapes.questions(300, seed=7))
    print(study)
    ma.viz.accuracy_over_strength(study.over_strength)
    ma.viz.induced_layers(study.scores)
    ```

    Args:
        model: An `AudioLM`.
        questions: With recordings, known answers and ids of their own; `meta["task"]` names the task.
        settings: What is varied.
        out: A folder for the result and what is measured on the way, from which a study that was stopped is taken up.
            Processes that were launched together (`accelerate launch`, `torchrun`) share the questions through it.
        batch_size: Questions per forward pass.
        memory: Bytes that keys and values of the half that chooses may take; by default half of what is free on a GPU,
            and two billion on a CPU. Questions that do not fit in run once more, and with `out` all of that half do.
        workers: Processes that read clips and make prompts ahead of the model, as in `ma.evaluate`.
        progress: Draw progress bars on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Fewer than three questions that choose or one that reports, answers that are all right or all wrong
            on the half that chooses, a K that is larger than the number of heads (if all are), and as `paired_passes`.

    Warns:
        UserWarning: As `score_heads`; and where the rows that are read and steered carry nothing of the sound to the
            answers, and others do.
    """
    questions = sequence_of(questions)
    given = settings or SteeringSettings()
    ids = [question.id for question in questions]
    if not all(ids):
        raise ValueError(
            f"questions {[place for place, name in enumerate(ids) if not name][:3]} have no id: set "
            "AudioQuestion(id=...)"
        )
    clips = clips_of(questions)
    chooses = in_calibration(clips, given.share, given.seed)
    choosing, reporting = np.flatnonzero(chooses).tolist(), np.flatnonzero(~chooses).tolist()
    if len(choosing) < 3 or not reporting:
        raise ValueError(
            f"{len(choosing)} of {len(ids)} questions choose and {len(reporting)} report: the study needs at least "
            "three that choose and one that reports; give more questions, of more clips"
        )
    # What continues from a run differs in its last bits from what runs again, and who takes a study up has no runs.
    kept = KeptRuns(0.0 if memory == 0 or out is not None else memory_of(model, memory))
    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    settings, listens = begin(model, questions, given, study=SteeringStudy, out=out, **running)

    def batches(stage: str) -> KeptBatches:
        run = asdict(settings) | {"stage": stage, "batch_size": batch_size}
        return KeptBatches(None if out is None else Path(out) / stage, model, run)

    passes = paired_passes(
        model,
        _Some(questions, choosing),
        queries=settings.queries,
        kept=kept,
        batches=batches("passes"),
        **running,
    )
    scores = score_heads(passes.heard, seed=settings.seed)
    n_varying = int(scores.varies.sum())
    ks = [k for k in settings.ks if k <= n_varying]
    if not ks:
        raise ValueError(
            f"the model has {n_of(n_varying, 'head')} whose audio attention varies, too few for any of K = "
            f"{settings.ks}: choose smaller ones"
        )
    aim, arms = Aim(scores, settings), steering_arms(settings, ks, range(model.n_layers))
    shuffled = passes.directions.shuffled(settings.seed)

    def swept(
        stage: str,
        places: Sequence[int],
        directions: SteeringDirections | None,
        others: Callable[[Sequence[str]], SteeringDirections],
    ) -> SteeringSweep:
        return steering_sweep(
            model,
            _Some(questions, places),
            directions=directions,
            queries=settings.queries,
            variants=lambda these: aim.interventions(arms, these, others(these.ids)),
            kept=kept,
            batches=batches(stage),
            **running,
        )

    halves = (
        swept("choosing", choosing, passes.directions, shuffled.of),
        swept("reporting", reporting, None, lambda these: _of_another(passes.directions, these, settings.seed)),
    )
    order = np.argsort([*choosing, *reporting])
    heard, silent = (
        AttentionAndAnswers.concatenated([getattr(half, name) for half in (passes, halves[1].passes)]).part(order)
        for name in ("heard", "silent")
    )
    study = SteeringStudy(
        heard=heard,
        silent=silent,
        scores=scores,
        arms=arms,
        correct=np.concatenate([half.correct for half in halves], axis=1)[:, order],
        margin=np.concatenate([half.margin for half in halves], axis=1)[:, order],
        clean_correct=np.concatenate([half.clean_correct for half in halves])[order],
        chooses=chooses,
        ids=tuple(ids),
        tasks=tuple(str(question.meta.get("task", "")) for question in questions),
        settings=settings,
        listens=listens,
        provenance=Provenance.collect(model, seed=given.seed, settings=asdict(given) | {"n": len(ids)}),
    )
    if out is not None:
        study.save(out)
    return study


@dataclass(frozen=True)
class _Some(Sequence[AudioQuestion]):
    """Some of the questions, each fetched when its turn comes: sequences that make theirs then keep few in memory."""

    questions: Sequence[AudioQuestion]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Some(self.questions, self.places[index])
        return self.questions[self.places[index]]


def _of_another(directions: SteeringDirections, ids: Sequence[str], seed: int) -> SteeringDirections:
    """For each question, the directions of one of those that directions are of, drawn by a hash of its id."""
    n = len(directions.ids)
    return directions.of([directions.ids[digest("another question", seed, name) % n] for name in ids])
