"""Scaling: multiplying the attention scores of audio, and the three controls of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mechaudio.interventions.selecting import AttentionIntervention, check_choice, check_number, placed
from mechaudio.tracing.formulas import Formula, Scale, ScaleAboutMean, ScaleKeepingMass, ShiftAsScaled

_FORMULAS: dict[str, type[Formula]] = {
    "plain": Scale,
    "centred": ScaleAboutMean,
    "mass_preserving": ScaleKeepingMass,
    "mass_matched": ShiftAsScaled,
}


@dataclass(frozen=True, repr=False, eq=False)
class ScaleAttention(AttentionIntervention):
    """Multiply the attention scores of some keys, before the softmax; masked keys stay masked.

    With `mode="plain"`, s' = factor s ("A Closer Look at Failure Modes in Temporal Understanding of Large
    Audio-Language Models", 2026, attention scaling, after Chen et al. 2025, AdaptVis): among these keys attention is
    shared out as q^factor, normalised. How much attention they get together may rise or fall: softmax forgets a
    constant that is added to a row of scores, multiplication does not. Three controls tell the effects apart:
    `mode="centred"` scales about the mean score m of the keys, s' = m + factor (s - m), and does not depend on such a
    constant; `mode="mass_preserving"` shifts the scaled scores together so that the keys keep exactly the attention
    that they had; `mode="mass_matched"` only shifts, s' = s + c, so that the keys get exactly the attention that plain
    scaling gives them, shared out among them as before.

    ```python
    ma.ScaleAttention(2.0, layers=[20], queries="last", keys="audio")
    ```

    Attributes:
        factor: What scores are multiplied with: above 1 attention among the keys gets sharper, below 1 flatter.
        mode: `"plain"`, `"centred"`, `"mass_preserving"` or `"mass_matched"`.

    Raises:
        TypeError: A factor that is not one number.
        ValueError: A factor that is not finite, or an unknown mode.
    """

    factor: int | float
    mode: Literal["plain", "centred", "mass_preserving", "mass_matched"] = "plain"

    @property
    def _sentence(self) -> str:
        if self.mode == "mass_matched":
            how = f"Gives {placed(self.keys)} the attention that scores times {self.factor:g} would give them"
            return f"{how}, shared out as before, for {self._place}"
        about = {"centred": " about their mean", "mass_preserving": ", keeping their attention in all"}
        scores = f"the attention scores of {placed(self.keys)} by {self.factor:g}{about.get(self.mode, '')}"
        return f"Multiplies {scores}, for {self._place}"

    def __post_init__(self) -> None:
        """Check the factor and the mode."""
        super().__post_init__()
        self._set(factor=check_number("factor", self.factor))
        check_choice("mode", self.mode, tuple(_FORMULAS))

    @property
    def formula(self) -> Formula:
        """The multiplication."""
        return _FORMULAS[self.mode](float(self.factor))
