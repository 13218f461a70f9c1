"""Which frames of an audio tower attend to which, and whose sound they hear.

Towers confine attention in ways of their own: windows of the clips that lie packed behind one another, blocks, sliding
windows, or the whole clip. Their patterns all have one form, `[clip, head, query, key]` over the frames that the layers
work on, and this is the map of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechaudio.arguments import checks_arguments
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import as_prompts
from mechaudio.showing import Shown
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import NoSuchHookPoint
from mechaudio.tracing.tower_frames import tower_frames

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True, eq=False)
class WindowMap(Shown):
    """The map of `audio.pattern`; `clip` counts as its first axis does.

    Attributes:
        visible: Whether a frame (query) may attend to another (key).
        row: Row of the batch whose sound a frame hears.
    """

    visible: Bool[Tensor, "clip query key"]
    row: Int[Tensor, "clip frame"]

    @property
    def windows(self) -> Int[Tensor, "clip frame 2"]:
        """The first frame that each frame may attend to, and the one behind the last; both 0 where it sees none."""
        number = torch.arange(1, self.visible.shape[-1] + 1, device=self.visible.device)
        stop = (self.visible * number).amax(-1)
        first = self.visible.shape[-1] - (self.visible * number.flip(0)).amax(-1)
        return torch.stack([torch.where(stop > 0, first, 0), stop], dim=-1)


@checks_arguments
def window_map(model: AudioLM, batch: PromptBatch | Mapping[str, Any]) -> WindowMap:
    """Find which frames of the audio tower attend to which; it runs up to the scores of its first attention.

    ```python
    pattern = ma.run(model, batch, record=["audio.pattern"]).cache["audio.pattern", 0]
    windows = window_map(model, batch)
    pattern[:, :, ~windows.visible[0]]     # all zeros, in a batch of one
    ```

    Args:
        model: The opened model.
        batch: Prompts with audio, or a dict of the network's own inputs.

    Returns:
        The map, for every layer: a tower confines all of them alike.

    Raises:
        NoSuchHookPoint: The tower has no attention.
        ValueError: No row has audio.
    """
    prompts = as_prompts(model, batch)
    if model.adapter.features not in prompts.inputs:
        raise ValueError("no row of this batch has audio, so that the audio tower does not run")
    attends = [layer for layer, sites in enumerate(model.site_map.layers["encoder"]) if "scores" in sites]
    if not attends:
        raise NoSuchHookPoint(model.site_map.layers["encoder"][0].absent["scores"])
    point = HookPoint("audio.scores", layers=attends[:1])
    scores = run(model, prompts, record=[point], logits=None).cache["audio.scores", attends[0]]
    visible = (scores > -torch.inf).any(1)
    rows = torch.from_numpy(tower_frames(model, prompts, tuple(visible.shape[:2])).row)
    return WindowMap(visible, rows.to(visible.device))
