"""Running prompts without a trace block: read what is named, change what is given, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups, part_of
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.provenance import Provenance
from mechaudio.question import Answer, refuse_open
from mechaudio.tracing.answers import answers_of
from mechaudio.tracing.audio_lm import AudioLM, warn_of_leaks
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.effects import Effect, Effects
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.join import interventions_of_rows, join_caches, join_effects, join_rows
from mechaudio.tracing.record import Intervention, hook_points, refuse_unkept, register
from mechaudio.tracing.run_result import Run, warn_of_nan
from mechaudio.tracing.teacher_forced import is_whole, whole_logits
from mechaudio.tracing.unembedding import unembed_last_only


@checks_arguments
def run(
    model: AudioLM,
    batch: Inputs,
    *,
    record: Sequence[str | HookPoint] = (),
    interventions: Iterable[Intervention] = (),
    logits: str | None = "all",
) -> Run:
    """One forward pass, without gradients.

    ```python
    out = ma.run(model, batch, record=["resid_post", ma.HookPoint("pattern", queries="last")])
    out.cache["pattern", 3]      # [batch, head, 1, key]
    ```

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, or a dict of the network's own inputs.
        record: Hook points to keep, in any order; each is a copy of what went on through the network, after every
            intervention.
        interventions: What to change. Several at one site act in the order given.
        logits: `"all"` positions, the `"last"` only (the unembedding of the others is not computed), or `None` (the
            forward pass ends with the last recorded hook point).

    Returns:
        The logits and the cache.

    Warns:
        UserWarning: Padding leaks between clips in this class, so rows with clips of different lengths run apart, and
            an intervention sees the rows of one such run at a time; or what is kept holds NaN.

    Raises:
        KeyError: An unknown hook point or span.
        IndexError: A layer that the model does not have.
        ValueError: Audio placeholders without audio features; a hook point of the tower in prompts without sound; a
            position to be kept that the pass does not compute; or a state that `AudioLM.refuse_unfit` refuses.
    """
    if logits not in ("all", "last", None):
        raise ValueError(f"logits= is 'all', 'last' or None, got {logits!r}")
    points = hook_points(record)
    if logits is None and not points:
        raise ValueError("nothing to compute: logits=None and no hook point to record")
    prompts, changes = as_prompts(model, batch), list(interventions)
    groups, apart = in_groups(model, prompts, points, changes)
    out, *others = parts = [_run(model, *some, logits) for some in apart]
    if others:
        caches = [part.cache for part in parts]
        out = Run(
            logits=None if logits is None else join_rows([part.logits for part in parts], groups),
            cache=join_caches(caches, groups, model.adapter, prompts, Cache(model.site_map.depth)),
            batch=prompts,
            tower_calls=sum(part.tower_calls for part in parts),
            effects=join_effects([part.effects for part in parts], groups, changes, apart[0].interventions),
            provenance=provenance_of(model, points, changes),
        )
    warn_of_nan(out.cache, prompts)
    return out


class RowsApart(NamedTuple):
    """One group of prompts, with the hook points and interventions of its run."""

    prompts: PromptBatch
    points: list[HookPoint]
    interventions: list[Intervention]


def groups_apart(model: AudioLM, prompts: PromptBatch) -> list[list[int]]:
    """Return the rows that run together: all, but where padding leaks between clips of different lengths.

    Warns:
        UserWarning: There are several groups.
    """
    groups = padding_groups(model.adapter, prompts)
    if len(groups) > 1:
        warn_of_leaks(model.adapter, f"they run in {n_of(len(groups), 'group')} of rows, which takes longer")
    return groups


def in_groups(
    model: AudioLM,
    prompts: PromptBatch,
    points: list[HookPoint],
    interventions: Iterable[Intervention],
) -> tuple[list[list[int]], list[RowsApart]]:
    """Split what runs into groups of rows, where padding leaks between clips of different lengths.

    Returns:
        The rows of each group, and what runs on them.

    Warns:
        UserWarning: It is split.
    """
    groups = groups_apart(model, prompts)
    if len(groups) == 1:
        return groups, [RowsApart(prompts, points, list(interventions))]
    return groups, [
        RowsApart(
            part_of(model.adapter, prompts, rows),
            [point.of_rows(rows) for point in points],
            interventions_of_rows(interventions, rows),
        )
        for rows in groups
    ]


def _run(
    model: AudioLM,
    prompts: PromptBatch,
    points: list[HookPoint],
    interventions: Iterable[Intervention],
    logits: str | None,
) -> Run:
    cache = Cache(model.site_map.depth)
    with torch.no_grad(), model.exchange.prepared(prompts):
        changed = register(model, prompts, points, interventions, lambda: cache, stop_after_last=logits is None)
        if logits == "last":
            unembed_last_only(model)
        out = model.interleave("__call__", **prompts.inputs, use_cache=False)
        refuse_unkept(model, points, cache)
        return Run(
            logits=None if logits is None else out.logits,
            cache=cache,
            batch=prompts,
            tower_calls=model.exchange.tower_calls,
            effects=effects_of(changed, (prompts.n_rows, model.n_heads)),
            provenance=provenance_of(model, points, interventions),
        )


def provenance_of(
    model: AudioLM, points: Sequence[HookPoint], interventions: Iterable[Intervention], **settings: Any
) -> Provenance:
    """Collect the provenance of a run: its hook points and interventions, and what else was set."""
    recorded, changes = tuple(map(repr, points)), tuple(map(repr, interventions))
    return Provenance.collect(model, settings={"record": recorded, "interventions": changes, **settings})


def effects_of(changed: Iterable[tuple[Intervention, list[Effect]]], size: tuple[int, int]) -> tuple[Effects, ...]:
    """Sum up what each intervention did, in a run of `size`: rows and heads."""
    return tuple(Effects.of(intervention, did, size) for intervention, did in changed)


@checks_arguments
def answer(model: AudioLM, batch: Inputs, *, interventions: Iterable[Intervention] = ()) -> list[Answer]:
    """The choice that gets the highest logit at the last prompt position, for every question.

    Args:
        model: The opened model.
        batch: Prompts made from questions, or the questions.
        interventions: What to change while answering.

    Returns:
        One answer per question, with the logits of all choices.

    Raises:
        ValueError: The batch was made from plain inputs: no questions, no choices; or a question is open.
    """
    prompts = as_prompts(model, batch)
    if not prompts.questions:
        raise ValueError(
            "ma.answer needs prompts made from questions: ma.prompt(model, questions). For plain inputs, ma.run gives "
            "logits"
        )
    refuse_open(prompts.questions, "ma.answer", "ma.generate writes its answer")
    return answers_of(prompts, measured_logits(model, prompts, interventions))


def measured_logits(
    model: AudioLM, batch: PromptBatch, interventions: Iterable[Intervention] = ()
) -> Float[np.ndarray, "question choice"]:
    """Run the rows by themselves for what they choose among: letters, first tokens, or whole texts."""
    interventions = list(interventions)

    def measure(prompts: PromptBatch) -> Tensor:
        logits = run(model, prompts, interventions=interventions, logits="last").logits[:, -1]
        return torch.from_numpy(choice_logits(prompts, logits))

    return (whole_logits(batch, measure) if is_whole(batch) else measure(batch)).numpy()
