"""The ways of steering from silence to audio that the steering study compares, with their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from mechaudio.analyses.specialist_heads import Head, HeadScores, Ranking
from mechaudio.analyses.steering_directions import Norm, SteeringDirections
from mechaudio.experiments.study import check_settings
from mechaudio.interventions.steer import Steer
from mechaudio.interventions.steer_heads import SteerHeads
from mechaudio.results import keep
from mechaudio.showing import Shown

Kind = Literal["layer-guided", "single layer", "head by head"]
Control = Literal["", "random heads", "random direction", "another question"]

#: Of each kind, what it is held against.
CONTROLS: Mapping[Kind, tuple[Control, ...]] = {
    "layer-guided": ("random heads", "random direction", "another question"),
    "single layer": (),
    "head by head": ("random heads", "random direction", "another question"),
}


@dataclass(frozen=True)
class SteeringSettings(Shown):
    """The settings that are varied.

    Attributes:
        strengths: Strengths of all kinds; the paper does not tell its own.
        ks: Numbers of heads; 10, 20 and 30 in the paper. Those that the model has fewer heads for are left out.
        norms: Where layer-guided steering adds: before the final norm, behind it, or either.
        ranking: Ranking of heads, as in `HeadScores.top`.
        draws: Sets of random heads.
        share: Share of the clips whose questions choose; those of the others report.
        queries: Query rows whose attention and differences are measured, and whose heads are steered: `last`, as
            published, others, or `listening`, those that the study finds to listen.
        seed: Seed of the halves and the controls.

    Raises:
        ValueError: For nothing to vary, a value that comes twice, a strength of zero (which changes nothing), no draws,
            or a share that is not between 0 and 1.
    """

    strengths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    ks: tuple[int, ...] = (10, 20, 30)
    norms: tuple[Norm, ...] = ("pre", "post")
    ranking: Ranking = "magnitude"
    draws: int = 3
    share: float = 0.5
    queries: str = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        check_settings(self, varied=("strengths", "ks", "norms"))
        if 0 in self.strengths:
            raise ValueError("a strength of 0 changes nothing: the answers without steering are there anyway")
        if self.draws < 1:
            raise ValueError(f"draws is a number of sets of random heads, at least 1, got {self.draws}")


keep(SteeringSettings)


@dataclass(frozen=True)
class SteeringArm(Shown):
    """One way of steering.

    Attributes:
        kind: `layer-guided` (eq. 4-6), `single layer`, its comparison, or `head by head` (eq. 7-9).
        strength: The paper's lambda.
        k: How many heads; None for a single layer.
        layer: The single layer.
        norm: Before or behind the final norm; None head by head.
        control: Blank, or what is at random: the heads, the direction, or whose question the direction is of.
        draw: Which set of random heads, from 0.
    """

    kind: Kind
    strength: float
    k: int | None = None
    layer: int | None = None
    norm: Norm | None = None
    control: Control = ""
    draw: int = 0

    @property
    def setting(self) -> SteeringArm:
        """The arm at strength 1: what arms over strengths have in common."""
        return SteeringArm(self.kind, 1.0, self.k, self.layer, self.norm, self.control, self.draw)

    @property
    def where(self) -> str:
        """Heads or layer, and place, in words."""
        parts = [] if self.k is None else [f"K = {self.k}"]
        parts += [] if self.layer is None else [f"layer {self.layer}"]
        parts += (
            [] if self.norm is None else ["before the final norm" if self.norm == "pre" else "behind the final norm"]
        )
        return ", ".join(parts)

    @property
    def name(self) -> str:
        """The kind and the control, in words."""
        return self.kind if not self.control else f"{self.kind}, {self.control}"

    def __str__(self) -> str:
        return f"{self.name}, {self.where}, strength {self.strength:g}"


keep(SteeringArm)


def steering_arms(settings: SteeringSettings, ks: Sequence[int], layers: Sequence[int]) -> tuple[SteeringArm, ...]:
    """All ways of steering, kinds first and controls behind them."""
    arms = []
    for kind in CONTROLS:
        for control in ("", *CONTROLS[kind]):
            norms = (None,) if kind == "head by head" else settings.norms
            places = [(None, layer) for layer in layers] if kind == "single layer" else [(k, None) for k in ks]
            draws = range(settings.draws if control == "random heads" else 1)
            arms += [
                SteeringArm(kind, strength, k, layer, norm, control, draw)
                for draw, (k, layer), norm, strength in product(draws, places, norms, settings.strengths)
            ]
    return tuple(arms)


@dataclass(frozen=True, eq=False)
class Aim:
    """Heads to steer with, by their scores on the questions that choose, and where the controls come from."""

    scores: HeadScores
    settings: SteeringSettings

    def heads(self, arm: SteeringArm) -> tuple[Head, ...]:
        """The heads of an arm."""
        assert arm.k is not None
        if arm.control == "random heads":
            return self.scores.random(arm.k, seed=self.settings.seed + arm.draw)
        return self.scores.top(arm.k, ranking=self.settings.ranking)

    def interventions(
        self, arms: Sequence[SteeringArm], own: SteeringDirections, others: SteeringDirections
    ) -> dict[str, Steer | SteerHeads]:
        """The interventions of arms on some questions, by their places; `others` are directions of other ones."""
        made = {setting: self._intervention(setting, own, others) for setting in dict.fromkeys(a.setting for a in arms)}
        return {str(place): replace(made[arm.setting], strength=arm.strength) for place, arm in enumerate(arms)}

    def _intervention(
        self, arm: SteeringArm, own: SteeringDirections, others: SteeringDirections
    ) -> Steer | SteerHeads:
        along = others if arm.control == "another question" else own
        if arm.kind == "single layer":
            assert arm.layer is not None
            assert arm.norm is not None
            return along.single_layer(arm.layer, arm.strength, norm=arm.norm)
        if arm.kind == "layer-guided":
            assert arm.norm is not None
            made = along.layer_guided(self.heads(arm), arm.strength, norm=arm.norm)
        else:
            made = along.head_level(self.heads(arm), arm.strength)
        return along.random_direction(made, self.settings.seed) if arm.control == "random direction" else made
