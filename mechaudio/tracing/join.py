"""Putting the results of rows that ran apart back together, as if they had run in one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import tokens_of_windows, windows_of_rows
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.effects import Effects
from mechaudio.tracing.hook_points import ROW_POINTS, bare, in_tower, stack_of
from mechaudio.tracing.record import Intervention


def join_rows(parts: Sequence[Tensor], groups: Sequence[Sequence[int]], filler: float | int = 0.0) -> Tensor:
    """Rows of every group, `[row of the group, ...]`, where they stood; other axes are filled up to the longest."""
    shape = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim)]
    whole = parts[0].new_full((sum(len(rows) for rows in groups), *shape), filler)
    for part, rows in zip(parts, groups, strict=True):
        inside = tuple(slice(0, size) for size in part.shape[1:])
        whole[(list(rows), *inside)] = part.to(whole)  # in type and place those of the first group
    return whole


def join_caches(
    caches: Sequence[Cache],
    groups: Sequence[Sequence[int]],
    adapter: Adapter,
    batch: PromptBatch,
    joined: Cache,
) -> Cache:
    """Every hook point of rows that ran apart, in one cache."""
    owned = windows_of_rows(adapter, batch)
    windows = [[window for row in rows for window in owned[row]] for rows in groups]
    for name, layer in caches[0]:
        parts = [cache[name, layer] for cache in caches]
        filler = -torch.inf if bare(name) == "scores" else 0.0
        if name == "projector_out":
            packed = adapter.projector_layout == "packed"
        else:
            packed = in_tower(name) and adapter.stacks[stack_of(name)].layout == "packed"
        if packed:
            value = _join_packed(parts, windows, tokens_of_windows(adapter, batch), name, filler)
        elif in_tower(name) or name == "projector_out":
            value = _join_clips(parts, windows, filler)
        else:
            value = join_rows(parts, groups, filler)
        joined.keep(name, layer, value)
    return joined


def _join_clips(parts: Sequence[Tensor], windows: Sequence[Sequence[int]], filler: float) -> Tensor:
    """Clips where they stood; where the tower cuts a long clip into pieces, as many for each as the longest has."""
    pieces = [part.unflatten(0, (len(clips), -1)) for part, clips in zip(parts, windows, strict=True)]
    return join_rows(pieces, windows, filler).flatten(0, 1)


def _join_packed(
    parts: Sequence[Tensor], windows: Sequence[Sequence[int]], tokens: Sequence[int], name: str, filler: float
) -> Tensor:
    """Clips that lie behind one another, in the order of the whole batch; attention between groups there is none."""
    starts = [sum(tokens[:window]) for window in range(len(tokens))]
    square = bare(name) in ROW_POINTS
    shape = list(parts[0].shape)
    for axis in (2, 3) if square else (1,):
        shape[axis] = sum(tokens)
    whole = parts[0].new_full(shape, filler)
    for part, clips in zip(parts, windows, strict=True):
        places = [torch.arange(starts[window], starts[window] + tokens[window]) for window in clips]
        at = torch.cat(places).to(part.device)
        if square:
            whole[:, :, at[:, None], at] = part
        else:
            whole[:, at] = part
    return whole


def interventions_of_rows(interventions: Iterable[Intervention], rows: Sequence[int]) -> list[Intervention]:
    """Interventions for some rows of a batch: those that say something per prompt have a method `of_rows`."""
    return [change.of_rows(rows) if hasattr(change, "of_rows") else change for change in interventions]


def join_effects(
    parts: Sequence[Sequence[Effects]],
    groups: Sequence[Sequence[int]],
    interventions: Sequence[Intervention],
    first: Sequence[Intervention],
) -> tuple[Effects, ...]:
    """Join the effects of interventions in rows that ran apart."""
    whole = {id(of_group): intervention for of_group, intervention in zip(first, interventions, strict=True)}
    order = torch.tensor([row for rows in groups for row in rows]).argsort()
    joined = []
    for effects in zip(*parts, strict=True):
        stacked = {
            name: torch.cat([getattr(effect, name) for effect in effects], dim=1)[:, order]
            for name in ("mass_before", "mass_after", "score_mean", "score_negative")
        }
        joined.append(replace(effects[0], intervention=whole[id(effects[0].intervention)], **stacked))
    return tuple(joined)
