"""Attention scores of audio at the last position, and what the three readings of MATA's formula do to attention there.

Softmax ignores a number added to all scores of a row, and multiplying does not: whether (1 + alpha) s gives the audio
more attention depends on the sign of s, which nothing in training fixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float

from mechaudio.analyses.query_rows import query_rows
from mechaudio.analyses.streaming import Questions, prepared_batches
from mechaudio.arguments import checks_arguments
from mechaudio.experiments.mata_arms import MODES
from mechaudio.interventions.mata import mata
from mechaudio.interventions.sweep import sweep
from mechaudio.models.prompt import PromptBatch, prompt
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run


@dataclass(frozen=True, eq=False, kw_only=True)
class MataScores(Result):
    """In the mean over questions and heads, by layer that has attention.

    Attributes:
        layers: Which layers these are.
        negative: Share of the last position's scores on audio tokens that are below zero.
        score: Their mean.
        before: Share of the last position's attention on audio tokens.
        after: The same with MATA in this one layer, by reading of the formula.
        modes: The readings.
        alpha: The strength.
        n: Questions.
    """

    layers: tuple[int, ...]
    negative: Float[np.ndarray, " layer"]
    score: Float[np.ndarray, " layer"]
    before: Float[np.ndarray, " layer"]
    after: Float[np.ndarray, "mode layer"]
    modes: tuple[str, ...]
    alpha: float
    n: int

    _table_axes = ("layer",)


@checks_arguments
def mata_scores(
    model: AudioLM,
    questions: Questions,
    *,
    alpha: float = 0.1,
    queries: str = "last",
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None = None,
) -> MataScores:
    """Measure them, in two passes per question.

    Args:
        model: An `AudioLM`.
        questions: With recordings; of those that are longer than the model hears, the beginning is measured.
        alpha: The strength.
        queries: The query rows, a span; of several rows of a prompt, the mean.
        batch_size: Questions per forward pass; by default as many as fit.
        workers: Processes that read clips and make prompts ahead of the model, as in `workers_for`.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Without questions.
    """
    layers = tuple(site.layer for site in model.site_map.find(HookPoint("scores")))
    variants = [mata(alpha, layers=[layer], mode=mode, queries=queries) for mode in MODES for layer in layers]
    negative, score, masses, n = [], [], [], 0

    def make(together: Any) -> PromptBatch:
        return together if isinstance(together, PromptBatch) else prompt(model, together, allow_cut=True)

    batches = prepared_batches(
        model, questions, make, batch_size=batch_size, workers=workers, what="MATA scores", progress=progress
    )
    for _, batch in batches:
        n += len(batch)
        positions, weights = query_rows(batch, queries)
        cache = run(model, batch, record=[HookPoint("scores", queries=positions)], logits=None).cache
        scores = rearrange(cache.stack("scores").float(), "layer row head query key -> row layer head query key")
        audio = rearrange(batch.span_mask("audio"), "row key -> row 1 1 1 key").to(scores.device)
        share = (
            audio
            / audio.sum(-1, keepdim=True)
            * rearrange(torch.from_numpy(weights).to(scores), "row query -> row 1 1 query 1")
        )
        negative.append(((scores < 0) * share).sum((-1, -2)).mean(-1).cpu().numpy())
        score.append((scores.where(audio, 0) * share).sum((-1, -2)).mean(-1).cpu().numpy())
        swept = sweep(model, batch, variants, progress=False)
        both = np.stack([swept.mass_before.numpy(), swept.mass_after.numpy()])
        masses.append(rearrange(both, "when (mode layer) row -> row when mode layer", mode=len(MODES)))
    before, after = np.concatenate(masses).mean(0)
    return MataScores(
        layers=layers,
        negative=np.concatenate(negative).mean(0),
        score=np.concatenate(score).mean(0),
        before=before[0],
        after=after,
        modes=MODES,
        alpha=alpha,
        n=n,
        provenance=Provenance.collect(model, settings={"alpha": alpha, "queries": queries, "n": n}),
    )
