"""Evaluation: a model's right answers, without and with interventions.

Questions are streamed: only a few windows of them are held at a time, and a recording is read when it is asked about.
With a folder to write to, every batch is on the disk before the next one runs, and a run that was stopped, or killed,
is taken up where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, overload

from mechaudio.analyses.ahead import workers_for
from mechaudio.analyses.attention_and_answers import LISTENING
from mechaudio.analyses.streaming import asked_anew, positions_that_fit, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.experiments.asking import Asking, ask
from mechaudio.experiments.batches import Placed
from mechaudio.experiments.collected import collected
from mechaudio.experiments.evaluation import CHOSE_ROWS, Comparison, Evaluation, Failure
from mechaudio.experiments.listening_first import listen_first, listening_rows, warn_of_deaf
from mechaudio.experiments.run_log import Row, RunLog, folder_of_answers, run_header
from mechaudio.experiments.stream import go_through
from mechaudio.experiments.written import DEFAULT, Scores, chosen_scores
from mechaudio.interventions.grid import Variants, grid_axes
from mechaudio.interventions.selecting import AttentionIntervention
from mechaudio.models.prompt import PromptBatch, PromptFormat, condition_of, layout_of
from mechaudio.notices import warn
from mechaudio.processes import launch
from mechaudio.question import BY_WORDS, AudioQuestion, refuse_open
from mechaudio.results import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.record import Intervention
from mechaudio.variants.execute import Lists, lists_of

__all__ = ["Comparison", "Evaluation", "Failure", "evaluate"]


@overload
def evaluate(
    model: AudioLM,
    questions: PromptBatch | Iterable[AudioQuestion],
    *,
    condition: str = ...,
    queries: str | None = ...,
    interventions: Sequence[Intervention] = ...,
    variants: None = ...,
    scoring: str = ...,
    scores: Scores = ...,
    max_new_tokens: int = ...,
    layout: PromptFormat | None = ...,
    allow_cut: bool = ...,
    seed: int | None = ...,
    strict: bool = ...,
    out: str | Path | None = ...,
    batch_size: int | None = ...,
    batch_positions: int | None = ...,
    workers: int = ...,
    progress: bool | None = ...,
) -> Evaluation: ...


@overload
def evaluate(
    model: AudioLM,
    questions: PromptBatch | Iterable[AudioQuestion],
    *,
    condition: str = ...,
    queries: str | None = ...,
    interventions: tuple[()] = ...,
    variants: Variants,
    scoring: str = ...,
    scores: Scores = ...,
    max_new_tokens: int = ...,
    layout: PromptFormat | None = ...,
    allow_cut: bool = ...,
    seed: int | None = ...,
    strict: bool = ...,
    out: str | Path | None = ...,
    batch_size: int | None = ...,
    batch_positions: int | None = ...,
    workers: int = ...,
    progress: bool | None = ...,
) -> Comparison: ...


@checks_arguments
def evaluate(
    model: AudioLM,
    questions: PromptBatch | Iterable[AudioQuestion],
    *,
    condition: str = "audio",
    queries: str | None = None,
    interventions: Sequence[Intervention] = (),
    variants: Variants | None = None,
    scoring: str = "letter_logit",
    scores: Scores = DEFAULT,
    max_new_tokens: int = 32,
    layout: PromptFormat | None = None,
    allow_cut: bool = False,
    seed: int | None = None,
    strict: bool = False,
    out: str | Path | None = None,
    batch_size: int | None = None,
    batch_positions: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> Evaluation | Comparison:
    """Ask every question and count.

    ```python
    heard = ma.evaluate(model, questions, condition="audio", out="runs/audio")
    heard.overall.value, heard.by_task()

    scaled = ma.grid(ma.ScaleAttention, layers=range(6), factor=[0.5, 2.0])
    found = ma.evaluate(model, questions, variants=scaled)
    found.clean.overall, found[3].overall, found.change(3)
    ```

    Args:
        model: An `AudioLM`.
        questions: Any number, in any iterable; those without a known answer are answered and not scored.
        condition: What the model is given: `audio`, `caption`, `audio+caption`, `silence`.
        queries: The query rows of every change of attention, in the place of their own: spans that `+` joins, or
            `listening`, those that listen. Which do is found first (`where_it_listens`), on at most 48 questions, and
            kept as `Comparison.listens`; it warns of rows that carry nothing. To choose them, half of the clips are
            asked, drawn with `seed`. These are among the questions counted, and the result says how many they are: to
            report on others, find the rows yourself and name them.
        interventions: What to change while it answers. Places are named by spans: rows of one batch have no meaning
            in another.
        variants: Several interventions or lists of them, in a list, in a grid, or in a dict by name, to compare with
            the clean model on the same questions. Names label the result: `found["no audio"]`. Variants share the
            prompt's forward pass (`ma.sweep`, `ma.generate_variants`).
        scoring: `letter_logit`: the choice whose letter has the highest logit at the last prompt position. `generate`:
            greedy generation; the text is read for a letter or a choice (`ma.metrics.parse_choice`), and scored by
            MMAU's words too (`Evaluation.string_match`). Open questions are asked so alone; each question of a mixed
            set is scored by its own rule.
        scores: Scores of written answers to open questions (`Evaluation.scores`, `by_score()`): names of functions of
            `ma.metrics.captions`, such as `"rouge"`, functions of a text and its reference, or a dict of those by name.
        max_new_tokens: Most tokens of a generated answer.
        layout: How questions are written out, by default as the prompts are, or as in `PromptFormat()`.
        allow_cut: Take the beginning of recordings that are longer than the model hears.
        seed: Seed of the questions, to be kept with the result.
        strict: Raise at the first question that cannot be asked; by default it is kept among the `failures`.
        out: A folder to write to: `answers.jsonl` batch by batch, the result at the end. If it holds a run of the same
            settings, model and questions, that run is taken up: what was asked is not asked again, but for questions
            that could not be asked, which are tried once more at the end. More questions may follow those of before.
            Processes that were launched together (`accelerate launch`, `torchrun`) share the questions through it, each
            with a log of its own, and each returns the whole result.
        batch_size: Most questions at once; by default as many as fit.
        batch_positions: Most positions of a batch, padding included; by default as many as memory allows, within
            `mechaudio.analyses.streaming.MOST_POSITIONS`, and with a `batch_size` any number.
        workers: Processes that read clips and make prompts ahead of the model, which change no number; there are never
            more than batches or cores.
        progress: Draw a progress bar with the time left on stderr;
            by default where a person is watching, after two seconds.

    Returns:
        An `Evaluation`; with `variants`, a `Comparison`.

    Raises:
        ValueError: No questions, or none that can be asked; an open question, without `scoring="generate"`; an unknown
            score; `interventions` beside `variants`; an unknown condition or
            scoring; an `out` that holds another run, which the message compares, or a damaged one; with `out`, forward
            hooks of others on the network; a network in training mode, or otherwise not fit to run; with `strict`, a
            question that cannot be asked.
        TypeError: Something else than questions or interventions; with `out`, an intervention that cannot be kept.

    Warns:
        UserWarning: Several processes are given no `out` to share; a GPU has no memory for a batch, so that its halves
            are asked, whose numbers may differ in their last bits; `queries` are rows that carry nothing of the sound
            to the answers, where others do.
    """
    condition = condition_of(questions, condition)
    layout = layout_of(questions, layout)
    questions = asked_anew(questions, condition, layout)
    if out is None and launch().n > 1:
        warn(f"{launch().n} processes share questions through out=: without it each of them asks all of them")
    asking = Asking(condition, scoring, max_new_tokens, layout, allow_cut)
    lists, functions = _lists(interventions, variants), chosen_scores(scores)
    axes = {} if variants is None else grid_axes(variants)
    listens, workers = None, workers_for(model, workers)
    chose: Mapping[str, Any] = {}
    if queries is not None:
        questions = sequence_of(questions)
        if out is not None:
            folder_of_answers(out)
        share = 0.5 if queries == LISTENING else None
        running: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
        listens = listen_first(model, questions, share=share, seed=seed or 0, out=out, **running)
        lists = _at_rows(lists, axes, listening_rows(listens, queries))
        warn_of_deaf(listens, [queries])
        if queries == LISTENING and listens is not None:
            chose = {CHOSE_ROWS: list(listens.everywhere.ids)}
    options = asdict(asking) | ({} if scoring == "generate" else {"max_new_tokens": None})
    provenance = Provenance.collect(model, seed=seed, settings=options)
    header = {} if out is None else partial(run_header, model, provenance, lists)
    plan = {
        "batch_positions": batch_positions or (0 if batch_size else positions_that_fit(model)),
        "batch_size": batch_size or 0,  # 0 is any number
    }
    with RunLog(out, {"run": header, "created": provenance.created, **plan}, len(lists)) as log:
        log.refuse_other_batches(batch_positions, batch_size)
        keys = _ask_all(model, asking, questions, lists, log, strict=strict, workers=workers, progress=progress)
        settings = options | chose | {"n": len(log.known)}
        provenance = replace(provenance, created=log.header["created"], settings=settings)
    rows = sorted(log.known.values(), key=lambda row: row.index)
    result = collected(provenance, asking, lists, rows, axes, dict(enumerate(clip_names(keys))), functions)
    if isinstance(result, Comparison):
        result = replace(result, listens=listens)
    if out is not None:
        result.save(out)
    return result


def _at_rows(lists: Lists, axes: Collection[str], queries: str) -> tuple[tuple[Intervention, ...], ...]:
    """Put these query rows into every change of attention.

    Raises:
        ValueError: There is no change of attention, or a grid over query rows.
    """
    if "queries" in axes:
        raise ValueError("queries= places every variant, and the grid has query rows of its own: give one of them")
    if not any(
        isinstance(intervention, AttentionIntervention) for interventions in lists for intervention in interventions
    ):
        raise ValueError("queries= says where attention is changed, and nothing changes it: give interventions")
    return tuple(
        tuple(
            replace(intervention, queries=queries) if isinstance(intervention, AttentionIntervention) else intervention
            for intervention in interventions
        )
        for interventions in lists
    )


def _lists(interventions: Any, variants: Any) -> tuple[tuple[Intervention, ...], ...]:
    """Every list of interventions that is asked under; of variants, the first is empty."""
    if isinstance(interventions, Intervention):
        raise TypeError(f"interventions= takes a list, got {interventions!r}; write [...] around it")
    if variants is None:
        return (tuple(interventions),)
    if interventions:
        raise ValueError(
            "variants are compared with the clean model: put what all of them share into each, and leave "
            "interventions= out"
        )
    return ((), *lists_of(variants))


def _ask_all(
    model: AudioLM,
    asking: Asking,
    questions: Iterable[AudioQuestion],
    variants: Lists,
    log: RunLog,
    **going: Any,
) -> list[tuple[str, ...]]:
    """Ask what the log does not have yet, and what failed before; what each question's clip is known by."""

    def look(window: Sequence[Placed]) -> None:
        if asking.scoring != "generate":
            refuse_open(
                [placed.question for placed in window if placed.index not in log.known],
                f"scoring={asking.scoring!r}",
                f'ma.evaluate(..., scoring="generate") scores what it writes; {BY_WORDS}',
            )

    def keep(parts: Sequence[Sequence[Row]], failed: Sequence[Row]) -> None:
        rows = [*failed, *chain.from_iterable(parts)]
        log.add([row for row in rows if row != log.known.get(row.index)])  # one that fails as before is known

    return go_through(
        model,
        asking,
        questions,
        log,
        partial(ask, model, asking, variants),
        keep,
        look=look,
        note=clip_keys,
        what=asking.condition,
        **going,
    )
