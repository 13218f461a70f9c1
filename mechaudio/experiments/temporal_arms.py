"""The ways of changing attention that the temporal study compares, with their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mechaudio.experiments.listening_first import LISTENING
from mechaudio.experiments.study import check_settings
from mechaudio.experiments.text_keys import OnTextKeys
from mechaudio.interventions.scale import ScaleAttention
from mechaudio.interventions.upweight import UpweightAttention
from mechaudio.models.adapter import Adapter
from mechaudio.models.spans import ROLES
from mechaudio.question import CONDITIONS, EVERY_CONDITION
from mechaudio.results import keep
from mechaudio.showing import Shown

Kind = Literal["upweighting", "scaling"]
SPANS = (*ROLES, "transcript", "keyword", "last")
"""Names of query rows; `listening` stands for those that the study finds."""
#: Of them, those of the text that some classes were trained with in front of the sound.
_IN_FRONT = {"caption", "question", "choices", "keyword"}
Control = Literal["", "mass_preserving", "mass_matched", "centred", "text keys"]


@dataclass(frozen=True)
class TemporalSettings(Shown):
    """The settings that are varied.

    Attributes:
        biases: Strengths of upweighting. The paper does not tell its own.
        factors: Strengths of scaling; 2.0 and 0.2 are the paper's best for two models.
        queries: Query rows that are changed in step 4; those published are `last`, `keyword` and both, and `listening`
            are those that the study finds to listen.
        targeted: Query rows that are changed in step 5, likewise.
        conditions: Conditions of steps 1 and 2; `audio` among them. Those with a caption are left out where a question
            has none.
        n_attention: Questions that attention is averaged over.
        share: Share of the clips whose questions choose in step 5; those of the others report.
        seed: Seed of the halves, and of the keys of text that are drawn.

    Raises:
        ValueError: For no strengths or rows, a value that comes twice, a factor of one or a bias of zero (which change
            nothing), an unknown condition, or conditions without `audio`.
    """

    biases: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    factors: tuple[float, ...] = (0.2, 0.5, 0.8, 1.2, 1.5, 2.0)
    queries: tuple[str, ...] = ("last", "keyword", "keyword+last")
    targeted: str = "last"
    conditions: tuple[str, ...] = CONDITIONS
    n_attention: int = 64
    seed: int = 0
    share: float = 0.5

    def __post_init__(self):
        check_settings(self, varied=("biases", "factors", "queries", "conditions"))
        if 1 in self.factors or 0 in self.biases:
            raise ValueError("a factor of 1 and a bias of 0 change nothing: the clean answers are there anyway")
        unknown = [condition for condition in self.conditions if condition not in EVERY_CONDITION]
        if unknown or "audio" not in self.conditions:
            raise ValueError(f"conditions are of {EVERY_CONDITION}, 'audio' among them; got {self.conditions}")
        for rows in (*self.queries, self.targeted):
            unknown = [span for span in rows.split("+") if span not in SPANS]
            if unknown and rows != LISTENING:
                raise ValueError(
                    f"queries are spans such as 'keyword+last', of {', '.join(SPANS)}, or {LISTENING!r}; got {rows!r}"
                )


keep(TemporalSettings)


@dataclass(frozen=True)
class Arm(Shown):
    """One way of changing attention.

    Attributes:
        kind: `upweighting` or `scaling`.
        strength: The bias or the factor.
        queries: The query rows that are changed.
        control: Blank, or which control it is: `mass_preserving`, `mass_matched`, `centred`, `text keys`.
        layer: The one layer that is changed, None for all.
    """

    kind: Kind
    strength: float
    queries: str
    control: Control = ""
    layer: int | None = None

    def intervention(self, seed: int) -> ScaleAttention | UpweightAttention | OnTextKeys:
        """Make the arm's intervention.

        Args:
            seed: Seed of the keys of text that are drawn.
        """
        where = {"queries": self.queries, "layers": self.layer}
        if self.kind == "upweighting":
            plain = UpweightAttention(self.strength, **where)
        elif self.control not in ("", "text keys"):
            plain = ScaleAttention(self.strength, mode=self.control, **where)
        else:
            plain = ScaleAttention(self.strength, **where)
        return OnTextKeys(plain, seed) if self.control == "text keys" else plain

    def __str__(self) -> str:
        where = "all layers" if self.layer is None else f"layer {self.layer}"
        control = f", {self.control.replace('_', ' ')}" if self.control else ""
        return f"{self.kind} {self.strength:g}{control}, {self.queries}, {where}"


keep(Arm)


def refuse_rows_in_front(settings: TemporalSettings, adapter: Adapter) -> None:
    """Refuse query rows that see no sound, in a class that was trained with the text of a turn in front of its clip.

    Raises:
        ValueError: There are such rows.
    """
    deaf = [rows for rows in dict.fromkeys((*settings.queries, settings.targeted)) if {*rows.split("+")} <= _IN_FRONT]
    if adapter.text_first and deaf:
        raise ValueError(
            f"{adapter.network_class} was trained with the question in front of the sound, so that rows "
            f"{' and '.join(map(repr, deaf))} see none of it, and there is nothing to change: give queries='last'"
        )


def arms_of(settings: TemporalSettings, layers: Sequence[int]) -> tuple[Arm, ...]:
    """The arms that change all layers that have attention, their controls, and those that change one."""
    uniform = [
        Arm(kind, strength, queries, control)
        for queries in settings.queries
        for kind, strengths, controls in (
            ("upweighting", settings.biases, ("", "text keys")),
            ("scaling", settings.factors, ("", "mass_preserving", "mass_matched", "centred", "text keys")),
        )
        for control in controls
        for strength in strengths
    ]
    if settings.targeted not in settings.queries:
        uniform += [Arm("scaling", factor, settings.targeted) for factor in settings.factors]
    targeted = [
        Arm("scaling", factor, settings.targeted, layer=layer) for layer in layers for factor in settings.factors
    ]
    return (*uniform, *targeted)
