"""The way of sound to the answer: which rows must see which keys, in which layers.

Attention knock-out over windows of layers, Geva et al. 2023, *Dissecting Recall of Factual Associations in
Auto-Regressive Language Models* (arXiv 2304.14767), with the roles of an audio prompt: an edge (`audio`, `last`) is cut
by keeping the queries of `last` from seeing the keys of `audio`, in every head of the layers of a window. How much
worse the right answer becomes says how much came over this edge there and by no other way.

What is cut is shared out: the attention that was on the keys of the source goes to the keys that are left, so that a
knock-out also adds. And what can go another way does: an edge that changes nothing may be one of two that carry the
same.

Conventions: an edge is (source, target), keys first, as information moves. A window of k layers around layer l is the
layers from l - k // 2 up to, not including, l + (k + 1) // 2, as in Geva et al.; it is cut off at the first and the
last layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float

from mechaudio.analyses.cut_edges import Edge, Windows, cut_edges
from mechaudio.analyses.streaming import Questions, batches_of
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.interventions.selecting import check_choice
from mechaudio.metrics.bootstrap import bootstrap_mean
from mechaudio.metrics.significance import McNemar, holm, mcnemar, sign_flip_test
from mechaudio.models.batch import PromptBatch
from mechaudio.models.depth import absent, which_layers
from mechaudio.models.positions import select
from mechaudio.models.prompt import condition_of
from mechaudio.models.targets import Targets, Words
from mechaudio.results import Provenance, Result
from mechaudio.tracing.audio_lm import AudioLM

if TYPE_CHECKING:
    import xarray

EDGES: tuple[Edge, ...] = (
    ("audio", "question"),
    ("audio", "choices"),
    ("audio", "last"),
    ("question", "last"),
    ("choices", "last"),
)
"""From the sound to the answer, straight and by way of the text."""
Measure = Literal["probability", "margin", "accuracy"]
MEASURES = ("probability", "margin", "accuracy")


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionFlow(Result):
    """The right answer with each edge cut in each window of layers.

    Attributes:
        edges: (source, target): the target's queries did not see the source's keys.
        centres: The layer in the middle of each window.
        windows: The layers of each window.
        probability: Probability of the right choice among the choices, with the edge cut.
        margin: Logit of the right choice minus that of the best wrong one, with the edge cut.
        correct: Whether the likeliest choice is right, with the edge cut.
        attention: Share of the target's attention that was on the source, in the mean over the window's layers, all
            heads and the target's rows: what was cut. NaN where the window has no attention.
        clean_probability: Without a cut.
        clean_margin: Without a cut.
        clean_correct: Without a cut.
        ids: Ids of the questions.
        clips: Name of the clip of each question, a cluster in every interval and test; without them, each is about a
            clip of its own.
    """

    edges: tuple[Edge, ...]
    centres: tuple[int, ...]
    windows: Windows
    probability: Float[np.ndarray, "edge window question"]
    margin: Float[np.ndarray, "edge window question"]
    correct: Bool[np.ndarray, "edge window question"]
    attention: Float[np.ndarray, "edge window question"]
    clean_probability: Float[np.ndarray, " question"]
    clean_margin: Float[np.ndarray, " question"]
    clean_correct: Bool[np.ndarray, " question"]
    ids: tuple[str, ...]
    clips: tuple[str, ...] = ()

    def change(self, measure: Measure = "probability") -> Float[np.ndarray, "edge window question"]:
        """With the edge cut minus without: in probability, logits (`margin`) or right answers (`accuracy`).

        Raises:
            ValueError: An unknown measure.
        """
        check_choice("measure", measure, MEASURES)
        if measure == "accuracy":
            return self.correct.astype(np.float64) - self.clean_correct
        name = "margin" if measure == "margin" else "probability"
        return getattr(self, name) - getattr(self, f"clean_{name}")

    def mean(self, measure: Measure = "probability") -> Float[np.ndarray, "edge window"]:
        """The mean change over questions."""
        return self.change(measure).mean(-1)

    def interval(
        self, measure: Measure = "probability", *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> tuple[Float[np.ndarray, "edge window"], Float[np.ndarray, "edge window"]]:
        """Bootstrap interval of `mean` over clips, of each edge and window by itself.

        Raises:
            ValueError: Fewer than two questions.
        """
        changes = np.moveaxis(self.change(measure), -1, 0)
        return bootstrap_mean(changes, clips=self.clips or None, confidence=confidence, resamples=resamples, seed=seed)

    def mcnemar(self, edge: Edge, centre: int) -> McNemar:
        """Test whether the answers that changed did so evenly in both directions, for one edge and window.

        Raises:
            KeyError: An edge or a window that was not measured; the message lists those that were.
        """
        if tuple(edge) not in self.edges:
            raise KeyError(f"no edge {edge!r}; there are {list(self.edges)}")
        if centre not in self.centres:
            raise KeyError(f"no window around layer {centre}; there are {list(self.centres)}")
        after = self.correct[self.edges.index(tuple(edge)), self.centres.index(centre)]
        return mcnemar(self.clean_correct, after, clips=self.clips or None)

    def p(self, measure: Measure = "accuracy") -> Float[np.ndarray, "edge window"]:
        """Test every edge and window by itself; `p_holm` accounts for their number.

        Args:
            measure: `accuracy`: McNemar's exact test of the answers. `probability` or `margin`: the test of signs of
                its changes over clips (`ma.metrics.sign_flip_test`), in steps of a ten-thousandth of all change, and at
                least of a thousandth: what is smaller counts as none.

        Raises:
            ValueError: An unknown measure.
        """
        change = self.change(measure)
        if measure == "accuracy":
            return np.array([[self.mcnemar(edge, centre).p for centre in self.centres] for edge in self.edges])
        total = np.abs(change).sum(-1, keepdims=True)
        steps = np.rint(change / np.maximum(total / 10_000, 1e-3)).astype(np.int64)
        return np.array([[sign_flip_test(one, clips=self.clips or None) for one in edge] for edge in steps])

    def p_holm(self, measure: Measure = "accuracy") -> Float[np.ndarray, "edge window"]:
        """Return the p values of `mcnemar` after Holm's correction for all edges and windows."""
        return holm(self.p(measure))

    _table_axes = ("edge", "layer", "question")

    @property
    def accuracy(self) -> Float[np.ndarray, "edge window"]:
        """The share of right answers with each cut."""
        return self.correct.mean(-1)

    def to_xarray(self) -> xarray.Dataset:
        """Everything with named axes: `probability`, `margin`, `correct`, `attention` over `edge`, `layer`, `question`,
        the `clean_` ones over `question`, and `p` over `edge` and `layer`.
        """  # noqa: D205
        import xarray

        cut = {name: (("edge", "layer", "question"), getattr(self, name)) for name in _MEASURED}
        clean = {f"clean_{name}": (("question",), getattr(self, f"clean_{name}")) for name in _MEASURED[:3]}
        return xarray.Dataset(
            {**cut, **clean, "p": (("edge", "layer"), self.p())},
            {"edge": [edge_name(edge) for edge in self.edges], "layer": list(self.centres), "question": list(self.ids)},
            self._attrs,
        )

    def __repr__(self) -> str:
        """How much was measured."""
        widths = sorted({len(window) for window in self.windows})
        return (
            f"<AttentionFlow of {n_of(len(self.edges), 'edge')} x {n_of(len(self.windows), 'window')} of "
            f"{n_of(widths[-1], 'layer')} on {n_of(len(self.ids), 'question')}, {self.clean_correct.mean():.0%} right "
            "without a cut>"
        )


