"""Right answers over the strength of an intervention, on the questions that choose a strength and on the others.

Conventions: answers are 1 for right and 0 for wrong; a line that is a mean over random draws has shares in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.arguments import n_of
from mechaudio.showing import Shown


@dataclass(frozen=True, eq=False)
class StrengthLine:
    """One way of intervening, over its strengths.

    Attributes:
        name: What it is, in words.
        strengths: In ascending order.
        correct: Whether each answer is right.
        chosen: The place of the strength that did best on the questions that choose; None if none was chosen.
        control: Whether it is a control.

    Raises:
        ValueError: Another number of rows than of strengths, strengths that do not ascend, or a place that is none.
    """

    name: str
    strengths: tuple[float, ...]
    correct: Float[np.ndarray, "strength question"] | Bool[np.ndarray, "strength question"]
    chosen: int | None = None
    control: bool = False

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        if len(self.correct) != len(self.strengths) or list(self.strengths) != sorted(set(self.strengths)):
            raise ValueError(
                f"{self.name!r} needs ascending strengths and a row of answers for each, got {list(self.strengths)} "
                f"and {n_of(len(self.correct), 'row')}"
            )
        if self.chosen is not None and not 0 <= self.chosen < len(self.strengths):
            raise ValueError(f"chosen is a place among {n_of(len(self.strengths), 'strength')}, got {self.chosen}")


@dataclass(frozen=True, eq=False)
class OverStrength(Shown):
    """Several ways of intervening on the same questions, over their strengths.

    Attributes:
        lines: One per way.
        clean_correct: Whether each answer is right without any.
        chooses: Which questions choose; the others report.
        unit: What a strength is.
        clips: Name of the clip of each question; without them, each is about a clip of its own.

    Raises:
        ValueError: No lines, lines of other questions, or a half without questions.
    """

    lines: tuple[StrengthLine, ...]
    clean_correct: Bool[np.ndarray, " question"]
    chooses: Bool[np.ndarray, " question"]
    unit: str = "strength"
    clips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        if not self.lines:
            raise ValueError("there is nothing to show over strengths: lines is empty")
        n = {self.clean_correct.size, self.chooses.size, *(line.correct.shape[1] for line in self.lines)}
        if len(n) > 1:
            raise ValueError(f"all lines answer the same questions, got {sorted(n)} of them")
        if self.chooses.all() or not self.chooses.any():
            raise ValueError("some questions choose and the others report; here one of the two has none")
