"""Does a model listen when it is asked what sounds first, last or longest, and does it help to make it listen?

After "A Closer Look at Failure Modes in Temporal Understanding of Large Audio-Language Models" (2026), in five steps.

First it is found, on half of the questions, which rows of the prompt listen (`where_it_listens`).

1. Accuracy with the recording, with a caption instead, with both.
2. The same with silence: what is left is not heard.
3. Attention of the last position on each role of token, by layer.
4. Attention to audio upweighted against scaled, in all layers, over strengths and query rows. What a fix rate means is
   told by its controls: scaling that keeps the audio's share of attention, a shift that only gives it the share that
   scaling would, scaling about the mean score, the same change on keys of text, and answers at random.
5. Scaling in one layer against all, and scaling against upweighting. What is best is chosen on one half of the
   questions and reported on the other, by a hash of the clip; a layer drawn at random is the control.

Every variant of steps 4 and 5 shares one run of the prompt per batch.

Conventions: layers count from 0; shares and rates are from 0 to 1.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mechaudio.analyses.audio_attention import attention_in
from mechaudio.analyses.streaming import Questions, batches_of, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.experiments.evaluate import evaluate
from mechaudio.experiments.study import begin, split
from mechaudio.experiments.temporal_arms import Arm, TemporalSettings, arms_of, refuse_rows_in_front
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint

__all__ = ["Arm", "TemporalSettings", "TemporalStudy", "temporal_study"]


@checks_arguments
def temporal_study(
    model: AudioLM,
    questions: Questions,
    *,
    settings: TemporalSettings | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> TemporalStudy:
    """Run the study.

    ```python
    study = temporal_study(model, ma.temporal.load("benchmark"), out="runs/temporal")
    print(study)
    ```

    Args:
        model: An `AudioLM`.
        questions: With recordings and known answers; `meta["task"]` names the temporal task.
        settings: What is varied, and the seed.
        out: A folder to write to: a folder per condition, from which a study that was stopped is taken up, and the
            result.
        batch_size: Questions per forward pass, as in `ma.evaluate`.
        workers: Processes that read clips and make prompts ahead of the model, as in `ma.evaluate`.
        progress: Draw progress bars on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Fewer than two questions with a known answer, a half without any, `listening` rows where none is
            known to listen, rows that stand in front of the sound as the class was trained, and all that `ma.evaluate`
            raises.

    Warns:
        UserWarning: Rows that are changed carry nothing of the sound to the answers, and others do.
    """
    questions = sequence_of(questions)
    given = settings or TemporalSettings()
    refuse_rows_in_front(given, model.adapter)
    captioned = all(question.caption is not None for question in questions)
    conditions = [condition for condition in given.conditions if captioned or "caption" not in condition]
    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    settings, listens = begin(model, questions, given, study=TemporalStudy, out=out, **running)
    arms = arms_of(settings, [site.layer for site in model.site_map.find(HookPoint("scores"))])

    def answers_in(name: str, condition: str, **changes: Any) -> Any:
        where = None if out is None else Path(out) / name
        return evaluate(model, questions, condition=condition, out=where, seed=settings.seed, **running, **changes)

    compared = answers_in("audio", "audio", variants=[arm.intervention(settings.seed) for arm in arms])
    chooses = split(compared.clean, settings)
    unasked = {failure.index for failure in compared.clean.failures}
    answered = [question for index, question in enumerate(questions) if index not in unasked]
    batches = batches_of(model, answered[: settings.n_attention], what="attention", **running)
    attention = attention_in(model, batches)
    study = TemporalStudy(
        listens=listens,
        provenance=Provenance.collect(model, seed=given.seed, settings=asdict(given)),
        conditions={
            condition: compared.clean if condition == "audio" else answers_in(condition, condition)
            for condition in conditions
        },
        roles=attention.roles,
        attention=attention.mass.mean(2),
        compared=compared,
        arms=arms,
        chooses=chooses,
        settings=settings,
    )
    if out is not None:
        study.save(out)
    return study
