"""Many interventions on the same prompts, for the price of about one forward pass: their logits, or their answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechaudio.arguments import checks_arguments
from mechaudio.interventions.grid import Variants, grid_axes
from mechaudio.interventions.sweep_result import Generations, Sweep, Tokens
from mechaudio.metrics.choices import UNWRITTEN, warn_of_unwritten
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.models.targets import Words, tokens_used
from mechaudio.notices import withheld
from mechaudio.provenance import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.choice_logits import ChoiceColumns
from mechaudio.tracing.decoding import NO_TOKEN, padding_token
from mechaudio.tracing.generation import texts_of
from mechaudio.tracing.join import join_rows
from mechaudio.tracing.run_result import names_of
from mechaudio.tracing.teacher_forced import is_whole, whole_logits
from mechaudio.variants.execute import CLEAN, SHARED, Outcome, carry_out, lists_of
from mechaudio.variants.shared_pass import CleanRun


@checks_arguments
def sweep(
    model: AudioLM,
    batch: Inputs | CleanRun,
    variants: Variants,
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
        batch: Prompts, questions, conversations, a dict of the network's own inputs, or a `ma.variants.clean_run` of
            any of these, which is then not run again.
        variants: A grid, a list of interventions or of lists of interventions, or a dict of either by name, which
            then labels the results; an empty list is the clean run.
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
    prompts = batch.batch if isinstance(batch, CleanRun) else as_prompts(model, batch)
    prompts = prompts.aimed(target=target, foil=foil, whole=whole)
    if is_whole(prompts):
        return _whole(model, prompts, variants, memory=memory, progress=progress)
    if clean is not None and clean.model is not model:
        raise ValueError(
            "the clean run is of another model: make it with this one, ma.variants.clean_run(model, batch)"
        )
    outcomes = carry_out(model, prompts, lists, memory=memory, progress=progress, clean=clean)
    logits, mass, ways = _collected(outcomes, len(lists), prompts)
    settings = {"condition": prompts.condition, "n_variants": len(lists)}
    settings |= {"targets": tokens_used(prompts)} if any(prompts.aims) else {}
    return Sweep(
        logits=logits[:CLEAN],
        clean=logits[CLEAN],
        variants=lists,
        ways=tuple(ways[:CLEAN]),
        mass_before=mass[0, :CLEAN],
        mass_after=mass[1, :CLEAN],
        batch=prompts,
        axes=grid_axes(variants),
        provenance=Provenance.collect(model, settings=settings),
    )


def _whole(model: AudioLM, prompts: PromptBatch, variants: Variants, **options: Any) -> Sweep:
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


def _collected(
    outcomes: Iterable[Outcome], n_variants: int, batch: PromptBatch
) -> tuple[Float[Tensor, "variant question choice"], Float[Tensor, "2 variant question"], list[str]]:
    """Logits, masses and ways of all variants on all prompts, filled in bit by bit; the clean run comes last."""
    sizes, n_choices = (n_variants + 1, batch.n_rows), max(map(len, batch.choice_ids), default=0)
    logits, mass, ways = torch.empty(0), torch.full((2, *sizes), torch.nan), [SHARED] * sizes[0]
    for outcome in outcomes:
        assert outcome.logits is not None, "a sweep writes no answers"
        of_choices = outcome.logits
        if n_choices:
            columns = ChoiceColumns(outcome.batch, n_choices, outcome.logits.device)
            of_choices = columns.of(outcome.logits, lacking=torch.nan).cpu()
        if not logits.numel():
            logits = of_choices.new_empty(*sizes, of_choices.shape[-1])
        at = torch.tensor(outcome.variants)[:, None], torch.tensor(outcome.rows)
        logits[at] = rearrange(of_choices, "row variant choice -> variant row choice")
        if outcome.mass is not None:
            mass[:, at[0], at[1]] = rearrange(outcome.mass, "side row variant -> side variant row")
        for index in outcome.variants:
            ways[index] = outcome.way
    return logits, mass, ways


@checks_arguments
def generate_variants(
    model: AudioLM,
    batch: Inputs,
    variants: Variants,
    *,
    max_new_tokens: int = 32,
    memory: int | float | None = None,
    progress: bool | None = None,
) -> Generations:
    """Generate greedily under every variant, and give the tokens that `ma.generate` gives one by one.

    The prompts run once. Variants run from their first edited position and layer on, as in `ma.sweep`; their new tokens
    then continue from the keys and values of the prompts, as many variants together as memory allows. Interventions act
    at every new token as they do in `ma.generate`. Variants that can share nothing run one by one; `Generations.ways`
    says which and why.

    ```python
    steered = [ma.Steer(direction, strength, layers=[12]) for strength in (2, 4, 8)]
    written = ma.generate_variants(model, batch, steered, max_new_tokens=64)
    written.clean_texts[0], [texts[0] for texts in written.texts]
    ```

    Tokens differ from those of `ma.generate` only where the two likeliest are closer than rounding, which differs
    where products of matrices have other sizes.

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, or a dict of the network's own inputs.
        variants: A grid, a list of interventions or of lists of interventions, or a dict of either by name, which
            then labels the results; an empty list is the clean run.
        max_new_tokens: How many tokens at most.
        memory: Bytes that may be used beside the weights; by default half of what is free on a GPU, and two billion on
            a CPU. More prompts and variants at a time fit into more.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The new tokens and their text.

    Warns:
        UserWarning: Padding leaks between clips in this class, so prompts with clips of different lengths run apart; or
            logits are NaN or overflow, as in `ma.generate`.

    Raises:
        TypeError: Something else than interventions.
        ValueError: No variants, no new token at all, or an intervention that does not fit these prompts.
    """
    lists, prompts = ((), *lists_of(variants)), as_prompts(model, batch)
    parts: list[list[tuple[list[int], Tokens]]] = [[] for _ in lists]
    ways = [SHARED] * len(lists)
    with withheld(UNWRITTEN):  # of all variants together it is said below
        written = carry_out(model, prompts, lists, memory=memory, progress=progress, max_new_tokens=max_new_tokens)
        for outcome in written:
            for index, tokens in zip(outcome.variants, outcome.tokens, strict=True):
                parts[index].append((outcome.rows, tokens))
                ways[index] = outcome.way
    settings = {"condition": prompts.condition, "n_variants": len(lists) - 1, "max_new_tokens": max_new_tokens}
    filler = padding_token(model.network)
    tokens = [join_rows([ids for _, ids in pairs], [rows for rows, _ in pairs], filler) for pairs in parts]
    texts = [texts_of(model, ids) for ids in tokens]
    warn_of_unwritten(names_of(prompts), np.stack([(ids != NO_TOKEN).all(-1).cpu().numpy() for ids in tokens]))
    return Generations(
        tokens=tuple(tokens[1:]),
        texts=tuple(texts[1:]),
        clean_tokens=tokens[0],
        clean_texts=texts[0],
        variants=lists[1:],
        ways=tuple(ways[1:]),
        batch=prompts,
        axes=grid_axes(variants),
        provenance=Provenance.collect(model, settings=settings),
    )
