"""Features of several clips, behind one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.adapter import Adapter


def refuse_changed_torch() -> None:
    """Refuse to compute where torch was told to use another type or device for what nobody gives one.

    Features and edits would be computed in it, and be others than those of the same call elsewhere.

    Raises:
        ValueError: `torch.autocast` is on, or the default type or device is another than torch's own.
    """
    device, dtype = torch.get_default_device(), torch.get_default_dtype()
    kinds = {"cpu", getattr(torch.accelerator.current_accelerator(), "type", "cpu")}
    if any(map(torch.is_autocast_enabled, kinds)):
        raise ValueError(
            "torch.autocast is on, and would change the type of some products and not of others: leave the block, and "
            "open the network in the type that is meant, ma.load(name, dtype=torch.bfloat16)"
        )
    if dtype != torch.float32:
        raise ValueError(
            f"torch's default type is {dtype}, and what nobody gives a type would be computed in it: "
            "torch.set_default_dtype(torch.float32), and open the network in the type that is meant, "
            f"ma.load(name, dtype={dtype})"
        )
    if device.type != "cpu":
        raise ValueError(
            f"torch's default device is {str(device)!r}, and what nobody gives a device would be made there: "
            "torch.set_default_device(None), and open the network where it is meant to be, ma.load(name, "
            f"device={str(device)!r})"
        )


def stack_features(adapter: Adapter, features: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Every clip's windows behind one another, filled up with zeros to the longest.

    Where the encoder takes packed clips of any length, the padding to the feature extractor's window is cut off down to
    the longest clip (to whole chunks, where the encoder wants those): masked frames never reach the encoder.
    """
    with_sound = [row for row in features if row]
    if not with_sound:
        return {}
    if adapter.merging is not None and any(adapter.merging in row for row in with_sound):
        with_sound = [{adapter.merging: unmerged(adapter, row), **row} for row in with_sound]
    if not adapter.cuts_padding:
        return {name: to_the_largest([row[name] for row in with_sound]) for name in with_sound[0]}
    width = max(row[adapter.features].shape[adapter.frames_axis] for row in with_sound)
    if adapter.encoder.layout == "packed" and adapter.features_mask is not None:
        longest = max(int(row[adapter.features_mask].sum(-1).max()) for row in with_sound)
        chunk = adapter.timing.chunk or 1
        width = min(width, -(-longest // chunk) * chunk)
    masked = width if adapter.mask_counts == "frames" else adapter.timing.tokens_of_frames(width)
    widths = {adapter.features: (adapter.frames_axis, width)}
    if adapter.features_mask is not None and adapter.mask_counts != "samples":
        widths[adapter.features_mask] = (-1, masked)
    return {
        name: torch.cat([_to_width(row[name], *widths[name]) if name in widths else row[name] for row in with_sound])
        for name in with_sound[0]
    }


def unmerged(adapter: Adapter, clip: Mapping[str, Tensor]) -> Float[Tensor, "1 token window"]:
    """Say what audio tokens of a clip are made of that are not merged: each of the window of its number."""
    frames = int(clip[adapter.features_mask].sum())
    return torch.eye(adapter.timing.tokens_of_frames(frames))[None]


def to_the_largest(values: Sequence[Tensor]) -> Tensor:
    """Entries behind one another, filled up with zeros to the largest along every other axis."""
    sizes = [max(value.shape[axis] for value in values) for axis in range(1, values[0].ndim)]
    whole = values[0].new_zeros((sum(map(len, values)), *sizes))
    start = 0
    for value in values:
        inside = (slice(start, start + len(value)), *(slice(size) for size in value.shape[1:]))
        whole[inside], start = value, start + len(value)
    return whole


def _to_width(value: Tensor, axis: int, width: int) -> Tensor:
    """Cut off or filled up with zeros along one axis."""
    kept = value.narrow(axis, 0, min(width, value.shape[axis]))
    missing = list(kept.shape)
    missing[axis] = width - kept.shape[axis]
    return torch.cat([kept, kept.new_zeros(missing)], dim=axis) if missing[axis] else kept.contiguous()
