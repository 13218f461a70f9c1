"""Where a model listens: the rows of the prompt over which the sound gets to the answer.

A row of attention that is looked at, changed or scored matters only if sound passes through it. Which rows these are is
the model's own: the last one, the options, the question. Here the edges of the prompt are cut (knock-outs, as in
`attention_flow`), over all layers, in windows of them and in each, and three things are asked of each role:

1. What do all roles together carry? The sound is hidden from every row behind it: `audio → behind`.
2. What does this role hear? The sound is hidden from its rows alone: `audio → question`.
3. Does it hand that on? Its rows are hidden from the last one: `question → last`.

A role **listens** if, over all layers, all of this holds:

- what all roles carry is more than nothing: without it the margin of the right answer falls;
- without what the role hears it falls by at least a tenth of that (`least`);
- without the role itself, the last row's does, too (of the last row itself this is not asked).

"Falls" is a mean change below zero with p < 0.05 by the exact test of signs over clips, after Holm's correction for all
edges. That is strict on purpose: a role of many small parts, or one that hands on over a third role, is not named. And
it says which rows the answer cannot do without, not which look at the sound: a row that looks and changes nothing does
not listen.

Conventions: an edge is (source, target), keys first; margins are in logits, of words without a foil in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.attention_flow import AttentionFlow, edge_name, window_size
from mechaudio.analyses.cut_edges import Edge, cut_edges
from mechaudio.analyses.streaming import Questions, batches_of
from mechaudio.arguments import checks_arguments
from mechaudio.interventions.selecting import named
from mechaudio.metrics.clips import clip_numbers, n_clips, questions_of
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import condition_of
from mechaudio.models.selection import Where
from mechaudio.models.targets import Targets, Words
from mechaudio.results import Provenance, Result

if TYPE_CHECKING:
    import xarray

    from mechaudio.tracing.audio_lm import AudioLM

ROLES = ("caption", "question", "keyword", "choices", "template", "last")
"""Roles of rows that may listen. Of the chat template's rows, which are all that have no other role, the last is left
out: it is a role of its own."""
ALL = ("audio", "behind")
"""What hides the sound from every row."""
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "caption": "the caption",
        "question": "the question",
        "keyword": "the keyword",
        "choices": "the choices",
        "template": "the rows of the chat template",
        "last": "the last row",
    }
)
"""Roles in a sentence."""
EDGES: tuple[Edge, ...] = (
    ALL,
    *(("audio", role) for role in ROLES),
    *((role, "last") for role in ROLES if role != "last"),
)
LEVEL = 0.05
"""Of the tests, after correction."""
_HEARD = ("audio", "audio+caption")


@dataclass(frozen=True, eq=False, kw_only=True)
class WhereItListens(Result):
    """The rows that listen, and what every edge of the prompt carries.

    Attributes:
        everywhere: Each edge cut in all layers; this is what `rows` is read from.
        windows: In windows of neighbouring layers that do not overlap.
        layers: In each layer by itself; None where that was not asked.
        least: The share of what all rows carry that a role has to carry.
    """

    everywhere: AttentionFlow
    windows: AttentionFlow
    layers: AttentionFlow | None
    least: float = 0.1

    _table_axes = ("edge", "cut")

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges that were cut: those whose two ends some prompt has."""
        return self.everywhere.edges

    @property
    def rows(self) -> tuple[str, ...]:
        """The roles that listen, in the order of the prompt; none where none can be told."""
        carried = dict(zip(self.edges, self.carries.tolist(), strict=True))
        return tuple(role for role in ROLES if all(carried.get(edge, False) for edge in _ways(role)))

    @property
    def queries(self) -> str:
        """The rows that listen as one place, such as `question+choices`, for `queries=` of interventions.

        Raises:
            ValueError: No row is known to listen.
        """
        if not self.rows:
            raise ValueError(f"no rows are known to listen, so there are none to name. {self.sentence}")
        return "+".join(self.rows)

    def deaf(self, where: str) -> bool:
        """Whether the sound gets to the answer, and what these rows hear of it does not count.

        Args:
            where: A role, or several that `+` joins; of any that was not measured nothing is known.
        """
        parts = {part.strip() for part in where.split("+")}
        parts |= {"last"} if "template" in parts else set()
        ways = [("audio", part) for part in parts]
        known = all(way in self.edges for way in ways)
        return self.reaches and known and not any(self.carries[self.edges.index(way)] for way in ways)

    @property
    def reaches(self) -> bool:
        """Whether the sound gets to the answer at all: without it in any row the margin of the right answer falls."""
        return bool(self._falls[self.edges.index(ALL)])

    @cached_property
    def share(self) -> Float[np.ndarray, " edge"]:
        """The change of the margin with each edge cut in all layers, in shares of what all rows carry.

        NaN where these carry nothing. Shares of several ways need not add up to 1.
        """
        change = self.everywhere.mean("margin")[:, 0]
        return change / change[self.edges.index(ALL)] if self.reaches else np.full(len(change), np.nan)

    @cached_property
    def carries(self) -> Bool[np.ndarray, " edge"]:
        """Whether each edge, cut in all layers, costs the margin at least `least` of what all rows carry."""
        return self._falls & (np.nan_to_num(self.share) >= self.least)

    @cached_property
    def _falls(self) -> Bool[np.ndarray, " edge"]:
        change = self.everywhere.mean("margin")[:, 0]
        return (change < 0) & (self.everywhere.p_holm("margin")[:, 0] < LEVEL)

    @property
    def fewest(self) -> int:
        """Clips that it takes to tell anything: of fewer, no p value is small enough after correction."""
        return int(np.ceil(1 + np.log2(len(self.edges) / LEVEL)))

    @property
    def n_clips(self) -> int:
        """Clips that the questions are about."""
        return n_clips(clip_numbers(self.everywhere.clips or None, len(self.everywhere.ids)))

    @property
    def sentence(self) -> str:
        """What was found, in a sentence."""
        n = questions_of(len(self.everywhere.ids), self.everywhere.clips)
        if self.n_clips < self.fewest:
            return f"Which rows listen cannot be told from so few clips: that takes {self.fewest} ({n})."
        if not self.reaches:
            return (
                "The sound does not reach the answer: hidden from every row, it changes the margin of the right answer "
                f"by {self._change(ALL)}, and {self._answers(ALL)} ({n})."
            )
        ways = [role for role in ROLES if ("audio", role) in self.edges]
        if not self.rows:
            most = max(ways, key=lambda role: self._share(role))
            hears = self.carries[self.edges.index(("audio", most))]
            lacks = "the last row does not need it" if hears else "that is too little or too unsure"
            return (
                f"The sound reaches the answer (hidden from every row, it changes the margin of the right answer by "
                f"{self._change(ALL)}), but over no role by itself: {self._share(most):.0%} of that over "
                f"{NAMES[most]}, but {lacks} ({n})."
            )
        told = [
            f"hidden from {NAMES[role]}, the sound changes the margin of the right answer by "
            f"{self._change(('audio', role))}, {self._share(role):.0%} of what it does hidden from every row, and "
            f"{self._answers(('audio', role))}"
            for role in self.rows
        ]
        deaf = [role for role in ("last", "choices", "question") if role in ways and self.deaf(role)]
        beside = f"; hidden from {NAMES[deaf[0]]}, {self._share(deaf[0]):.0%}, and {self._answers(('audio', deaf[0]))}"
        who = " and ".join(NAMES[role] for role in self.rows)
        verb = "listen" if len(self.rows) > 1 or self.rows[0] in ("choices", "template") else "listens"
        return f"{who[0].upper()}{who[1:]} {verb}: {'; '.join(told)}{beside if deaf else ''} ({n})."

    def _share(self, role: str) -> float:
        return float(self.share[self.edges.index(("audio", role))]) + 0.0

    def _change(self, edge: Edge) -> str:
        place = self.edges.index(edge)
        low, high = (float(end[place, 0]) for end in self.everywhere.interval("margin"))
        change = float(self.everywhere.mean("margin")[place, 0])
        return f"{change:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")

    def _answers(self, edge: Edge) -> str:
        after = int(self.everywhere.correct[self.edges.index(edge), 0].sum())
        return f"{int(self.everywhere.clean_correct.sum())} right answers become {after}"

    def to_xarray(self) -> xarray.Dataset:
        """Every cut with named axes, `edge` and `cut`; a cut is all layers, a window of them or one.

        `margin` is the mean change of the margin with its interval, `low` and `high`, `share` what that is of what all
        rows carry, `p` its test and `p_holm` after correction within the scope (all layers, windows, layers);
        `accuracy` the share of right answers, `fixed` and `broken` the answers that became right and wrong.
        """
        import xarray

        parts = [self._table(scope, flow) for scope, flow in self._scopes]
        return xarray.concat(parts, "cut").assign_coords(
            source=("edge", [source for source, _ in self.edges]), target=("edge", [target for _, target in self.edges])
        ).assign_attrs(self._attrs)

    @property
    def _scopes(self) -> list[tuple[str, AttentionFlow]]:
        every = [("all layers", self.everywhere), ("window", self.windows)]
        if self.layers is not None and self.layers.windows != self.windows.windows:
            every.append(("layer", self.layers))
        return every

    def _table(self, scope: str, flow: AttentionFlow) -> xarray.Dataset:
        import xarray

        change, total = flow.mean("margin"), self.everywhere.mean("margin")[self.edges.index(ALL), 0]
        enough = len(flow.ids) > 1
        low, high = flow.interval("margin") if enough else np.full((2, *change.shape), np.nan)
        values = {
            "margin": change,
            "low": low,
            "high": high,
            "share": change / total if self.reaches else np.full(change.shape, np.nan),
            "p": flow.p("margin"),
            "p_holm": flow.p_holm("margin"),
            "accuracy": flow.accuracy,
            "fixed": (flow.correct & ~flow.clean_correct).sum(-1),
            "broken": (~flow.correct & flow.clean_correct).sum(-1),
        }
        return xarray.Dataset(
            {name: (("edge", "cut"), array) for name, array in values.items()},
            {
                "edge": [edge_name(edge) for edge in self.edges],
                "cut": [window_name(window, self) for window in flow.windows],
                "scope": ("cut", [scope] * len(flow.windows)),
                "first_layer": ("cut", [window[0] for window in flow.windows]),
                "last_layer": ("cut", [window[-1] for window in flow.windows]),
            },
        )

    def __repr__(self) -> str:
        """How much was measured, and which rows listen."""
        cuts = sum(len(flow.windows) for _, flow in self._scopes)
        told = ", ".join(self.rows) + (" listens" if len(self.rows) == 1 else " listen") if self.rows else "no row told"
        return f"<WhereItListens of {len(self.edges)} edges x {cuts} cuts on {len(self.everywhere.ids)} questions: {told}>"

    def __str__(self) -> str:
        """What was found."""
        return self.sentence


