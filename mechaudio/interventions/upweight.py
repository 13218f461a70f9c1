"""Upweighting: adding to the attention scores of audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mechaudio.interventions.selecting import AttentionIntervention, check_choice, check_number, placed
from mechaudio.tracing.formulas import Formula, Shift, ShiftBySize


@dataclass(frozen=True, repr=False, eq=False)
class UpweightAttention(AttentionIntervention):
    """Add to the attention scores of some keys, before the softmax.

    With `mode="constant"`, s' = s + bias. The odds of these keys against all others are multiplied by exp(bias); how
    attention is shared out among them stays as it is ("A Closer Look at Failure Modes in Temporal Understanding of
    Large Audio-Language Models", 2026, attention upweighting). With `mode="pai"`, s' = s + bias |s| (Liu et al. 2024,
    Paying More Attention to Image, eq. 3): no score falls, whatever its sign.

    ```python
    ma.UpweightAttention(1.0, layers=[20], queries="keyword+last")
    ```

    Attributes:
        bias: What is added, in units of scores; of |s|, with `mode="pai"`.
        mode: `"constant"` or `"pai"`.

    Raises:
        TypeError: A bias that is not one number.
        ValueError: A bias that is not finite, or an unknown mode.
    """

    bias: int | float
    mode: Literal["constant", "pai"] = "constant"

    @property
    def _sentence(self) -> str:
        added = f"{self.bias:g}" if self.mode == "constant" else f"{self.bias:g} times their size"
        return f"Adds {added} to the attention scores of {placed(self.keys)} for {self._place}"

    def __post_init__(self) -> None:
        """Check the bias and the mode."""
        super().__post_init__()
        self._set(bias=check_number("bias", self.bias))
        check_choice("mode", self.mode, ("constant", "pai"))

    @property
    def formula(self) -> Formula:
        """The shift."""
        return {"constant": Shift, "pai": ShiftBySize}[self.mode](float(self.bias))
