"""The two stages of TimeAudio's training as data: what is trained, how fast, for how long.

Conventions: groups of parameters are `lora` (adapters of low rank in the decoder), `adapter` (what lies between the
towers of audio and the decoder: Q-Former, projection and norms), `times` (the table of times) and `markers` (rows of
embeddings and prediction head). Rates are highest ones; steps are of the optimizer.

`paper` is the paper's table 5 with what it leaves out (steps of warm-up, lowest rates, decay by group) from the
released configs; its text says 10 epochs at 1e-5 and 5 at 2e-6. `released` is the released configs in effect: all
groups have the rate of `lora`, since the schedule writes one rate into every group (`one_rate=False` for what was
meant), the whole tables of words are trained, and the table of times in the second stage too.

References: TimeAudio (arXiv 2511.11039), "Training Strategy" and table 5, and its released configs and optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from mechaudio.arguments import check_fields
from mechaudio.showing import Shown

GROUPS = ("lora", "adapter", "times", "markers")
Preset = Literal["paper", "released"]


@dataclass(frozen=True)
class Stage(Shown):
    """One stage of training.

    Attributes:
        rates: Highest learning rate of each group that is trained; other parameters stay as they are.
        epochs: Times that every question is asked.
        batch_size: Questions per step, of all processes together.
        warmup_steps: Steps over which rates rise, from `warmup_rate`.
        warmup_rate: Rate that they rise from.
        lowest_rate: Rate that they fall to, along half a cosine over all steps.
        weight_decay: Weight decay of `lora`; other groups have none.
        betas: Both betas of AdamW.
        max_seconds: Longest clip; longer ones are left out and listed.
        rows: Rows of words that are trained: the `new` ones, which are the markers, or `all`.
        one_rate: Give every group the rate of `lora`, as the release does in effect.
        lora_rank: Rank of adapters that are put in where there are none.
        lora_alpha: Their scale, times their rank.
        lora_dropout: Share of their inputs that is dropped in training.

    Raises:
        ValueError: Groups that there are not, none at all, or numbers that are negative or zero where they cannot be.
    """

    rates: Mapping[str, float]
    epochs: int
    batch_size: int
    warmup_steps: int = 0
    warmup_rate: float = 0.0
    lowest_rate: float = 0.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    max_seconds: float = 120.0
    rows: Literal["new", "all"] = "new"
    one_rate: bool = False
    lora_rank: int = 8
    lora_alpha: float = 32.0
    lora_dropout: float = 0.1

    def __post_init__(self):
        check_fields(self)
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        strange = [group for group in self.rates if group not in GROUPS]
        if strange or not self.rates:
            raise ValueError(f"rates= names groups among {', '.join(GROUPS)}, at least one; got {dict(self.rates)}")
        if self.one_rate and "lora" not in self.rates:
            raise ValueError("one_rate=True gives every group the rate of lora, and rates= has none for it")
        positive = {"epochs": self.epochs, "max_seconds": self.max_seconds, "lora_rank": self.lora_rank}
        low = [name for name, value in positive.items() if not value > 0]
        low += [f"rates[{group!r}]" for group, rate in self.rates.items() if not rate > 0]
        never = {"warmup_steps": self.warmup_steps, "warmup_rate": self.warmup_rate, "lowest_rate": self.lowest_rate}
        low += [name for name, value in {**never, "weight_decay": self.weight_decay}.items() if value < 0]
        if low or not 0 <= self.lora_dropout < 1:
            raise ValueError(f"{' and '.join(low) or 'lora_dropout'} cannot be what they are in {self}")

    def rate(self, group: str, step: int, steps: int) -> float:
        """Return the learning rate of a group at a step.

        Args:
            group: One of those that are trained.
            step: From 0.
            steps: Number of steps of the whole stage.
        """
        highest = self.rates["lora" if self.one_rate else group]
        if step < self.warmup_steps:
            return self.warmup_rate + (highest - self.warmup_rate) * step / self.warmup_steps
        lowest = min(self.lowest_rate, highest)
        return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * step / steps))

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return {**vars(self), "rates": dict(self.rates), "betas": list(self.betas)}


_PAPER = (
    Stage(
        dict.fromkeys(GROUPS, 3e-5),
        epochs=10,
        batch_size=48,
        warmup_steps=2000,
        warmup_rate=1e-6,
        lowest_rate=1e-5,
        max_seconds=30.0,
    ),
    Stage(
        {"lora": 1e-5, "adapter": 2e-6},
        epochs=3,
        batch_size=24,
        warmup_steps=1000,
        warmup_rate=1e-7,
        lowest_rate=1e-6,
    ),
)
_RELEASED_RATES = {"lora": 1e-5, "adapter": 2e-6, "times": 2e-6}
STAGES: Mapping[tuple[str, int], Stage] = MappingProxyType(
    {
        ("paper", 1): _PAPER[0],
        ("paper", 2): _PAPER[1],
        ("released", 1): replace(_PAPER[0], batch_size=128, rows="all", one_rate=True),
        ("released", 2): replace(_PAPER[1], rates=_RELEASED_RATES, epochs=6, batch_size=48, one_rate=True),
    }
)
"""Preset and stage -> its settings."""
