"""The two clocks of a network, moved and probed: the table of times, and what audio tokens know of their own time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mechaudio.analyses.probes.probing import fit_probe
from recipes.timeaudio.arms import WINDOW
from recipes.timeaudio.network import Arm, audio_tokens

if TYPE_CHECKING:
    from recipes.timeaudio.asked import Asked

#: Rows of the table that training reaches: the windows of 60 s.
TRAINED_ROWS = 176


def moved(rows: Tensor, windows: int) -> Tensor:
    """Return the rows of the table so many windows later; windows behind the end keep theirs."""
    return torch.where(rows > 0, (rows + windows).clamp(1, TRAINED_ROWS), rows)


def probe_times(network: Any, given: Asked, arm: Arm) -> dict[str, Any]:
    """Fit ridge regressions of the time of a window on one half of the scenes, and try them on the other.

    The states are the mean frame of each window without and with its row of the table, and the projector's output; the
    control fits the projector's output to times that are dealt out anew among the windows of a scene.
    """
    heard = given.windows.float()
    mean = heard.mean(2)
    states = {"frames": mean}
    if arm.encoding:
        states["frames and times"] = mean + network.abs_time_position_embedding[given.rows][..., : mean.shape[-1]]
    states["projector"] = states["control"] = audio_tokens(network, heard, given.rows, arm, torch.Generator())
    n, within = len(heard), given.rows > 0
    seconds = (torch.arange(heard.shape[1]) + 0.5).expand(n, -1) * WINDOW
    half = torch.arange(n)[:, None].expand_as(seconds) % 2 == 0
    groups = torch.arange(n)[:, None].expand_as(seconds)
    scores = {}
    for name, values in states.items():
        target = seconds
        if name == "control":
            generator = torch.Generator().manual_seed(0)
            last = int(within[0].sum())
            target = torch.stack([row[torch.randperm(last, generator=generator)] for row in seconds[:, :last]])
            target = torch.nn.functional.pad(target, (0, seconds.shape[1] - last))
        fit, test = within & half, within & ~half
        probe = fit_probe(
            values[fit].detach().numpy(), rearrange(target[fit].double().numpy(), "row -> row 1"), groups[fit].numpy()
        )
        missed = probe(values[test].detach().numpy())[:, 0] - target[test].double().numpy()
        spread = float(((target[test] - target[fit].mean()) ** 2).mean())
        scores[name] = {
            "r2": round(1 - float(np.mean(missed**2)) / spread, 4),
            "error": round(float(np.median(np.abs(missed))), 3),
        }
    return scores
