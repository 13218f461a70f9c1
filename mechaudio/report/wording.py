"""How numbers stand in sentences, the same in the findings of every study."""

from __future__ import annotations

from mechaudio.metrics.estimates import Estimate, Proportion

SIGNIFICANT = 0.05
"""Findings call a difference significant where its p value, corrected as they say, is below."""


def percent(share: Proportion) -> str:
    """A share with its interval."""
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def points(change: Estimate) -> str:
    """A change of a share, with its interval."""
    return f"{100 * change.value:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"


def p_value(p: float) -> str:
    """A p value; of a very small one only that it is."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