_MEASURED = ("probability", "margin", "correct", "attention")


def edge_name(edge: Edge) -> str:
    """`audio → last`."""
    return f"{edge[0]} → {edge[1]}"


def edges_of(batch: PromptBatch) -> Sequence[Edge]:
    """The edges that are cut by default: those among `EDGES` whose roles stand in the prompts."""
    return [edge for edge in EDGES if "choices" not in edge or all(batch.spans.get("choices", ((),)))]


@checks_arguments
def attention_flow(
    model: AudioLM,
    questions: Questions,
    *,
    edges: Sequence[Edge] | None = None,
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    layers: Iterable[int] | None = None,
    window: int | Literal["all"] | None = None,
    condition: str = "audio",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> AttentionFlow:
    """Cut each edge in each window of layers, and see what becomes of the right answer.

    ```python
    flow = ma.analyses.attention_flow(model, questions, window=3)
    seconds = [(f"audio[{s}:{s + 1}]", "last") for s in range(10)]
    by_second = ma.analyses.attention_flow(model, questions, edges=seconds, window="all")
    ```

    Args:
        model: The opened model.
        questions: With known answers.
        edges: (source, target): spans of the prompt, `+` joins them (`"question+choices"`), seconds of sound are
            written `"audio[1.0:2.0]"`; by default from audio, question and choices, where there are any, to what is
            behind them (`EDGES`).
        target: Words that are measured in the place of the choices' letters, for all questions or one text per question
            (`PromptBatch.aimed`); of open questions, their answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced; edges are cut inside the prompt.
        layers: The layers in the middle of windows, negative ones counting from the last; all by default.
        window: Layers of a window; by default a fifth of the decoder's, at least one. `"all"` is one window of all
            layers, which counts as one around the middle one.
        condition: What the model is given; see `ma.prompt`.
        batch_size: Questions at a time.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Returns:
        The right answer's probability, margin and being right, per edge, window and question.

    Raises:
        ValueError: No edge, no question, a question without a known answer or without a wrong choice, words that cannot
            be measured, a window of no layer, or a prompt without any position of a role.
        KeyError: A role that the prompts do not have.
        IndexError: A layer that the model does not have.
    """
    condition = condition_of(questions, condition)
    batches = batches_of(model, questions, condition, batch_size=batch_size, what="attention flow", progress=progress)
    foremost = next(batches)
    edges = _checked_edges(edges_of(foremost) if edges is None else edges)
    centres, windows = _windows(model, window, layers)
    targets = Targets(target, foil, whole=whole)
    prompts = (_with_roles(batch, edges) for batch in chain([foremost], batches))
    cuts = cut_edges(model, prompts, edges, windows, targets)
    settings = {"condition": condition, "windows": windows} | targets.settings()
    return AttentionFlow(
        edges=edges,
        centres=centres,
        windows=windows,
        **cuts.part(range(len(edges)), slice(None)),
        provenance=Provenance.collect(model, settings=settings),
    )


def _checked_edges(edges: Sequence[Edge]) -> tuple[Edge, ...]:
    if isinstance(edges, str) or not len(edges):
        raise ValueError(f"edges= is a list of (source, target), such as [('audio', 'last')]; got {edges!r}")
    for edge in edges:
        if isinstance(edge, str) or len(edge) != 2 or not all(isinstance(role, str) for role in edge):
            raise ValueError(f"an edge is (source, target), such as ('audio', 'last'); got {edge!r}")
    pairs = tuple((edge[0], edge[1]) for edge in edges)
    if len(set(pairs)) < len(pairs):
        raise ValueError(f"an edge is named twice: {list(pairs)}")
    return pairs


def window_size(model: AudioLM, given: int | str | None) -> int:
    """The layers of a window; by default a fifth of the decoder's, at least one.

    Raises:
        ValueError: No number of layers, or more than the decoder has.
    """
    size = max(1, round(model.n_layers / 5)) if given is None else given
    if not isinstance(size, int) or not 1 <= size <= model.n_layers:
        raise ValueError(
            f"window= is a number of layers, at least 1 and at most the decoder's {model.n_layers}, or 'all'; got "
            f"{given!r}"
        )
    return size


def _windows(model: AudioLM, size: int | str | None, layers: Iterable[int] | None) -> tuple[tuple[int, ...], Windows]:
    """The layers in the middle of windows, and the layers of each."""
    n = model.n_layers
    if size == "all":
        if layers is not None:
            raise ValueError("window='all' is one window of all layers: leave out layers=")
        return (n // 2,), (tuple(range(n)),)
    size = window_size(model, size)
    chosen = tuple(range(n)) if layers is None else tuple(layers)
    if not chosen:
        raise ValueError("layers= is empty: name at least one, or leave it out for all")
    if beyond := absent(chosen, n):
        raise IndexError(f"there is no layer {beyond[0]}: {which_layers(chosen, n)}")
    centres = tuple(layer % n for layer in chosen)
    return centres, tuple(
        tuple(range(max(0, centre - size // 2), min(n, centre + (size + 1) // 2))) for centre in centres
    )


def _with_roles(batch: PromptBatch, edges: Sequence[Edge]) -> PromptBatch:
    """The batch; an edge with an end that a prompt does not have, or that is in front of the other, is refused."""
    for role in {role for edge in edges for role in edge}:
        for row, positions in enumerate(select(batch, role)):
            if not positions:
                raise ValueError(
                    f"the prompt of question {batch.questions[row].id!r} has no position of {role!r} in condition "
                    f"{batch.condition!r}: leave out the edges of this role, or choose another condition"
                )
    for source, target in edges:
        for row, (keys, queries) in enumerate(zip(select(batch, source), select(batch, target), strict=True)):
            if max(queries) < min(keys):
                raise ValueError(
                    f"in the prompt of question {batch.questions[row].id!r}, {target!r} comes before {source!r}: no "
                    "token sees what follows it, so there is nothing to cut"
                )
    return batch
