"""Formulas for the attention scores of chosen keys.

A formula is given the scores of some query rows, `-inf` where a key is masked, and which keys are chosen; what it
makes of the others is not used, and masked keys stay masked whatever it makes of them. Its strength may be a tensor
that broadcasts against the scores, so that many strengths are worked out at once.

Conventions: s are scores after the division by the square root of the head size and before the softmax, A the chosen
keys that a row can see.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Scores = Float[Tensor, "*batch row key"]
Chosen = Bool[Tensor, "*#batch #row key"]


@dataclass(frozen=True)
class Formula:
    """A change of scores that depends on one number.

    Attributes:
        strength: The number, or one for each variant of a sweep.
    """

    strength: float | Tensor

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:
        """The scores as they shall be, at the chosen keys."""
        raise NotImplementedError

    @property
    def is_noop(self) -> bool:
        """True if this strength leaves every score as it is."""
        raise NotImplementedError


class Scale(Formula):
    """s' = factor s."""

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:  # noqa: ARG002
        """The product."""
        return scores * self.strength

    @property
    def is_noop(self) -> bool:
        """With a factor of one."""
        return not isinstance(self.strength, Tensor) and self.strength == 1


class Shift(Formula):
    """s' = s + bias: multiplies the odds of A against the other keys by exp(bias), and changes nothing inside A."""

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:  # noqa: ARG002
        """The sum."""
        return scores + self.strength

    @property
    def is_noop(self) -> bool:
        """With a bias of zero."""
        return not isinstance(self.strength, Tensor) and self.strength == 0


class ShiftBySize(Shift):
    """s' = s + alpha |s|: what Liu et al. 2024 (Paying More Attention to Image) do; never lowers a score."""

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:  # noqa: ARG002
        """The sum."""
        return scores + self.strength * scores.abs()


class ScaleAboutMean(Scale):
    """s' = m + factor (s - m), m the mean of s over A: unlike a plain factor, blind to a constant added to all of s."""

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:
        """The scores, spread about their mean."""
        seen = chosen & scores.isfinite()
        total = scores.masked_fill(~seen, 0.0).sum(-1, keepdim=True)
        mean = total / seen.sum(-1, keepdim=True).clamp(min=1)
        return mean + self.strength * (scores - mean)


class ScaleKeepingMass(Scale):
    """s' = factor s + c, with c = log sum exp s - log sum exp (factor s) over A: A keeps the attention that it has."""

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:
        """The scaled scores, shifted together."""
        scaled = scores * self.strength
        return scaled - _gain(scores, scaled, chosen)


class ShiftAsScaled(Scale):
    """s' = s + c, with c = log sum exp (factor s) - log sum exp s over A.

    A gets the attention that a factor gives it, and shares it out as before: the other half of `ScaleKeepingMass`.
    """

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:
        """The scores, shifted together."""
        return scores + _gain(scores, scores * self.strength, chosen)


def _gain(scores: Scores, scaled: Scores, chosen: Chosen) -> Float[Tensor, "*batch row 1"]:
    """By how much the logarithm of the odds of A rises from one set of scores to the other; 0 where A is empty."""
    seen = chosen & scores.isfinite()
    before, after = (each.masked_fill(~seen, -torch.inf).logsumexp(-1, keepdim=True) for each in (scores, scaled))
    return (after - before).masked_fill(~seen.any(-1, keepdim=True), 0.0)


@dataclass(frozen=True)
class Block(Formula):
    """s' = -inf: the rows do not see A."""

    strength: float | Tensor = 0.0

    def __call__(self, scores: Scores, chosen: Chosen) -> Scores:  # noqa: ARG002
        """Nothing but minus infinity."""
        return torch.full_like(scores, -torch.inf)

    @property
    def is_noop(self) -> bool:
        """True if this strength leaves every score as it is: never."""
        return False


def apply_to_chosen(formula: Formula, scores: Scores, chosen: Chosen) -> Scores:
    """Scores in which the formula has been applied at the chosen keys that a row can see.

    Args:
        formula: What to do.
        scores: `-inf` where a key is masked.
        chosen: Keys of every head and row; none in those that shall stay as they are.
    """
    here = chosen & ~scores.isneginf()
    return torch.where(here, formula(scores, chosen).to(scores.dtype), scores)
