"""The rows of the prompt over which the sound gets to the answer.

A row of attention that is looked at, changed or scored matters only if sound passes through it. Which rows these are is
the model's own: the last one, the options, the question. Here the edges of the prompt are cut (knock-outs, as in
`attention_flow`), over all layers, in windows of them and in each, and three things are asked of each role:

1. What do all roles together carry? The sound is hidden from every row behind it: `audio → behind`.
2. What does this role hear? The sound is hidden from its rows alone: `audio → question`.
3. Does it hand that on? Its rows are hidden from the last one: `question → last`.

A role **listens** if, over all layers, all of this holds:

- what all roles carry is more than nothing: without it the right answer falls;
- without what the role hears it falls, by at least a tenth of that (`least`);
- without the role itself, the last row's falls, too (of the last row itself this is not asked).

What falls is the probability of the right choice among the choices, and of words their log-odds (the margin: what a
text gains is a factor, not a share). A fall is a mean change below zero by the exact test of signs over clips. The
three together are tested by the largest of their p values, which after Holm's correction over the roles has to be below
0.05.

That is strict on purpose: a role that hands on over a third role alone is not named. And it says which rows the answer
cannot do without, not which look at the sound: a row that looks and changes nothing does not listen.

Conventions: an edge is (source, target), keys first; margins are in logits, of words without a foil in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from mechaudio.analyses.attention_flow import AttentionFlow, Measure, edge_name, window_size
from mechaudio.analyses.cut_edges import ALL, Edge, Windows, cut_edges
from mechaudio.analyses.listening_sentence import listening_sentence
from mechaudio.analyses.streaming import Questions, batches_of
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.interventions.selecting import named
from mechaudio.metrics.clips import clip_numbers, n_clips
from mechaudio.metrics.significance import holm
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where
from mechaudio.models.prompt import condition_of
from mechaudio.models.targets import Targets, Words
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM

if TYPE_CHECKING:
    import xarray

ROLES = ("caption", "question", "keyword", "choices", "template", "last")
"""Roles of rows that may listen. Of the chat template's rows, which are all that have no other role, the last is left
out: it is a role of its own."""
EDGES: tuple[Edge, ...] = (
    ALL,
    *(("audio", role) for role in ROLES),
    *((role, "last") for role in ROLES if role != "last"),
)
LEVEL = 0.05
"""The level of the tests, after correction."""
_HEARD = ("audio", "audio+caption")


@dataclass(frozen=True, eq=False, kw_only=True)
class WhereItListens(Result):
    """The rows that listen, and what every edge of the prompt carries.

    Attributes:
        everywhere: Each edge cut in all layers; this is what `rows` is read from.
        windows: In windows of neighbouring layers that do not overlap; None where that was not asked.
        layers: In each layer by itself; None where that was not asked.
        measure: What falls: `probability` of the right choice, or `margin` of words.
        least: The share of what all rows carry that a role has to carry.
    """

    everywhere: AttentionFlow
    windows: AttentionFlow | None
    layers: AttentionFlow | None
    measure: Measure = "probability"
    least: float = 0.1

    _table_axes = ("edge", "cut")

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges that were cut: those whose two ends some prompt has."""
        return self.everywhere.edges

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that may listen, in the order of the prompt."""
        return tuple(role for role in ROLES if ("audio", role) in self.edges)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The roles that listen, in the order of the prompt; none where none can be told."""
        if not self.reaches:
            return ()
        ways = [[self._place(edge) for edge in _ways(role)] for role in self.roles]
        p = self.everywhere.p(self.measure)[:, 0]
        known = holm([p[way].max() for way in ways]) < LEVEL
        falls = [bool((self.change[way] < 0).all()) for way in ways]
        return tuple(
            role
            for role, sure, fell, way in zip(self.roles, known, falls, ways, strict=True)
            if sure and fell and self.share[way[1]] >= self.least
        )

    @property
    def queries(self) -> str:
        """The rows that listen as one place, such as `question+choices`, for `queries=` of interventions.

        Raises:
            ValueError: No row is known to listen.
        """
        if not self.rows:
            raise ValueError(f"no rows are known to listen, so there are none to name. {self.sentence}")
        return "+".join(self.rows)

    @checks_arguments
    def deaf(self, where: str) -> bool:
        """Return whether the sound gets to the answer, and these rows hear less than `least` of what it is worth.

        Of fewer clips than `fewest`, of rows that were not measured, and where the sound does not get to the answer,
        nothing is known, and this is False.

        Args:
            where: A role, or several that `+` joins.
        """
        parts = {part.strip() for part in where.split("+")}
        parts |= {"last"} if "template" in parts else set()
        known = self.reaches and self.n_clips >= self.fewest and parts <= {*self.roles}
        return known and all(self.share[self._place(("audio", part))] < self.least for part in parts)

    @cached_property
    def change(self) -> Float[np.ndarray, " edge"]:
        """The mean change of what is measured with each edge cut in all layers."""
        return self.everywhere.mean(self.measure)[:, 0]

    @property
    def reaches(self) -> bool:
        """True if the sound gets to the answer at all: hidden from every row, the right answer falls."""
        index = self._place(ALL)
        return bool(self.change[index] < 0 and self.everywhere.p(self.measure)[index, 0] < LEVEL)

    @cached_property
    def share(self) -> Float[np.ndarray, " edge"]:
        """The change with each edge cut in all layers, in shares of what all rows carry; NaN where these carry nothing.

        Shares of several ways need not add up to 1.
        """
        return self.change / self.change[self._place(ALL)] if self.reaches else np.full(len(self.edges), np.nan)

    @checks_arguments
    def p_holm(self, flow: AttentionFlow) -> Float[np.ndarray, "edge window"]:
        """P values of changes, after Holm's correction over the edges of a kind and the windows.

        The kinds are what all roles hear, what each hears, and what each hands on.

        Args:
            flow: `everywhere`, `windows` or `layers`.
        """
        p = flow.p(self.measure)
        kinds = np.array(
            ["all" if edge == ALL else "hears" if edge[0] == "audio" else "hands on" for edge in self.edges]
        )
        for kind in np.unique(kinds):
            p[kinds == kind] = holm(p[kinds == kind])
        return p

    @property
    def fewest(self) -> int:
        """Clips that it takes to name a role: of fewer, no p value is small enough after correction."""
        return int(np.ceil(1 + np.log2(len(self.roles) / LEVEL)))

    @property
    def n_clips(self) -> int:
        """Clips that the questions are about."""
        return n_clips(clip_numbers(self.everywhere.clips or None, len(self.everywhere.ids)))

    @property
    def sentence(self) -> str:
        """The finding, in a sentence."""
        return listening_sentence(self)

    def _place(self, edge: Edge) -> int:
        return self.edges.index(edge)

    def to_xarray(self) -> xarray.Dataset:
        """Every cut with named axes, `edge` and `cut`; a cut is all layers, a window of them or one.

        `change` is the mean change of `measure` with its interval, `low` and `high`, `share` what that is of what all
        rows carry, `p` its test and `p_holm` after correction within the scope (all layers, windows, layers) and the
        kind of edge; `accuracy` the share of right answers, `fixed` and `broken` how many became right and wrong.
        """
        import xarray

        parts = [self._table(scope, flow) for scope, flow in self._scopes]
        return (
            xarray.concat(parts, "cut")
            .assign_coords(
                source=("edge", [source for source, _ in self.edges]),
                target=("edge", [target for _, target in self.edges]),
            )
            .assign_attrs(self._attrs)
        )

    @property
    def _scopes(self) -> list[tuple[str, AttentionFlow]]:
        every = [("all layers", self.everywhere)]
        if self.windows is not None:
            every.append(("window", self.windows))
        if self.layers is not None and (self.windows is None or self.layers.windows != self.windows.windows):
            every.append(("layer", self.layers))
        return every

    def _table(self, scope: str, flow: AttentionFlow) -> xarray.Dataset:
        import xarray

        change = flow.mean(self.measure)
        low, high = flow.interval(self.measure) if self.n_clips > 1 else np.full((2, *change.shape), np.nan)
        values = {
            "change": change,
            "low": low,
            "high": high,
            "share": change / self.change[self._place(ALL)] if self.reaches else np.full(change.shape, np.nan),
            "p": flow.p(self.measure),
            "p_holm": self.p_holm(flow),
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
        sentence = (
            ", ".join(self.rows) + (" listens" if len(self.rows) == 1 else " listen") if self.rows else "no row told"
        )
        n = len(self.everywhere.ids)
        return (
            f"<WhereItListens of {n_of(len(self.edges), 'edge')} x {n_of(cuts, 'cut')} on "
            f"{n_of(n, 'question')}: {sentence}>"
        )

    def __str__(self) -> str:
        """Say what was found."""
        return self.sentence


def window_name(window: tuple[int, ...], found: WhereItListens) -> str:
    """`all layers`, `layers 0 to 5` or `layer 3`."""
    return "all layers" if window == found.everywhere.windows[0] else named("layer", window)


def _ways(role: str) -> tuple[Edge, ...]:
    """The edges that all have to carry something for a role to listen; the second is what it hears."""
    return (ALL, ("audio", role)) if role == "last" else (ALL, ("audio", role), (role, "last"))


@checks_arguments
def where_it_listens(
    model: AudioLM,
    questions: Questions,
    *,
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    window: int | Literal["all"] | None = None,
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

    A role listens if hiding the sound from it in all layers costs the right answer at least a tenth of what hiding it
    from every row costs, and hiding the role from the last row costs it something, too: by tests of signs over clips,
    corrected over the roles (the module's head has the whole definition). All cuts of a batch share one run of its
    prompts.

    Args:
        model: The opened model.
        questions: With known answers, about 8 clips at least: of fewer, nothing can be told after correction. Prompts
            without a role count as not changed by cutting it.
        target: Words that are measured in the place of the choices' letters, for all questions or one text per question
            (`PromptBatch.aimed`); of open questions, their answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced; by default the first one, and all of words that begin
            with the same token. The rows of the words belong to the last row then.
        window: Layers of a window; by default a fifth of the decoder's, at least one. `"all"`: no windows, but all
            layers at once, which is what names the rows and all that it takes.
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
    n = model.n_layers
    size = n if window == "all" else window_size(model, window)
    neighbours = tuple(tuple(range(start, min(start + size, n))) for start in range(0, n, size))
    scopes: list[Windows] = [(tuple(range(n)),), neighbours if size < n else (), ()]
    scopes[2] = tuple((layer,) for layer in range(n)) if each_layer else ()
    batches = batches_of(model, questions, condition, batch_size=batch_size, what="where it listens", progress=progress)
    targets = Targets(target, foil, whole=whole)
    cuts = cut_edges(model, batches, EDGES, tuple(chain(*scopes)), targets, place=_place)
    there = [place for place, edge in enumerate(EDGES) if cuts.there[place].any()]
    settings: dict[str, Any] = {"condition": condition, "window": size, "least": float(least)} | targets.settings()
    provenance = Provenance.collect(model, settings=settings)

    def flow(scope: int) -> AttentionFlow:
        start = sum(map(len, scopes[:scope]))
        windows = scopes[scope]
        return AttentionFlow(
            edges=tuple(EDGES[place] for place in there),
            centres=tuple((window[0] + window[-1] + 1) // 2 for window in windows),
            windows=windows,
            provenance=provenance,
            **cuts.part(there, slice(start, start + len(windows))),
        )

    return WhereItListens(
        everywhere=flow(0),
        windows=flow(1) if scopes[1] else None,
        layers=flow(2) if scopes[2] else None,
        measure="margin" if "targets" in settings else "probability",
        least=float(least),
        provenance=provenance,
    )


def _place(batch: PromptBatch, role: str) -> Where:
    """The rows of a role that stand behind the sound: others cannot hear, as a question in front of its clip.

    Rows of words belong to the last one, which is no row of the chat template here.
    """
    if role == "last":
        return "last+words"
    if role in ("audio", "behind"):
        return role
    rows = batch.spans[role] if role in batch.spans else ((),) * batch.n_rows
    ends = zip(rows, batch.spans["audio"], batch.spans["last"], strict=True)
    return tuple(
        tuple(row for row in own if sound and row > min(sound) and (role != "template" or row not in last))
        for own, sound, last in ends
    )
