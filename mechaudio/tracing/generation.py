"""Generating without a trace block: interventions act, and hook points are kept, at every new token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList

from mechaudio.arguments import checks_arguments
from mechaudio.metrics.choices import NO_TEXT, warn_of_unwritten
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.decoding import (
    NO_TOKEN,
    Unclear,
    end_tokens,
    greedy,
    new_tokens,
    padding_token,
    sound_with_the_prompt,
)
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.join import join_caches, join_effects, join_rows
from mechaudio.tracing.options import plain_options, refuse_generating
from mechaudio.tracing.record import Intervention, hook_points, refuse_unkept, register
from mechaudio.tracing.run import effects_of, in_groups, provenance_of
from mechaudio.tracing.run_result import Generation, names_of
from mechaudio.tracing.sites import ROOT


@checks_arguments
def generate(
    model: AudioLM,
    batch: Inputs,
    *,
    record: Sequence[str | HookPoint] = (),
    interventions: Iterable[Intervention] = (),
    max_new_tokens: int = 32,
    **options: Any,
) -> Generation:
    """Greedy generation with a key-value cache; interventions act and hook points are kept at every new token.

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, or a dict of the network's own inputs.
        record: Hook points to keep at every step.
        interventions: What to change. `queries="last"` is the newest token's row at every step.
        max_new_tokens: How many tokens at most.
        **options: Passed on to the network's `generate`: whatever leaves a prompt one continuation, made of the
            likeliest tokens, such as `eos_token_id`, `min_new_tokens`, `repetition_penalty`, `logits_processor`,
            `stopping_criteria` and `cache_implementation`.

    Returns:
        The new tokens, their text, and what was kept.

    Warns:
        UserWarning: Padding leaks between clips in this class, so rows with clips of different lengths run apart; what
            is kept of a row whose group had ended is zero. Or logits are NaN or overflow: the tokens from there on are
            -1, and the text is `[NaN]`.

    Raises:
        ValueError: No new token at all; tokens that would be drawn, several beams or continuations of a prompt, or
            prompts cut into parts; a position to be kept that the first pass does not compute, as the last layers of
            Gemma 4 compute the last one alone; or a state that `AudioLM.refuse_unfit` refuses.
        TypeError: An option that is not known.
    """
    refuse_generating("ma.generate", options)
    points, changes = hook_points(record), list(interventions)
    prompts = as_prompts(model, batch)
    groups, apart = in_groups(model, prompts, points, changes)
    out, *others = parts = [_generate(model, *some, max_new_tokens, options) for some in apart]
    if others:
        filler = options.get("pad_token_id", padding_token(model.network))
        tokens = join_rows([part.tokens for part in parts], groups, filler)
        out = Generation(
            tokens=tokens,
            texts=texts_of(model, tokens),
            steps=_joined_steps([part.steps for part in parts], groups, model, prompts),
            batch=prompts,
            tower_calls=sum(part.tower_calls for part in parts),
            effects=join_effects([part.effects for part in parts], groups, changes, apart[0].interventions),
            provenance=provenance_of(model, points, changes, max_new_tokens=max_new_tokens),
        )
    warn_of_unwritten(names_of(prompts), (out.tokens != NO_TOKEN).all(-1).cpu().numpy())
    return out


def _joined_steps(
    parts: Sequence[tuple[Cache, ...]], groups: Sequence[Sequence[int]], model: AudioLM, prompts: PromptBatch
) -> tuple[Cache, ...]:
    """Join what groups of rows kept at every step; rows of a group that wrote less are zeros behind its end."""
    joined, depth = [], model.site_map.depth
    for step in range(max(map(len, parts))):
        there = [steps[step] if step < len(steps) else None for steps in parts]
        shape_of = next(cache for cache in there if cache is not None)
        caches = []
        for cache, rows in zip(there, groups, strict=True):
            if cache is None:
                zeros = {key: value.new_zeros((len(rows), *value.shape[1:])) for key, value in shape_of.items()}
                cache = Cache(depth, zeros)
            caches.append(cache)
        joined.append(join_caches(caches, groups, model.adapter, prompts, Cache(depth)))
    return tuple(joined)


def _generate(
    model: AudioLM,
    prompts: PromptBatch,
    points: list[HookPoint],
    interventions: Iterable[Intervention],
    max_new_tokens: int,
    options: Mapping[str, Any],
) -> Generation:
    """Generation for rows that may run together."""
    exchange, steps = model.exchange, [Cache(model.site_map.depth)]

    def cache_now() -> Cache:
        while len(steps) <= exchange.step:
            steps.append(Cache(model.site_map.depth))
        return steps[-1]

    with torch.no_grad(), exchange.prepared(prompts):
        changed = register(model, prompts, points, interventions, cache_now)
        new, tower_calls = write(model, prompts.inputs, max_new_tokens, options), exchange.tower_calls
    cache_now()  # a pass of which nothing is kept has an empty cache
    refuse_unkept(model, points, steps[0])
    return Generation(
        tokens=new,
        texts=texts_of(model, new),
        steps=tuple(steps) if points else (),
        batch=prompts,
        tower_calls=tower_calls,
        effects=effects_of(changed, (prompts.n_rows, model.n_heads)),
        provenance=provenance_of(model, points, interventions, max_new_tokens=max_new_tokens),
    )


def write(
    model: AudioLM, inputs: Mapping[str, Any], max_new_tokens: int, options: Mapping[str, Any] | None = None
) -> Int[Tensor, "row new_token"]:
    """Have the network write new tokens, in a run that is prepared; `NO_TOKEN` where logits tell none."""
    options = options or {}
    ends = options.get("eos_token_id", end_tokens(model.network))
    unclear = Unclear([] if ends is None else ends)
    processors = LogitsProcessorList([*options.get("logits_processor", ()), unclear])
    model.exchange.change(f"{ROOT}.input", sound_with_the_prompt(model.adapter.features))
    out = model.interleave(
        model.network.generate,
        **inputs,
        max_new_tokens=max_new_tokens,
        **{**greedy(model.network), **plain_options(options), "logits_processor": processors},
    )
    return unclear.mark(new_tokens(out, inputs["input_ids"].shape[1]))


def texts_of(model: AudioLM, tokens: Int[Tensor, "batch new_token"]) -> tuple[str, ...]:
    """Decode new tokens, `()` without a processor; `[NaN]` where logits tell no token."""
    tokenizer = getattr(model.processor, "tokenizer", None)
    if tokenizer is None:
        return ()
    return tuple(
        NO_TEXT if NO_TOKEN in row else tokenizer.decode(row, skip_special_tokens=True) for row in tokens.tolist()
    )
