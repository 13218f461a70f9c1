"""Edits that are made in the explorer, as interventions of the library.

Conventions: seconds from the start of the first clip, clips following one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from mechaudio.interventions.knock_out import KnockOutAttention
from mechaudio.interventions.scale import ScaleAttention
from mechaudio.interventions.selecting import AttentionIntervention
from mechaudio.interventions.upweight import UpweightAttention

_QUERIES = {"behind": "behind", "last": "last", "every": None}


def intervention_of(edit: Mapping[str, Any], clips: Sequence[float]) -> AttentionIntervention:
    """The intervention that an edit of the explorer stands for.

    Args:
        edit: `kind` of its keys: `seconds` (`onset`, `offset`), `words` (`positions`) or `sound`; `how`: `knock_out`,
            `scale` or `upweight`, and `by` how much; `queries`: `behind`, `last` or `every`; `layers` and `heads`,
            None for all.
        clips: Seconds of each clip.

    Raises:
        KeyError: Another kind, way or query rows.
        ValueError: Seconds that no clip has.
    """
    where = {
        "keys": keys_of(edit, clips),
        "queries": _QUERIES[edit["queries"]],
        "layers": edit["layers"],
        "heads": edit["heads"],
    }
    make = {
        "knock_out": lambda: KnockOutAttention(**where),
        "scale": lambda: ScaleAttention(edit["by"], **where),
        "upweight": lambda: UpweightAttention(edit["by"], **where),
    }
    return make[edit["how"]]()


def keys_of(edit: Mapping[str, Any], clips: Sequence[float]) -> str | tuple[int, ...]:
    """The keys that an edit acts on: a span, stretches of sound, or positions."""
    if edit["kind"] == "seconds":
        return stretch(edit["onset"], edit["offset"], clips)
    return {"sound": lambda: "audio", "words": lambda: tuple(edit["positions"])}[edit["kind"]]()


def stretch(onset: float | int, offset: float | int, clips: Sequence[float]) -> str:
    """A stretch of one or several clips that follow one another, as keys are written: `audio[1:2.5]`.

    Raises:
        ValueError: No clip has any of it.
    """
    if len(clips) == 1:
        return f"audio[{onset:g}:{offset:g}]"
    parts = [
        f"audio.{number}[{max(onset - begin, 0):g}:{min(offset, end) - begin:g}]"
        for number, (begin, end) in enumerate(pairwise(accumulate(clips, initial=0.0)))
        if max(onset, begin) < min(offset, end)
    ]
    if not parts:
        raise ValueError(f"no clip has any of the seconds {onset:g} to {offset:g}: together they last {sum(clips):g} s")
    return "+".join(parts)


def as_code(interventions: Sequence[AttentionIntervention]) -> str:
    """Interventions as they would be written: `interventions=[...]`."""
    lines = "".join(f"\n    ma.{intervention!r}," for intervention in interventions)
    return f"interventions=[{lines}{chr(10) if lines else ''}]"
