"""Edits that are made in the explorer, as interventions of the library.

Conventions: seconds from the start of the first clip, clips following one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from mechaudio.arguments import check, shown
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
        ValueError: Another kind, way or query rows, a part that is missing, or seconds that no clip has.
    """
    if not isinstance(edit, Mapping):
        raise ValueError(f"an edit is a dict, got {shown(edit)}")
    where = {
        "keys": keys_of(edit, clips),
        "queries": _QUERIES[one_of(edit, "queries", _QUERIES)],
        "layers": part(edit, "layers"),
        "heads": part(edit, "heads"),
    }
    how = one_of(edit, "how", ("knock_out", "scale", "upweight"))
    if how == "knock_out":
        return KnockOutAttention(**where)
    by = check("by", part(edit, "by"), float)
    return ScaleAttention(by, **where) if how == "scale" else UpweightAttention(by, **where)


def part(request: Mapping[str, Any], name: str) -> Any:
    """One part of what a front end sent.

    Raises:
        ValueError: It is missing.
    """
    if name not in request:
        raise ValueError(f"{name!r} is missing; the request has {sorted(map(str, request))}")
    return request[name]


def one_of(request: Mapping[str, Any], name: str, known: Iterable[str]) -> str:
    """One part of what a front end sent, which is one of few words.

    Raises:
        ValueError: It is another, or missing.
    """
    value, known = part(request, name), list(known)
    if value not in known:
        raise ValueError(f"{name!r} is one of {', '.join(known)}, got {shown(value)}")
    return value


def keys_of(edit: Mapping[str, Any], clips: Sequence[float]) -> str | tuple[int, ...]:
    """The keys that an edit acts on: a span, stretches of sound, or positions.

    Raises:
        ValueError: Another kind, or seconds that no clip has.
    """
    kind = one_of(edit, "kind", ("seconds", "words", "sound"))
    if kind == "seconds":
        return stretch(*(check(name, part(edit, name), float) for name in ("onset", "offset")), clips)
    return "audio" if kind == "sound" else tuple(check("positions", part(edit, "positions"), list[int]))


def stretch(onset: float | int, offset: float | int, clips: Sequence[float]) -> str:
    """A stretch of one or several clips that follow one another, as keys are written: `audio[1:2.5]`.

    Raises:
        ValueError: No clip has any of it, or it ends before it begins.
    """
    if not onset < offset:
        raise ValueError(f"a stretch of sound begins before it ends, got {onset:g} to {offset:g} s")
    parts = [
        (number, max(onset - begin, 0), min(offset, end) - begin)
        for number, (begin, end) in enumerate(pairwise(accumulate(clips, initial=0.0)))
        if max(onset, begin) < min(offset, end)
    ]
    if not parts:
        raise ValueError(f"no clip has any of the seconds {onset:g} to {offset:g}: together they last {sum(clips):g} s")
    names = ["audio" if len(clips) == 1 else f"audio.{number}" for number, _, _ in parts]
    return "+".join(
        f"{name}[{_written(begin)}:{_written(end)}]" for name, (_, begin, end) in zip(names, parts, strict=True)
    )


def _written(seconds: float) -> str:
    """Seconds as a stretch is written: to a tenth of a millisecond, without an exponent."""
    return f"{seconds:.4f}".rstrip("0").rstrip(".")


def as_code(interventions: Sequence[AttentionIntervention]) -> str:
    """Interventions as they would be written: `interventions=[...]`."""
    lines = "".join(f"\n    ma.{intervention!r}," for intervention in interventions)
    return f"interventions=[{lines}{chr(10) if lines else ''}]"
