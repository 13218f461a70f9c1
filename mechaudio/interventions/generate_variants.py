"""What a model writes under many variants, with the prompt run once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from mechaudio.arguments import checks_arguments
from mechaudio.interventions.generations import Generations, Tokens
from mechaudio.interventions.grid import Grid
from mechaudio.interventions.jobs import Job, jobs_of, lists_of
from mechaudio.interventions.sweep_result import SHARED
from mechaudio.interventions.taken_apart import TakenApart
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.progress import Bar, bar
from mechaudio.provenance import Provenance
from mechaudio.tracing.audio_lm import AudioLM, warn_of_leaks
from mechaudio.tracing.continuing import FirstPass, PromptEnd, continued, variant_ends, why_not_continued
from mechaudio.tracing.decoding import padding_token
from mechaudio.tracing.join import join_rows
from mechaudio.tracing.memory import bytes_per_position, memory_of
from mechaudio.tracing.record import Intervention
from mechaudio.tracing.run import generate, texts_of
from mechaudio.tracing.shared_prefix import run_alone
from mechaudio.tracing.suffixes import Suffixes


@checks_arguments
def generate_variants(
    model: AudioLM,
    batch: Inputs,
    variants: Sequence[Intervention | Sequence[Intervention]],
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
        variants: A grid, or a list of interventions or of lists of interventions; an empty list is the clean run.
        max_new_tokens: How many tokens at most.
        memory: Bytes that may be used beside the weights; by default half of what is free on a GPU, and two billion on
            a CPU. More prompts and variants at a time fit into more.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The new tokens and their text.

    Warns:
        UserWarning: Padding leaks between clips in this class, so prompts with clips of different lengths run apart.

    Raises:
        TypeError: Something else than interventions.
        ValueError: No variants, no new token at all, or an intervention that does not fit these prompts.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    lists, prompts = ((), *lists_of(variants)), as_prompts(model, batch)
    budget = memory_of(model, memory)
    groups = padding_groups(model.adapter, prompts)
    if len(groups) > 1:
        warn_of_leaks(model.adapter, f"they run in {len(groups)} groups of rows, which takes longer")
    jobs = [job for group in groups for job in _jobs(model, prompts, lists, group, budget)]
    total = sum(len(job.variants) for job in jobs)
    with bar(what="generate", unit="variants", total=total, progress=progress) as drawn:
        found = _Found(len(lists), drawn)
        for job in jobs:
            part, own = job.of(model, prompts, lists)
            _generate_rows(model, part, job, own, max_new_tokens, budget, found)
    filler = padding_token(model.network)
    tokens = [join_rows([ids for _, ids in parts], [rows for rows, _ in parts], filler) for parts in found.parts]
    texts = [texts_of(model, ids) for ids in tokens]
    return Generations(
        tokens=tuple(tokens[1:]),
        texts=tuple(texts[1:]),
        clean_tokens=tokens[0],
        clean_texts=texts[0],
        variants=lists[1:],
        ways=tuple(found.ways[1:]),
        batch=prompts,
        axes=variants.axes if isinstance(variants, Grid) else {},
        provenance=Provenance.collect(
            model,
            settings={
                "condition": prompts.condition,
                "n_variants": len(lists) - 1,
                "max_new_tokens": max_new_tokens,
            },
        ),
    )


class _Found:
    """What the variants gave on every prompt, filled in bit by bit.

    Attributes:
        parts: Per variant, prompts and their new tokens.
        ways: Per variant, how it was computed.
    """

    def __init__(self, n_variants: int, drawn: Bar):
        """Args: n_variants: how many there are; drawn: shows how many are done."""
        self.parts: list[list[tuple[list[int], Tokens]]] = [[] for _ in range(n_variants)]
        self.ways, self.drawn = [SHARED] * n_variants, drawn

    def put(self, variants: Iterable[int], rows: list[int], tokens: Iterable[Tokens]) -> None:
        """The new tokens of some prompts under some variants."""
        for index, ids in zip(variants, tokens, strict=True):
            self.parts[index].append((rows, ids))
            self.drawn.update(1)


def _jobs(
    model: AudioLM, batch: PromptBatch, variants: Sequence[Sequence[Intervention]], group: list[int], budget: float
) -> Iterator[Job]:
    """All variants on prompts that may run together.

    A quarter of the memory is for the keys and values of the prompts, a quarter for variants that go through the
    layers, a quarter for the keys and values of those that did, and a quarter for what new tokens continue from.
    """
    if (why := why_not_continued(model)) is not None:
        yield Job(group, list(range(len(variants))), why)
    else:
        yield from jobs_of(model, batch, variants, group, budget / 2)


def _generate_rows(
    model: AudioLM,
    batch: PromptBatch,
    job: Job,
    variants: Mapping[int, Sequence[Intervention]],
    max_new_tokens: int,
    budget: float,
    found: _Found,
) -> None:
    """The variants of a job, by their places among all, on its prompts."""

    def go_on(ends: Sequence[tuple[int, PromptEnd]]) -> None:
        per_variant = batch.n_rows * (batch.n_positions + max_new_tokens) * bytes_per_position(model)
        at_once = max(1, int(budget / 4 / per_variant))
        for start in range(0, len(ends), at_once):
            some = dict(ends[start : start + at_once])
            changes = [variants[index] for index in some]
            found.put(some, job.rows, continued(model, batch, list(some.values()), changes, max_new_tokens))

    if job.alone is not None:
        alone = dict.fromkeys(variants, job.alone)
    else:
        apart = TakenApart(model, batch, variants, budget / 2, keeps=True)
        ride = FirstPass(model, batch, apart.chunks, apart.rows_later)
        _, riding = ride.run()
        ends, held = [], 0
        for chunk in chain(ride.chunks, apart.chunks_behind_fronts(ride.prefix)):
            needed = len(chunk.variants) * batch.n_rows * chunk.n_rows * bytes_per_position(model)
            if ends and held + needed > budget / 4:
                go_on(ends)
                ends, held = [], 0  # with them go their keys and values
            ends += _ends(ride, chunk, riding)
            held += needed
        go_on(ends)
        alone = apart.alone()
    for index, why in alone.items():
        found.put(
            [index],
            job.rows,
            [generate(model, batch, max_new_tokens=max_new_tokens, interventions=variants[index]).tokens],
        )
        found.ways[index] = f"one by one: {why}"


def _ends(
    ride: FirstPass, chunk: Suffixes, riding: Float[Tensor, "batch variant vocab"]
) -> list[tuple[int, PromptEnd]]:
    """What prompts left behind under the variants of a chunk, by their places among all.

    Args:
        ride: The first pass.
        chunk: The variants; those that did not ride along go through the layers here.
        riding: Logits of those that did.
    """
    past, logits = ride.past, riding
    if not chunk.riding:
        past = DynamicCache()
        logits = run_alone(ride.model, ride.prefix, chunk, past)
    return list(zip((one.index for one in chunk.variants), variant_ends(ride, chunk, past, logits), strict=True))
