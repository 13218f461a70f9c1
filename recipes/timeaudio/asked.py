"""Held-out scenes of one length, each with a question whose one interval lies far from both ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechaudio.audio.sounds import CLASSES
from recipes.timeaudio import encoder, scenes
from recipes.timeaudio.arms import WINDOW
from recipes.timeaudio.network import rows_of

SECONDS, SCENES, BANK, SEED = 28.0, 16, 12, 77_001
#: Long enough that tokens are merged, where they are.
MERGED_SECONDS = 56.0
#: Between these seconds lies the interval that is asked about: every clock can be moved by as much as is done here.
FIRST, LAST = 10.5, 18.0


@dataclass(frozen=True, eq=False)
class Asked:
    """Scenes, each with a question: what was heard of them, the sound itself, and what is right."""

    windows: Tensor
    waves: Tensor
    scenes: scenes.Scenes
    kinds: tuple[int, ...]

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """The interval that each question asks for."""
        return [self.scenes.intervals(scene, kind)[0] for scene, kind in enumerate(self.kinds)]

    @cached_property
    def covers(self) -> Tensor:
        """The share of every window that each class fills: `[scene, window, class]`."""
        return scenes.coverage(self.scenes, self.windows.shape[1], WINDOW)

    @property
    def rows(self) -> Tensor:
        """The row of the table of times of every window."""
        return rows_of(self.scenes.seconds, self.windows.shape[1])


def draw(n: int = SCENES, seconds: float = SECONDS) -> tuple[scenes.Scenes, tuple[int, ...]]:
    """Draw scenes and the class that each is asked about, which sounds once; ten seconds later only its tens differ."""
    generator, picked, kinds = torch.Generator().manual_seed(SEED), [], []
    drawn = scenes.draw(40 * n, (seconds, seconds), generator)
    for scene in range(len(drawn)):
        for kind in torch.randperm(len(CLASSES), generator=generator).tolist():
            intervals = drawn.intervals(scene, kind)
            if len(intervals) == 1 and len(picked) < n:
                onset, offset = intervals[0]
                if onset >= FIRST and offset <= LAST and 0.5 <= onset % 10 <= 9.4:
                    picked.append(scene)
                    kinds.append(kind)
                    break
    return scenes.Scenes(drawn.seconds[picked], drawn.onset[picked], drawn.offset[picked]), tuple(kinds)


def asked(ear: Any, kept: Path | None = None, n: int = SCENES, seconds: float = SECONDS) -> Asked:
    """Make the scenes and let an encoder hear them, or read what `kept` holds of both."""
    drawn, kinds = draw(n, seconds)
    if kept is None or not kept.is_file():
        generator = torch.Generator().manual_seed(SEED)
        stretches = 1 if seconds <= scenes.SHORT[1] else 2
        waves = scenes.render(drawn, scenes.make_bank(BANK, 77, 1), generator, stretches)
        tensors = {"windows": encoder.windows(ear, waves, stretches).contiguous(), "waves": waves.half()}
        if kept is None:
            return Asked(**tensors, scenes=drawn, kinds=kinds)
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, kept)
    return Asked(**load_file(kept), scenes=drawn, kinds=kinds)
