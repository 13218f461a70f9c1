"""Tables of a page: which events drew the attention, and how the page was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.results import Provenance


@dataclass(frozen=True)
class Fact:
    """One line of how a page was made."""

    name: str
    value: str


@dataclass(frozen=True)
class Moment:
    """One known event and the share of the audio attention that fell inside it.

    Attributes:
        label: Label of the event.
        onset: Seconds.
        offset: Seconds.
        inside: Share of the audio attention, mean over layers and heads.
        chance: The share that evenly spread attention would give.
        most: The largest share of any head.
        where: That head, as `layer 3, head 1`.
    """

    label: str
    onset: float
    offset: float
    inside: float
    chance: float
    most: float
    where: str


def moments(attention: AudioAttention) -> tuple[Moment, ...]:
    """The events of a result's first question by onset; those that the model could not hear are left out."""
    focus = attention.inside_events()
    drawn = []
    for index, event in enumerate(attention.events[0]):
        inside, chance = focus.inside[index], float(focus.chance[index])
        if chance == 0 or np.isnan(inside).all():
            continue
        layer, head = np.unravel_index(np.nanargmax(inside), inside.shape)
        drawn.append(
            Moment(
                event.label,
                event.onset,
                event.offset,
                float(np.nanmean(inside)),
                chance,
                float(inside[layer, head]),
                f"layer {layer}, head {head}",
            )
        )
    return tuple(sorted(drawn, key=lambda moment: (moment.onset, moment.offset)))


def facts(provenance: Provenance, command: str) -> tuple[Fact, ...]:
    """A result's provenance line by line, what is unknown left out, and the command that makes the page again."""
    created = provenance.created.replace("T", " ").replace("+00:00", " UTC")
    known = [
        Fact(name.replace("_", " "), _told(value))
        for name, value in (vars(provenance) | {"created": created}).items()
        if value not in (None, "", {}, ())
    ]
    return (*known, Fact("command", command))


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_told, value))
    return str(value)
