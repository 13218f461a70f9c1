"""Answers written under many variants, with the prompt run once."""

from __future__ import annotations

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.interventions.grid import Variants, grid_axes
from mechaudio.interventions.sweep_result import Generations, Tokens
from mechaudio.metrics.choices import UNWRITTEN, warn_of_unwritten
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.notices import withheld
from mechaudio.provenance import Provenance
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.decoding import NO_TOKEN, padding_token
from mechaudio.tracing.generation import texts_of
from mechaudio.tracing.join import join_rows
from mechaudio.tracing.run_result import names_of
from mechaudio.variants.execute import SHARED, carry_out, lists_of


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