def window_name(window: tuple[int, ...], found: WhereItListens) -> str:
    """`all layers`, `layers 0 to 5` or `layer 3`."""
    return "all layers" if window == found.everywhere.windows[0] else named("layer", window)


def _ways(role: str) -> tuple[Edge, ...]:
    """The edges that a role listens by."""
    return (("audio", role),) if role == "last" else (("audio", role), (role, "last"))


@checks_arguments
def where_it_listens(
    model: AudioLM,
    questions: Questions,
    *,
    target: Words = None,
    foil: Words = None,
    whole: bool = False,
    window: int | None = None,
    each_layer: bool = True,
    least: float = 0.1,
    condition: str = "audio",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> WhereItListens:
    """Find the rows over which the sound gets to the answer.

    ```python
    found = ma.analyses.where_it_listens(model, questions)
    print(found.sentence)
    ma.ScaleAttention(2.0, queries=found.queries)
    ```

    A role listens if hiding the sound from it in all layers costs the right answer's margin at least a tenth of what
    hiding it from every row costs, and hiding the role from the last row does, too; each by the exact test of signs
    over clips after Holm's correction (the module's head has the whole definition). All cuts of a batch share one run
    of its prompts: with the default windows, and on prompts that are mostly sound, they take about as long as one run
    more, and `each_layer` as long as three or four.

    Args:
        model: The opened model.
        questions: With known answers, about 10 clips at least: of fewer, nothing can be told after correction. Prompts
            without a role count as not changed by cutting it.
        target: Words that are measured in the place of the choices' letters, for all questions or one text per question
            (`PromptBatch.aimed`); of open questions, their answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced; by default the first one counts. The rows of the words
            belong to the last row then.
        window: Layers of a window; by default a fifth of the decoder's, at least one.
        each_layer: Cut in each layer by itself, too.
        least: The share of what all rows carry that a role has to carry, above 0 and at most 1.
        condition: What the model is given, `audio` or `audio+caption`.
        batch_size: Questions at a time.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: No question, one without a known answer, without a wrong choice or without sound, words that cannot
            be measured, a window of no layer, or a `least` that is no share.
    """
    condition = condition_of(questions, condition)
    if condition not in _HEARD:
        raise ValueError(f"condition is one of {_HEARD}, in which there is sound to listen to; got {condition!r}")
    if not 0 < least <= 1:
        raise ValueError(f"least= is a share of what all rows carry, above 0 and at most 1; got {least!r}")
    n, size = model.n_layers, window_size(model, window)
    neighbours = tuple(tuple(range(start, min(start + size, n))) for start in range(0, n, size))
    scopes = [(tuple(range(n)),), neighbours, tuple((layer,) for layer in range(n)) if each_layer else ()]
    batches = batches_of(model, questions, condition, batch_size=batch_size, what="where it listens", progress=progress)
    targets = Targets(target, foil, whole=whole)
    found = cut_edges(model, batches, EDGES, tuple(chain(*scopes)), targets, place=_place)
    there = [place for place, edge in enumerate(EDGES) if found.there[place].any()]
    settings: dict[str, Any] = {"condition": condition, "window": size, "least": float(least)} | targets.settings()
    provenance = Provenance.collect(model, settings=settings)

    def flow(scope: int) -> AttentionFlow | None:
        start = sum(map(len, scopes[:scope]))
        windows = scopes[scope]
        if not windows:
            return None
        return AttentionFlow(
            edges=tuple(EDGES[place] for place in there),
            centres=tuple((window[0] + window[-1] + 1) // 2 for window in windows),
            windows=windows,
            provenance=provenance,
            **found.part(there, slice(start, start + len(windows))),
        )

    return WhereItListens(
        everywhere=flow(0), windows=flow(1), layers=flow(2), least=float(least), provenance=provenance
    )


def _place(batch: PromptBatch, role: str) -> Where:
    """The rows of a role: those of words belong to the last one, which is no row of the chat template here.

    Of the chat template, rows in front of the sound cannot hear, and are left out.
    """
    if role == "last":
        return "last+words"
    if role in ("audio", "behind"):
        return role
    rows = batch.spans[role] if role in batch.spans else ((),) * batch.n_rows
    if role != "template":
        return rows
    ends = zip(rows, batch.spans["audio"], batch.spans["last"], strict=True)
    return tuple(tuple(row for row in own if sound and row > min(sound) and row not in last) for own, sound, last in ends)
