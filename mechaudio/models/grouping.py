"""Which rows of a batch may run together, where a tower lets the padding of one clip change another.

Conventions: a window is one entry of the features; a row owns the windows that make its audio tokens, in order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from math import isnan, nan
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from mechaudio.models.adapter import Adapter, TokenTiming
from mechaudio.models.batch import PromptBatch
from mechaudio.models.clips import by_frame, frames_counted


def windows_of_rows(adapter: Adapter, batch: PromptBatch) -> list[list[int]]:
    """Per row, the indices of its windows in the features."""
    frames, having = _frames(adapter, batch.inputs), [bool(positions) for positions in batch.audio_positions]
    if len(frames) == sum(having):  # one each, however many tokens it makes
        numbers = iter(range(len(frames)))
        return [[next(numbers)] if has else [] for has in having]
    counts = [adapter.timing.tokens_of_frames(count) for count in frames]
    owned, at = [], 0
    for positions in batch.audio_positions:
        first, made = at, 0
        while made < len(positions) and at < len(counts):
            made += counts[at]
            at += 1
        owned.append(list(range(first, at)))
    return owned


def onsets_of_windows(adapter: Adapter, batch: PromptBatch) -> list[list[float]]:
    """Per row, when in its clip each of its windows begins, in seconds: where the real frames of those before it end.

    Not a number where a row has several windows and no clock of its own, as with several clips.
    """
    frames, second = _frames(adapter, batch.inputs), adapter.sampling_rate / adapter.timing.hop
    onsets = []
    for clocks, own in zip(batch.clocks, windows_of_rows(adapter, batch), strict=True):
        ends = accumulate((frames[window] for window in own[:-1]), initial=0)
        known = len(own) < 2 or len(clocks) == 1
        onsets.append([end / second if known else nan for end in ends][: len(own)])
    return onsets


def why_unknown(onsets: Sequence[Sequence[float]]) -> str | None:
    """Say why it is not known when windows begin, None where it is."""
    rows = [row for row, own in enumerate(onsets) if any(map(isnan, own))]
    return f"prompt {rows[0]} has several clips, and a second of one is not that of another" if rows else None


def padding_groups(adapter: Adapter, batch: PromptBatch) -> list[list[int]]:
    """Rows that padding leaves alone when they run together; one group where all may.

    Returns:
        Rows of every group, in the order of their first row.
    """
    everyone = list(range(batch.n_rows))
    if adapter.leaks_padding is None or adapter.features not in batch.inputs:
        return [everyone]
    frames = _frames(adapter, batch.inputs)
    whole = None if adapter.leaks_below is None else adapter.leaks_below // adapter.timing.hop
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, windows in enumerate(windows_of_rows(adapter, batch)):
        lengths = (frames[window] for window in windows)
        key = tuple(length if whole is None else min(length, whole) for length in lengths)
        if whole is not None and whole in key:
            key = (whole,)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def without_excess(adapter: Adapter, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs without the frames behind the longest clip, where those would change what is heard or let the class fail.

    Where an encoder takes whole windows only, they stay: rows that run apart have no other clip's padding.
    """
    always = adapter.cuts_padding == "always"
    leaks = adapter.leaks_padding is not None and adapter.cuts_padding
    if not (leaks or always) or adapter.encoder.layout == "packed" or adapter.features_mask not in inputs:
        return inputs
    width = inputs[adapter.features].shape[adapter.frames_axis]
    longest = min(max(_frames(adapter, inputs)) + adapter.timing.beyond_mask, width)
    if always:
        longest = _most_frames(adapter.timing, adapter.timing.tokens_of_frames(longest), width)
    masked = longest if adapter.mask_counts == "frames" else adapter.timing.tokens_of_frames(longest)
    cuts = {adapter.features: (adapter.frames_axis, longest), adapter.features_mask: (-1, masked)}
    return {
        name: value.narrow(cuts[name][0], 0, cuts[name][1]).contiguous() if name in cuts else value
        for name, value in inputs.items()
    }


def part_of(adapter: Adapter, batch: PromptBatch, rows: list[int]) -> PromptBatch:
    """Some rows of a batch with their audio, filled up no further than to the longest clip among them."""
    owned = windows_of_rows(adapter, batch)
    windows = [window for row in rows for window in owned[row]]
    inputs = {}
    for name, value in batch.inputs.items():
        if name in adapter.audio_inputs and not windows:
            continue
        if isinstance(value, Tensor):
            chosen = torch.tensor(windows if name in adapter.audio_inputs else rows, dtype=torch.long)
            value = value[chosen.to(value.device)]
        inputs[name] = value
    inputs = without_excess(adapter, inputs)
    per_row = ("clocks", "questions", "choice_ids", "cut", "given", "written", "aims")  # some are empty
    return replace(
        batch,
        inputs=inputs,
        spans={name: tuple(positions[row] for row in rows) for name, positions in batch.spans.items()},
        **{name: tuple(values[row] for row in rows) for name in per_row if (values := getattr(batch, name))},
    )


def tokens_of_windows(adapter: Adapter, batch: PromptBatch, steps: int | None = None) -> list[int]:
    """Audio tokens of every window, or what there is of them behind the first few steps from frames to tokens."""
    return [adapter.timing.tokens_of_frames(frames, steps) for frames in _frames(adapter, batch.inputs)]


def _frames(adapter: Adapter, inputs: Mapping[str, Any]) -> list[int]:
    """Real frames of every window."""
    features = inputs.get(adapter.features)
    if features is None:
        return []
    mask = None if adapter.features_mask is None else inputs[adapter.features_mask]
    counts = frames_counted(adapter, features, mask)
    if mask is None or adapter.mask_counts != "tokens":
        return counts
    along = by_frame(adapter, features)
    return [_frames_behind(adapter.timing, window, tokens) for window, tokens in zip(along, counts, strict=True)]


def _most_frames(timing: TokenTiming, tokens: int, frames: int) -> int:
    """Count the most of so many frames that make no more than so many tokens: more frames never make fewer."""
    return bisect_right(range(frames + 1), tokens, key=timing.tokens_of_frames) - 1


def _frames_behind(timing: TokenTiming, features: Num[Tensor, "frame band"], tokens: int) -> int:
    """Frames of one window that so many tokens were made from: of as many as there may be, all but zeros at the end.

    Frames of zeros are filling. Silence is not: its energy has a logarithm.
    """
    fewest = bisect_left(range(len(features) + 1), tokens, key=timing.tokens_of_frames)
    most = _most_frames(timing, tokens, len(features))
    if most < fewest:
        return len(features)
    sounding = features.ne(0).any(-1).nonzero()
    last = int(sounding[-1]) + 1 if len(sounding) else 0
    return min(max(last, fewest), most)
