"""Changes of answers in each group of questions: by task or domain, by skill, by difficulty.

Which groups there are is said by the corpus: MMAU's `task` is the domain (sound, music, speech), its `category` and
`sub-category` are skills; MMAR's `task` is the modality, its `category` the layer of reasoning; MMAU-Pro names several
skills per question, which then counts in each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from mechaudio.metrics.multiple_choice import AnswerChange, answer_change
from mechaudio.metrics.significance import holm

GROUPINGS = ("task", "category", "sub-category", "difficulty", "perceptual_skills", "reasoning_skills")
"""Entries of `AudioQuestion.meta` that questions are grouped by, where there are two groups or more."""

ALL = "all"

Groups = Mapping[str, tuple[tuple[str, ...], ...]]
"""Grouping -> per question, the groups that it is in."""


@dataclass(frozen=True)
class GroupChange:
    """Changes of the answers of one group.

    Attributes:
        by: The grouping, `all` for the row of all questions.
        name: Name of the group.
        change: Accuracies, fixes, breaks and McNemar's test.
        p_holm: The test's p value after Holm's correction over the groups of this grouping.
    """

    by: str
    name: str
    change: AnswerChange
    p_holm: float


def groups_of(metas: Sequence[Mapping[str, Any]]) -> Groups:
    """The groupings that tell questions of these `AudioQuestion.meta` apart."""
    groupings = {by: tuple(_names(meta.get(by)) for meta in metas) for by in GROUPINGS}
    return {by: named for by, named in groupings.items() if len({name for names in named for name in names}) > 1}


def members(groups: Groups) -> Iterator[tuple[str, str, Bool[np.ndarray, " question"]]]:
    """Grouping, group, and which questions are in it; groups in the order in which they first come."""
    for by, named in groups.items():
        for name in dict.fromkeys(name for names in named for name in names):
            yield by, name, np.array([name in names for names in named], dtype=bool)


def changes_by_group(
    groups: Groups,
    before: Bool[np.ndarray, " question"],
    after: Bool[np.ndarray, " question"],
    *,
    clips: Sequence[str] | None = None,
) -> tuple[GroupChange, ...]:
    """Right or wrong before and after: of all questions, then of each group; without `clips` each is about its own."""
    named = None if clips is None else np.array(clips)
    whole = answer_change(before, after, clips=named)

    def change(of_group: Bool[np.ndarray, " question"]) -> AnswerChange:
        return answer_change(before[of_group], after[of_group], clips=None if named is None else named[of_group])

    rows = [(by, name, change(of_group)) for by, name, of_group in members(groups) if of_group.any()]
    corrected = holm_within([by for by, *_ in rows], [made.test.p for *_, made in rows])
    changes = (GroupChange(*row, p) for row, p in zip(rows, corrected, strict=True))
    return (GroupChange(ALL, ALL, whole, whole.test.p), *changes)


def holm_within(groupings: Sequence[str], p_values: Sequence[float]) -> list[float]:
    """P values after Holm's correction over the groups of each grouping."""
    adjusted = np.array(p_values, dtype=float)
    for by in dict.fromkeys(groupings):
        of_grouping = np.array(groupings) == by
        adjusted[of_grouping] = holm(adjusted[of_grouping])
    return adjusted.tolist()


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, (tuple, list)):
        return tuple(str(name) for name in value if name)
    return (str(value),) if value else ()
