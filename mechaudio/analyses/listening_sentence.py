"""The sentence that says where a model listens: `WhereItListens.sentence`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mechaudio.analyses.cut_edges import ALL, Edge
from mechaudio.metrics.clips import questions_of

if TYPE_CHECKING:
    from mechaudio.analyses.where_it_listens import WhereItListens

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "behind": "any row",
        "caption": "the caption",
        "question": "the question",
        "keyword": "the keyword",
        "choices": "the choices",
        "template": "the chat template's rows",
        "last": "the last row",
    }
)
"""Roles in a sentence."""


def listening_sentence(found: WhereItListens) -> str:
    """Who listens, what that is worth, and that the last row does not where it does not."""
    n = questions_of(len(found.everywhere.ids), found.everywhere.clips)
    if found.n_clips < found.fewest:
        return f"Which rows listen cannot be told from so few clips: that takes {found.fewest} ({n})."
    if not found.reaches:
        said, roles = "The sound is not known to reach the answer", ["behind"]
    elif not found.rows:
        said = "The sound reaches the answer, but no role is sure to carry it"
        roles = ["behind", max(found.roles, key=lambda role: _share(found, role))]
    else:
        who = " and ".join(NAMES[role] for role in found.rows)
        several = len(found.rows) > 1 or found.rows[0] in ("choices", "template")
        said = f"{who[0].upper()}{who[1:]} {'listen' if several else 'listens'}"
        said += ", and the last row does not" if found.deaf("last") else ""
        roles = [*found.rows, *(["last"] if found.deaf("last") else [])]
    costs = [_cost(found, role, first=place == 0) for place, role in enumerate(roles)]
    return f"{said}. {'; '.join(costs)} ({n})."


def _cost(found: WhereItListens, role: str, *, first: bool) -> str:
    """Put into words how much it costs to hide the sound from a role."""
    edge: Edge = ("audio", role)
    index = found.edges.index(edge)
    before, after = found.everywhere.clean_correct, found.everywhere.correct[index, 0]
    verb = "become" if (before != after).any() else "stay"
    said = f"Without the sound in {NAMES[role]} {_measured(found)} changes by" if first else f"in {NAMES[role]} by"
    said += f" {_change(found, index)}"
    if edge != ALL:
        said += f", {_share(found, role):.0%} of what it does without any sound,"
    return f"{said} and {before.sum()}{' right answers' * first} {verb} {after.sum()}"


def _measured(found: WhereItListens) -> str:
    return "the probability of the right choice" if found.measure == "probability" else "the margin of the right words"


def _share(found: WhereItListens, role: str) -> float:
    """The share of a role, never minus zero."""
    return round(float(found.share[found.edges.index(("audio", role))]), 2) + 0.0


def _change(found: WhereItListens, place: int) -> str:
    low, high = np.full((2, len(found.edges), 1), np.nan)
    if found.n_clips > 1:
        low, high = found.everywhere.interval(found.measure)
    change, first, last = (
        round(float(value), 2) + 0.0 for value in (found.change[place], low[place, 0], high[place, 0])
    )
    return f"{change:+.2f}" + ("" if np.isnan(first) else f" [{first:+.2f}, {last:+.2f}]")
