"""The settings of MATA that its study compares, and where its layers are in a model of another depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mechaudio.arguments import n_of, once_each
from mechaudio.experiments.study import check_settings
from mechaudio.interventions.mata import mata
from mechaudio.interventions.selecting import AttentionIntervention
from mechaudio.models.depth import same_share_of_depth
from mechaudio.results import keep
from mechaudio.showing import Shown

Mode = Literal["multiplicative", "additive", "pai"]
Mapping = Literal["proportional", "numbered"]

MODES: tuple[Mode, ...] = ("multiplicative", "additive", "pai")
"""The three readings of the formula: (1 + alpha) s, s + alpha, s + alpha |s|."""

_BOUNDARIES = 8


@dataclass(frozen=True)
class MataSettings(Shown):
    """The settings that are varied.

    Attributes:
        alpha: The published strength.
        published: The published range, first and last layer, of a model of 28 layers.
        ranges: The ranges of the published ablation, of the same model.
        alphas: Strengths in the published range.
        mapping: `proportional`: a published range is the layers whose middles lie in the same part of the depth.
            `numbered`: the layers of these numbers, as the paper seems to do in a model of 32 layers.
        share: Share of the clips whose questions choose; those of the others report.
        queries: Query rows: `last`, as published, others, or `listening`, those that the study finds to listen.
        n_measured: Questions whose attention scores are measured.
        generate: Whether answers are written too, with the published setting and with what was chosen.
        max_new_tokens: Most tokens of a written answer.
        seed: Seed of the halves.

    Raises:
        ValueError: For no strengths, a value that comes twice, one of zero (which changes nothing), a range that ends
            before it begins, an unknown mapping, or a share that is not between 0 and 1.
    """

    alpha: float = 0.1
    published: tuple[int, int] = (10, 20)
    ranges: tuple[tuple[int, int], ...] = ((0, 10), (5, 15), (10, 20), (15, 25), (20, 28))
    alphas: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.5, 1.0)
    mapping: Mapping = "proportional"
    share: float = 0.5
    queries: str = "last"
    n_measured: int = 64
    generate: bool = True
    max_new_tokens: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        check_settings(self, varied=("alphas",))
        once_each("ranges", self.ranges)
        if 0 in (*self.alphas, self.alpha):
            raise ValueError(f"alphas lists strengths other than 0, which changes nothing; got {self.alphas}")
        backwards = [span for span in (self.published, *self.ranges) if not 0 <= span[0] <= span[1]]
        if backwards:
            raise ValueError(f"a range is its first and its last layer, such as (10, 20); got {backwards[0]}")


keep(MataSettings)


@dataclass(frozen=True)
class MataArm(Shown):
    """One setting of MATA.

    Attributes:
        mode: The reading of the formula.
        alpha: The strength.
        first: First layer.
        last: Last layer.
        queries: The query rows that are changed.
    """

    mode: Mode
    alpha: float
    first: int
    last: int
    queries: str = "last"

    def intervention(self, layers: Sequence[int]) -> AttentionIntervention:
        """Make the arm's intervention.

        Args:
            layers: That have attention.
        """
        changed = [layer for layer in layers if self.first <= layer <= self.last]
        return mata(self.alpha, layers=changed, mode=self.mode, queries=self.queries)

    @property
    def where(self) -> str:
        """The layers in words."""
        return f"layer {self.first}" if self.first == self.last else f"layers {self.first} to {self.last}"

    def __str__(self) -> str:
        rows = "" if self.queries == "last" else f", {self.queries}"
        return f"{self.mode}, alpha {self.alpha:g}, {self.where}{rows}"


keep(MataArm)


def placed(span: tuple[int, int], layers: Sequence[int], depth: int, mapping: Mapping) -> tuple[int, int]:
    """A published range in a model of another depth: its first and last layer there.

    With `proportional`, it is the same part of the depth (`same_share_of_depth`).

    Raises:
        ValueError: With `numbered`, the model has no layer of these numbers.
    """
    if mapping == "numbered":
        within = [layer for layer in layers if span[0] <= layer <= span[1]]
        if not within:
            raise ValueError(
                f"the model has {n_of(depth, 'layer')}, none of which is {span[0]} to {span[1]}: use "
                "mapping='proportional'"
            )
        return within[0], within[-1]
    return same_share_of_depth(span, layers, depth)


def contiguous(layers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Every range of neighbouring layers that can be chosen: in deep models, those between a few even boundaries."""
    n = len(layers)
    steps = min(n, _BOUNDARIES)
    edges = [round(step * n / steps) for step in range(steps + 1)]
    return tuple((layers[a], layers[b - 1]) for place, a in enumerate(edges) for b in edges[place + 1 :])


def mata_arms(settings: MataSettings, layers: Sequence[int], depth: int) -> tuple[MataArm, ...]:
    """Every setting, each once: strengths in the published range; published ranges and all others at its strength."""
    published = placed(settings.published, layers, depth, settings.mapping)
    spans = [placed(span, layers, depth, settings.mapping) for span in known_ranges(settings, layers)]
    rows = settings.queries
    arms = [MataArm(mode, settings.alpha, *published, rows) for mode in MODES]
    arms += [MataArm(mode, alpha, *published, rows) for mode in MODES for alpha in settings.alphas]
    arms += [MataArm(mode, settings.alpha, *span, rows) for mode in MODES for span in (*spans, *contiguous(layers))]
    return tuple(dict.fromkeys(arms))


def known_ranges(settings: MataSettings, layers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The ranges of the published ablation that the model has layers for."""
    if settings.mapping == "proportional":
        return settings.ranges
    return tuple(span for span in settings.ranges if any(span[0] <= layer <= span[1] for layer in layers))
