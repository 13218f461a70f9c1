"""Which variants run together on which prompts, so that they fit into memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import part_of
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.clean_run import CleanRun
from mechaudio.tracing.join import interventions_of_rows
from mechaudio.tracing.memory import bytes_per_position, chunk_bytes, weights_bytes, widest_bytes
from mechaudio.tracing.record import Edit, Intervention, edits_of
from mechaudio.tracing.shared_prefix import why_not_shared
from mechaudio.tracing.variants import Variant


def lists_of(variants: Sequence[Intervention | Sequence[Intervention]]) -> tuple[tuple[Intervention, ...], ...]:
    """Variants as lists of interventions.

    Raises:
        TypeError: A single intervention.
        ValueError: No variants.
    """
    if callable(getattr(variants, "edits", None)):
        raise TypeError(f"variants= takes a grid or a list, got {variants!r}; write [...] around it")
    lists = tuple(tuple(one) if isinstance(one, Sequence) else (one,) for one in variants)
    if not lists:
        raise ValueError("there is nothing to run: variants= is empty")
    return lists


@dataclass(frozen=True)
class Job:
    """Some variants on prompts that run together.

    Attributes:
        rows: Which of all prompts.
        variants: Which of all variants.
        alone: Why these run one by one, `None` if they may share.
        clean: The clean run of the prompts, where it is there already.
    """

    rows: list[int]
    variants: list[int]
    alone: str | None = None
    clean: CleanRun | None = None

    def of(
        self, model: AudioLM, batch: PromptBatch, variants: Sequence[Sequence[Intervention]]
    ) -> tuple[PromptBatch, dict[int, list[Intervention]]]:
        """Its prompts, and its variants as they are for these, by their places among all."""
        if self.rows == list(range(batch.n_rows)):
            return batch, {index: list(variants[index]) for index in self.variants}
        own = {index: interventions_of_rows(variants[index], self.rows) for index in self.variants}
        return part_of(model.adapter, batch, self.rows), own


def jobs_of(
    model: AudioLM,
    batch: PromptBatch,
    variants: Sequence[Sequence[Intervention]],
    group: list[int],
    budget: float,
) -> Iterator[Job]:
    """All variants on prompts that may run together: on a part of these at a time, where memory is short."""
    every = list(range(len(variants)))
    if (why := why_not_shared(model)) is not None:
        yield Job(group, every, why)
        return
    parts = list(_fitting(model, batch, group, budget))
    mixing = [] if len(parts) == 1 else [index for index in every if _may_mix_prompts(model, batch, variants[index])]
    if mixing:
        yield Job(group, mixing, "a function is given all prompts at once, which do not fit into memory= together")
    if len(mixing) < len(every):
        yield from (Job(rows, [index for index in every if index not in mixing]) for rows in parts)


def _may_mix_prompts(model: AudioLM, batch: PromptBatch, interventions: Sequence[Intervention]) -> bool:
    """Whether what becomes of a prompt may depend on the others."""
    return any(isinstance(edit, Edit) and not edit.by_position for edit, *_ in edits_of(model, batch, interventions))


def chunks_of(
    model: AudioLM, batch: PromptBatch, variants: Sequence[Variant], budget: float, *, keeps: bool = False
) -> Iterator[list[Variant]]:
    """Variants that run together: alike in how many rows they need, as many as memory allows, early joiners first.

    Args:
        model: The opened model.
        batch: The prompts.
        variants: The variants.
        budget: Bytes, of which at most half are for them.
        keeps: Whether their keys and values are kept.
    """
    room = budget / 2 if keeps else chunk_bytes(model, budget)
    alike: dict[int, list[Variant]] = defaultdict(list)
    for variant in variants:
        alike[(batch.n_positions - variant.start - 1).bit_length()].append(variant)
    for together in alike.values():
        n_rows = batch.n_positions - min(variant.start for variant in together)
        kept = batch.n_rows * n_rows * bytes_per_position(model) if keeps else 0
        n = max(1, int(room / (_bytes_per_variant(model, batch, n_rows) + kept)))
        ordered = sorted(together, key=lambda variant: variant.layer)
        for start in range(0, len(ordered), n):
            yield ordered[start : start + n]


def _bytes_per_variant(model: AudioLM, batch: PromptBatch, n_rows: int) -> int:
    """About how much a variant takes at its widest: its attention, what an MLP makes of a row, logits."""
    per_row = weights_bytes(model, batch.n_positions) + widest_bytes(model)
    return batch.n_rows * (n_rows * per_row + batch.vocabulary * (model.network.dtype.itemsize + 4))


def _fitting(model: AudioLM, batch: PromptBatch, rows: list[int], budget: float) -> Iterator[list[int]]:
    """Prompts whose keys and values fit into half of the memory together, where they are kept."""
    per_position = bytes_per_position(model) + 4 * model.d_model * model.network.dtype.itemsize
    n = max(1, int(budget / 2 / (batch.n_positions * per_position)))
    for start in range(0, len(rows), n):
        yield rows[start : start + n]
