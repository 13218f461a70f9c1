"""Which heads listen, does a score of their listening tell right from wrong, and does steering by them help?

After "Audio-specialist heads" (arXiv 2603.06854), in four steps. First it is found, on the half that chooses, which
rows of the prompt listen (`where_it_listens`): attention of rows that do not may go with right answers, and nothing
comes of it.

1. Every question is asked with its recording and with silence.
2. On one half of the questions, each head's audio attention is correlated with right answers (eq. 1-2).
3. On the other half, the listening score of the K strongest heads (eq. 3) is held against as many heads drawn at
   random, and it is asked whether it is higher where the audio changes the answer: over all questions, among right and
   among wrong answers, and within groups of one task. A score that tells easy kinds of questions from hard ones tells
   right from wrong without listening; within a task that does not count.
4. Answers are steered from silence to audio by these heads (eq. 4-9). The first half chooses the strength, the other
   reports.

Conventions: heads are `(layer, head)`, from 0; shares and rates are from 0 to 1; a question is on one side of the split
by a hash of its clip.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mechaudio.analyses.listening_score import listening_score
from mechaudio.analyses.streaming import Questions, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.experiments.askable import Askable
from mechaudio.experiments.groups import groups_of
from mechaudio.experiments.specialists_result import SpecialistsSettings, SpecialistsStudy, steering_settings
from mechaudio.experiments.steering_study import steering_study
from mechaudio.results import Provenance, folder_of_run
from mechaudio.tracing.audio_lm import AudioLM

__all__ = ["SpecialistsSettings", "SpecialistsStudy", "specialists_study"]

_CURVE = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
"""Numbers of heads that the score is made from, beside those of the settings, as far as there are so many."""


@checks_arguments
def specialists_study(
    model: AudioLM,
    questions: Questions,
    *,
    settings: SpecialistsSettings | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    memory: int | float | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> SpecialistsStudy:
    """Run the study.

    ```python
    study = specialists_study(model, ma.data.mmau.load("mmau-test-mini.json"), out="runs/specialists")
    print(study)
    ```

    Args:
        model: An `AudioLM`.
        questions: With recordings, known answers and an id each. What cannot be asked is listed in `failures`.
        settings: What is varied.
        out: A folder to write to, from which a study that was stopped is taken up; the result goes there too.
        batch_size: Questions per forward pass.
        memory: Bytes that keys and values of the half that chooses may take, as in `steering_study`.
        workers: Processes that read clips and make prompts ahead of the model, as in `ma.evaluate`.
        progress: Draw progress bars on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: No question can be asked, ids are blank or come twice, too few answers of either half are right or
            wrong (what was found by then is saved to `out`/steering), or fewer heads vary than the smallest of `ks`.
    """
    questions = sequence_of(questions)
    settings = settings or SpecialistsSettings()
    if out is not None:
        folder_of_run(out, "a SpecialistsStudy", results=("SpecialistsStudy",), begins=True)
    askable = Askable(model, questions, workers=workers, progress=progress)
    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    where = None if out is None else Path(out, "steering")
    steering = steering_study(model, askable, settings=steering_settings(settings), memory=memory, out=where, **running)
    calibration, held_out = steering.heard.split(settings.share, settings.seed)
    assert not set(calibration.clips) & set(held_out.clips), "a clip is on both sides of the split"
    scores, most = steering.scores, int(steering.scores.varies.sum())
    settings = replace(settings, queries=steering.settings.queries, ks=tuple(k for k in settings.ks if k <= most))
    held_out_silent = steering.silent.split(settings.share, settings.seed)[1]
    chosen: dict[str, Any] = {"ranking": settings.ranking, "draws": settings.draws, "seed": settings.seed}
    try:
        listening = {
            k: listening_score(scores, held_out, k=k, silent=held_out_silent, **chosen)
            for k in sorted({*settings.ks, *(k for k in _CURVE if k <= most)})
        }
    except ValueError as error:
        if out is None:
            raise
        raise ValueError(f"{error}; answers and steering are kept in {where}") from error
    study = SpecialistsStudy(
        provenance=Provenance.collect(model, seed=settings.seed, settings=asdict(settings) | {"n": len(steering.ids)}),
        settings=settings,
        groups=groups_of(askable.metas),
        chance=np.array(askable.chance),
        listening=listening,
        steering=steering,
        failures=askable.failures,
        n_cut=askable.n_cut,
    )
    if out is not None:
        study.save(out)
    return study
