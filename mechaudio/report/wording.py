"""How numbers stand in sentences, the same in the findings of every study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from mechaudio.analyses.listening_sentence import NAMES
from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import n_of
from mechaudio.experiments.choosing import Choice
from mechaudio.metrics.estimates import Estimate, Proportion
from mechaudio.metrics.significance import McNemar
from mechaudio.viz.theme import number

SIGNIFICANT = 0.05
"""Findings call a difference significant where its p value, corrected as they say, is below."""


LEADING = 5
"""Most sentences that a study begins with."""


class Finding(str):
    """A sentence of a report that knows the figure it stands on, and whether chance is no likely reason for it.

    Attributes:
        figure: Name of the figure; empty where there is none.
        sure: Whether it may stand first: it describes what is there, or a test or an interval excludes chance.
        size: How large what it says is, in shares of the answers; larger ones stand first.
    """

    figure: str
    sure: bool
    size: float

    def __new__(cls, text: str, figure: str = "", *, sure: bool, size: float) -> Finding:
        """Make it of the sentence and what is known of it."""
        made = super().__new__(cls, text)
        made.figure, made.sure, made.size = figure, sure, abs(size)
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        """Return what a copy is made of."""
        return (str(self), self.figure), {"sure": self.sure, "size": self.size}


def leading(findings: Sequence[str]) -> tuple[Finding, ...]:
    """The sure findings, largest first, at most `LEADING`; none where all may be by chance.

    Of plain sentences, of which nothing is known, they are the first.
    """
    if not any(isinstance(finding, Finding) for finding in findings):
        return tuple(Finding(finding, sure=True, size=0.0) for finding in findings[:LEADING])
    sure = [finding for finding in findings if isinstance(finding, Finding) and finding.sure]
    return tuple(sorted(sure, key=lambda finding: finding.size, reverse=True)[:LEADING])


def heard_where(listens: WhereItListens | None, rows: Sequence[str]) -> tuple[str, ...]:
    """Say which rows listen, on the half that chooses, and which of those that a study changes or reads carry nothing.

    Args:
        listens: What was found; nothing comes of None.
        rows: Those of the study.
    """
    if listens is None:
        return ()
    deaf = [each for each in dict.fromkeys(rows) if listens.deaf(each)]
    carries_nothing = (
        f" What reaches {' and '.join(map(_named, deaf))} carries nothing: a change there is no test of listening."
        if deaf
        else ""
    )
    hears = [source == "audio" for source, _ in listens.edges]
    largest = float(np.nanmax(np.abs(listens.everywhere.mean(listens.measure)[hears])))
    size = largest if listens.measure == "probability" else 0.0  # margins are no shares
    return (Finding(listens.sentence + carries_nothing, "listens", sure=bool(listens.rows), size=size),)


def _named(rows: str) -> str:
    """Query rows as a sentence calls them."""
    return " and ".join(NAMES.get(part.strip(), part.strip()) for part in rows.split("+"))


def percent(share: Proportion) -> str:
    """A share with its interval, and how many have no answer, if any."""
    nan = f" ({share.unanswered} of {share.n} have no answer: NaN)" if share.unanswered else ""
    return f"{share.value:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}]{nan}"


def lacking(unanswered: Bool[np.ndarray, "variant question"], clean: int = 0) -> tuple[str, ...]:
    """That some answers are missing; nothing where all are there.

    Args:
        unanswered: Which answers are missing under each variant.
        clean: How many are without a change.
    """
    missing = int(unanswered.sum()) + clean
    if not missing:
        return ()
    variants = f"{unanswered.any(axis=1).sum()} of {n_of(len(unanswered), 'variant')}"
    return (
        f"{n_of(missing, 'answer is', 'answers are')} missing, because logits of their choices are NaN "
        f"or overflow ({variants}, and {clean} without a change); all of them count as not right.",
    )


def points(change: Estimate) -> str:
    """A change of a share, with its interval."""
    value, low, high = (number(100 * share, 1, "+") for share in (change.value, change.low, change.high))
    return f"{value} points [{low}, {high}]"


def p_value(p: float) -> str:
    """A p value; of a very small one only that it is."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def of_clips(n: int, clips: int | None, what: str = "question") -> str:
    """Count questions, or answers, and their clips where these are fewer."""
    return n_of(n, what) + ("" if clips is None else f" of {n_of(clips, 'clip')}")


def named(test: McNemar) -> str:
    """Name the test of a p value."""
    return "McNemar" if test.n_clips is None else "test of signs over clips"


def by_lot(choice: Choice) -> str:
    """That what was chosen was drawn by lot, where it was."""
    return f", drawn by lot from {choice.tied} that did equally well there" if choice.tied else ""
