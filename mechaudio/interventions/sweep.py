"""Many interventions on the same prompts, for the price of about one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import checks_arguments
from mechaudio.interventions.grid import Grid
from mechaudio.interventions.jobs import Job, jobs_of, lists_of
from mechaudio.interventions.sweep_result import SHARED, Sweep
from mechaudio.interventions.taken_apart import TakenApart
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.models.targets import Words, tokens_used
from mechaudio.progress import Bar, bar
from mechaudio.provenance import Provenance
from mechaudio.tracing.audio_lm import AudioLM, warn_of_leaks
from mechaudio.tracing.choice_logits import choices_reader
from mechaudio.tracing.clean_run import CleanRun
from mechaudio.tracing.memory import memory_of
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import run
from mechaudio.tracing.shared_prefix import Ride, run_alone, why_not_shared
from mechaudio.tracing.suffixes import Suffixes
from mechaudio.tracing.teacher_forced import is_whole, whole_logits


@checks_arguments
def sweep(
    model: AudioLM,
    batch: Inputs | CleanRun,
    variants: Sequence[Intervention | Sequence[Intervention]],
    *,
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    memory: int | float | None = None,
    progress: bool | None = None,
) -> Sweep:
    """Run every variant on every prompt, and give the logits that running them one by one would give.

    The prompts run once. Variants are then computed from their first edited position and layer on, all together, over
    the keys and values of the clean run. Those with edits in the audio tower or in the embeddings start at their first
    edited part, and share the decoder from the first position that this changes. Edits of logits, or of the first
    position in the first layer, run one by one, and so does everything in a network with forward hooks of somebody
    else's; `Sweep.ways` says what and why.

    ```python
    found = ma.sweep(model, batch, ma.grid(ma.ScaleAttention, layers=range(32), factor=[0.5, 2.0]))
    found.to_xarray().correct.mean("question")        # [layers, factor]
    ```

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, a dict of the network's own inputs, or a `clean_run` of any of these,
            which is then not run again.
        variants: A grid, or a list of interventions or of lists of interventions; an empty list is the clean run.
        target: Words to measure in the place of the choices' letters, as in `PromptBatch.aimed`; of an open question,
            its answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced; by default the first one, and all of words that begin
            with the same token. Logits are summed log-probabilities then, and `provenance` says which were measured.
            Interventions at named positions change the prompt alone, others the words, too.
        memory: Bytes that may be used beside the weights; by default half of what is free on a GPU, and two billion on
            a CPU. More prompts at a time fit into more; variants that run together take 4 billion at most on a GPU, 0.2
            billion on a CPU, as more of them at once run no faster.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        Logits at the last position.

    Warns:
        UserWarning: Padding leaks between clips in this class, so prompts with clips of different lengths run apart.

    Raises:
        TypeError: Something else than interventions.
        ValueError: No variants, an intervention that does not fit these prompts, a clean run of another model, or words
            that `PromptBatch.aimed` refuses.
    """
    lists = lists_of(variants)
    clean = batch if isinstance(batch, CleanRun) else None
    prompts = as_prompts(model, batch) if clean is None else clean.batch
    prompts = prompts.aimed(target=target, foil=foil, whole=whole)
    if is_whole(prompts):
        return _whole(model, prompts, variants, memory=memory, progress=progress)
    budget = memory_of(model, memory)
    found = _Found(len(lists), prompts)
    if clean is not None and clean.model is not model:
        raise ValueError("the clean run is of another model: make it with this one, clean_run(model, batch)")
    if clean is not None and clean.prefix is not None and why_not_shared(model) is None:
        jobs = [Job(list(range(prompts.n_rows)), list(range(len(lists))), clean=clean)]
    else:
        groups = padding_groups(model.adapter, prompts)
        if len(groups) > 1:
            warn_of_leaks(model.adapter, f"they run in {len(groups)} groups of rows, which takes longer")
        jobs = [job for group in groups for job in jobs_of(model, prompts, lists, group, budget)]
    total = sum(len(job.variants) for job in jobs)
    with bar(what="sweep", unit="variants", total=total, progress=progress) as drawn:
        for job in jobs:
            part, own = job.of(model, prompts, lists)
            _sweep_rows(model, part, job, own, budget, found, drawn)
    settings = {"condition": prompts.condition, "n_variants": len(lists)}
    settings |= {"targets": tokens_used(prompts)} if any(prompts.aims) else {}
    return Sweep(
        logits=found.logits,
        clean=found.clean,
        variants=lists,
        ways=tuple(found.ways),
        mass_before=found.mass[0],
        mass_after=found.mass[1],
        batch=prompts,
        axes=variants.axes if isinstance(variants, Grid) else {},
        provenance=Provenance.collect(model, settings=settings),
    )


def _whole(model: AudioLM, prompts: PromptBatch, variants: Sequence, **options: Any) -> Sweep:
    """Sum the log-probabilities of whole targets over sweeps of prompts that are extended token by token."""
    swept = list[Sweep]()

    def measure(batch: PromptBatch) -> Tensor:
        batch = replace(batch, aims=())
        swept.append(sweep(model, batch, variants, **options))
        return torch.cat([swept[-1].clean[None], swept[-1].logits])

    clean, *logits = whole_logits(prompts, measure)
    settings = dict(swept[0].provenance.settings) | {"targets": tokens_used(prompts)}
    provenance = replace(swept[0].provenance, settings=settings)
    return replace(swept[0], clean=clean, logits=torch.stack(logits), batch=prompts, provenance=provenance)


class _Found:
    """What the variants did to every prompt, filled in bit by bit."""

    def __init__(self, n_variants: int, batch: PromptBatch):
        """Args: n_variants: how many there are; batch: all prompts."""
        self.sizes = n_variants, batch.n_rows
        self.n_choices = max((len(ids) for ids in batch.choice_ids), default=0)
        self.logits: Float[Tensor, "variant question choice"] | None = None
        self.clean: Float[Tensor, "question choice"] | None = None
        self.mass = torch.full((2, *self.sizes), torch.nan)
        self.ways = [SHARED] * n_variants

    def put(self, variants: Sequence[int], rows: Sequence[int], logits: Float[Tensor, "row variant choice"]) -> None:
        """The logits of some variants on some prompts."""
        if self.logits is None:
            self.logits = logits.new_empty(*self.sizes, logits.shape[-1])
        variants = torch.tensor(variants, device=logits.device)
        for column, row in enumerate(rows):
            self.logits[variants, row] = logits[column]

    def put_clean(self, rows: Sequence[int], logits: Float[Tensor, "row choice"]) -> None:
        """The logits of some prompts without interventions."""
        if self.clean is None:
            self.clean = logits.new_empty(self.sizes[1], logits.shape[-1])
        self.clean[list(rows)] = logits


def _sweep_rows(
    model: AudioLM,
    batch: PromptBatch,
    job: Job,
    variants: Mapping[int, Sequence[Intervention]],
    budget: float,
    found: _Found,
    drawn: Bar,
) -> None:
    """The variants of a job, by their places among all, on its prompts."""
    rows = job.rows
    of_choices = choices_reader(batch, found.n_choices, model.device)

    def put(chunk: Suffixes, logits: Float[Tensor, "batch variant vocab"]) -> None:
        indices = [variant.index for variant in chunk.variants]
        found.put(indices, rows, of_choices(logits))
        shares = chunk.mass.cpu() / torch.tensor(chunk.measured)  # 0 / 0 where nothing was measured
        for column, row in enumerate(rows):
            found.mass[:, indices, row] = shares[:, column]
        drawn.update(len(indices))

    if job.alone is not None:
        clean = run(model, batch, logits="last").logits[:, -1]
        alone = dict.fromkeys(variants, job.alone)
    else:
        apart = TakenApart(model, batch, variants, budget, clean=job.clean and job.clean.prefix)
        if job.clean is None:
            ride = Ride(model, batch, apart.chunks, apart.rows_later)
            clean, riding = ride.run()
            prefix, chunks = ride.prefix, ride.chunks
        else:
            clean, prefix, chunks = job.clean.logits, job.clean.prefix, apart.chunks()
        for chunk in chunks:
            put(chunk, riding if chunk.riding else run_alone(model, prefix, chunk))
        for chunk in apart.chunks_behind_fronts(prefix):
            put(chunk, run_alone(model, prefix, chunk))
        alone = apart.alone()
    found.put_clean(rows, of_choices(clean))
    for index, why in alone.items():
        out = run(model, batch, interventions=variants[index], logits="last")
        found.put([index], rows, of_choices(out.logits[:, -1:]))
        found.ways[index] = f"one by one: {why}"
        if out.effects:
            found.mass[:, index, list(rows)] = _shares(out.effects)
        drawn.update(1)


def _shares(effects: Sequence[Any]) -> Float[Tensor, "2 question"]:
    """Attention on the keys that a variant acts on, in the mean over what it acts in."""
    per_layer = [
        torch.stack(
            [
                mass[:, :, list(getattr(one.intervention, "heads", None) or range(mass.shape[2]))].mean(2)
                for mass in both
            ]
        )
        for one in effects
        for both in [(one.mass_before, one.mass_after)]
    ]
    return torch.cat(per_layer, dim=1).mean(1)
