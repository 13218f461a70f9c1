"""Multiple-choice questions about a batch of scenes: which classes are offered, which letter is right.

Tasks are numbered in the order of `temporal_phrases.TASKS`. Options are drawn from the events of the clip first;
sometimes one is a class that the clip lacks, as where the clip has too few events.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recipes.tiny.captions import half_seconds
from recipes.tiny.scenes import MAX_EVENTS, Scenes, on_device

MAX_OPTIONS = 6
OPTION_COUNTS = (0.0, 0.0, 0.10, 0.10, 0.64, 0.08, 0.08)
_NEVER = -99.0


@dataclass(frozen=True, eq=False)
class Choices:
    """Options in the order of the letters; `event` is the event slot behind each (only where `sounding`)."""

    count: Int[Tensor, " batch"]
    labels: Int[Tensor, "batch 6"]
    event: Int[Tensor, "batch 6"]
    sounding: Bool[Tensor, "batch 6"]
    letter: Int[Tensor, " batch"]
    clear: Bool[Tensor, " batch"]
    """Whether the right one leads by the margin; a question that is not clear is not asked."""


def _merit(scenes: Scenes, task: Int[Tensor, " batch"]) -> Float[Tensor, "batch 6"]:
    """What the right answer has most of; absent events have least."""
    merits = torch.stack([-scenes.onset, scenes.offset, scenes.offset - scenes.onset], 1)
    return merits[torch.arange(len(task), device=task.device), task].masked_fill(~scenes.present, _NEVER)


def _told(scenes: Scenes) -> Scenes:
    onset, offset = half_seconds(scenes.onset) / 2, half_seconds(scenes.offset) / 2
    return Scenes(scenes.frames, scenes.count, scenes.labels, onset, offset)


def _best(merit: Float[Tensor, "batch options"]) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    top = merit.topk(2, 1)
    return top.indices[:, 0], top.values[:, 0] - top.values[:, 1]


def best_letter(
    scenes: Scenes, task: Int[Tensor, " batch"], choices: Choices, margin: Float[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """The letter that `scenes` make right, and whether it leads by the margin and in rounded times as well."""
    letters, clear = [], torch.ones_like(task, dtype=torch.bool)
    for seen, lead in ((scenes, margin), (_told(scenes), torch.full_like(margin, 0.5))):
        merit = _merit(seen, task).gather(1, choices.event).masked_fill(~choices.sounding, _NEVER)
        letter, ahead = _best(merit)
        letters.append(letter)
        clear &= ahead >= lead - 1e-4
    return letters[0], clear & (letters[0] == letters[1])


def draw_choices(
    scenes: Scenes, task: Int[Tensor, " batch"], generator: torch.Generator, *, benchmark: bool = False
) -> Choices:
    """Options and the right letter.

    In half of the rows the clip's own extreme is surely among the options; elsewhere the right one is the most extreme
    of those offered. `benchmark`: four options, the clip's extreme among them and ahead of every event of the clip by a
    second.
    """
    device, batch = task.device, len(task)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    merit = _merit(scenes, task)
    extreme, ahead = _best(merit)
    count = torch.multinomial(on_device(OPTION_COUNTS, device).expand(batch, -1), 1, generator=generator)[:, 0]
    forced, one_absent = rand(batch) < 0.5, rand(batch) < 0.15
    margin = (scenes.frames / 1000).clamp(min=0.3)
    if benchmark:
        count, forced, one_absent = torch.full_like(count, 4), torch.ones_like(forced), torch.zeros_like(one_absent)
        margin = torch.ones_like(margin)
    favour = torch.nn.functional.one_hot(extreme, MAX_EVENTS) * forced[:, None]
    event = (rand(batch, MAX_EVENTS) + 10.0 * scenes.present + 100.0 * favour).argsort(1, descending=True)
    sounding_count = (count - one_absent.long()).minimum(scenes.count)[:, None]
    slot = torch.arange(MAX_OPTIONS, device=device)[None].expand(batch, -1)
    sounding = slot < sounding_count
    absent = (scenes.count[:, None] + slot - sounding_count).clamp(0, scenes.labels.shape[1] - 1)
    labels = torch.where(sounding, scenes.labels.gather(1, event), scenes.labels.gather(1, absent))
    order = (rand(batch, MAX_OPTIONS) + 10.0 * (slot >= count[:, None])).argsort(1)
    mixed = [part.gather(1, order) for part in (labels, event, sounding)]
    nowhere = torch.zeros_like(task)
    choices = Choices(count, *mixed, letter=nowhere, clear=nowhere.bool())
    letter, clear = best_letter(scenes, task, choices, margin)
    if benchmark:
        clear &= ahead >= 1.0
    return Choices(count, *mixed, letter=letter, clear=clear)
