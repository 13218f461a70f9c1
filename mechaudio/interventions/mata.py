"""MATA: more attention to audio from the last token, in the middle layers."""

from __future__ import annotations

from typing import Literal

from mechaudio.arguments import names_arguments
from mechaudio.interventions.scale import ScaleAttention
from mechaudio.interventions.selecting import AttentionIntervention, Layers, check_choice, check_number
from mechaudio.interventions.upweight import UpweightAttention
from mechaudio.models.positions import Where


@names_arguments
def mata(
    alpha: int | float = 0.1,
    layers: Layers = range(10, 21),
    mode: Literal["multiplicative", "additive", "pai"] = "multiplicative",
    queries: Where | None = "last",
) -> AttentionIntervention:
    """The intervention of MATA (arXiv 2509.18816): the last token, at every step, gives audio keys higher scores.

    The paper writes s' = (1 + alpha) s. That lowers the attention on keys with negative scores, so two other readings
    are given: `"additive"`, s' = s + alpha, which multiplies the odds of audio by exp(alpha), and `"pai"`,
    s' = s + alpha |s|, which equals the paper's where scores are positive and never lowers one.

    Args:
        alpha: The strength; 0.1 in the paper.
        layers: Where; 10 to 20, both included, in the paper, in models of 28 and 32 layers. A network without them is
            not run: the error says which layers it has, and which of them lie in the same part of its depth.
        mode: The reading of the formula.
        queries: Query rows; the last token in the paper.

    Returns:
        A `ScaleAttention` or an `UpweightAttention`.

    Raises:
        TypeError: An alpha that is not one number.
        ValueError: An alpha that is not finite, or an unknown mode.
    """
    check_choice("mode", mode, ("multiplicative", "additive", "pai"))
    alpha = check_number("alpha", alpha)
    if mode == "multiplicative":
        return ScaleAttention(1 + alpha, layers=layers, queries=queries)
    return UpweightAttention(alpha, mode="constant" if mode == "additive" else "pai", layers=layers, queries=queries)
