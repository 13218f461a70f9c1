"""Variants that change something before the decoder, as many at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.front import Front
from mechaudio.tracing.shared_prefix import Prefix
from mechaudio.tracing.variants import Variant


def behind_fronts(
    model: AudioLM, batch: PromptBatch, variants: Sequence[Variant], prefix: Prefix, budget: float
) -> Iterator[dict[int, Variant | str]]:
    """What variants make of the decoder's input: by their places, variants of the decoder, or why they run alone.

    Args:
        model: The opened model.
        batch: The prompts.
        variants: Variants that change something before the decoder.
        prefix: What the clean run left behind.
        budget: Bytes that may be used.
    """
    if not variants:
        return
    front = Front(model, batch, variants)
    each = batch.n_rows * prefix.n_rows * model.d_model * model.network.dtype.itemsize
    n = max(1, int((budget - front.n_bytes) / each))
    for start in range(0, len(variants), n):
        yield {one.index: front.followed(one, prefix) for one in variants[start : start + n]}
