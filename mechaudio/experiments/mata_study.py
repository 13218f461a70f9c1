"""Does MATA make answers right, which reading of its formula does, and are its layers the right ones?

After "MATA" (arXiv 2509.18816), which gives the last token more attention to audio in the middle layers, with what it
leaves open. First it is found, on half of the questions, which rows of the prompt listen (`where_it_listens`).

1. Scores of audio and their signs by layer, which decide what its formula does, and what each of three readings of it
   does to attention.
2. The published setting, and the published ablations of layers and of strength, in all three readings.
3. Layers chosen by the data: of all ranges of neighbouring layers the best on one half of the questions, and the best
   of everything that was tried. On the other half they are held against no intervention and the published setting.
4. The published setting and what was chosen in written answers too, where the intervention acts at every new token.

All variants of a batch share one run of the prompt (`ma.evaluate`), and a study that was stopped is taken up.

Conventions: layers count from 0, ranges include both ends; shares are from 0 to 1; intervals are at 95%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mechaudio.analyses.streaming import Questions, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.experiments.evaluate import Comparison, evaluate
from mechaudio.experiments.groups import groups_of
from mechaudio.experiments.mata_arms import MataArm, MataSettings, known_ranges, mata_arms, placed
from mechaudio.experiments.mata_result import MataChoice, MataStudy
from mechaudio.experiments.mata_scores import mata_scores
from mechaudio.experiments.study import begin, split
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint

__all__ = ["MataArm", "MataChoice", "MataSettings", "MataStudy", "mata_study"]


@checks_arguments
def mata_study(
    model: AudioLM,
    questions: Questions,
    *,
    settings: MataSettings | None = None,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> MataStudy:
    """Run the study.

    ```python
    study = mata_study(model, ma.data.soundscapes.questions(300, seed=7), out="runs/mata")
    print(study)
    ```

    Args:
        model: An `AudioLM`.
        questions: With recordings and known answers and ids of their own. Of recordings that are longer than the model
            hears, the beginning is asked about.
        settings: What is varied.
        out: A folder to write to, from which a study that was stopped is taken up; the result goes there too. With
            another seed the letters are taken from there all the same: the split is made afterwards.
        batch_size: Questions per forward pass, as in `ma.evaluate`.
        workers: Processes that read clips and make prompts ahead of the model, as in `ma.evaluate`.
        progress: Draw progress bars on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: A half without questions whose answer is known, layers that the model does not have, `listening`
            rows where none is known to listen, and all that `ma.evaluate` raises.

    Warns:
        UserWarning: The rows that are changed carry nothing of the sound to the answers, and others do.
    """
    questions = sequence_of(questions)
    given = settings or MataSettings()
    layers = [site.layer for site in model.site_map.find(HookPoint("scores"))]
    running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    settings, listens = begin(model, questions, given, study=MataStudy, out=out, **running)
    arms = mata_arms(settings, layers, model.n_layers)

    def answers_to(name: str, some: Sequence[AudioQuestion], chosen: Sequence[MataArm], **options: Any) -> Comparison:
        where = None if out is None else Path(out) / name
        variants = [arm.intervention(layers) for arm in chosen]
        return evaluate(model, some, variants=variants, out=where, allow_cut=True, **running, **options)

    compared = answers_to("letters", questions, arms)
    chooses = split(compared.clean, settings)
    failed = {failure.index for failure in compared.clean.failures}
    answered = [place for place in range(len(questions)) if place not in failed]
    measured = [questions[place] for place in answered[: settings.n_measured]]
    study = MataStudy(
        scores=mata_scores(model, measured, alpha=settings.alpha, queries=settings.queries, **running),
        compared=compared,
        arms=arms,
        generated=None,
        written_arms=(),
        chooses=chooses,
        groups=groups_of([questions[place].meta for place in answered]),
        published=placed(settings.published, layers, model.n_layers, settings.mapping),
        ranges=tuple(
            (span, placed(span, layers, model.n_layers, settings.mapping)) for span in known_ranges(settings, layers)
        ),
        settings=settings,
        listens=listens,
        provenance=Provenance.collect(model, seed=given.seed, settings=asdict(given) | {"n": len(answered)}),
    )
    if settings.generate:
        written = tuple(
            dict.fromkeys([tested.arm for tested in study.readings] + [choice.arm for choice in study.choices])
        )
        reporting = [questions[place] for place, choosing in zip(answered, chooses, strict=True) if not choosing]
        texts = answers_to(
            f"written-{settings.seed}", reporting, written, scoring="generate", max_new_tokens=settings.max_new_tokens
        )
        study = replace(study, generated=texts, written_arms=written)
    if out is not None:
        study.save(out)
    return study
