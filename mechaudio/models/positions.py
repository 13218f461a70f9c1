"""The positions that a user means, by spans, stretches of sound or numbers; and the heads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from mechaudio.arguments import n_of
from mechaudio.audio.clock import TokenClock

if TYPE_CHECKING:
    from mechaudio.models.batch import PromptBatch

#: Names of spans joined by `+`, a stretch of the sound in seconds (`"audio[1.0:2.5]"`), positions for all prompts
#: (negative ones count from the end of the padded prompt), or one list of positions per prompt. Two more names
#: are known in every prompt: `behind`, all positions behind the first of the audio that are none of it, which is all
#: that can hear; and `words`, those of a target of which all tokens count, which no prompt by itself has.
Where = Annotated[
    str | int | Sequence[int] | Sequence[Sequence[int]],
    "a span, such as 'keyword+last', or places, such as [-2, -1]",
    "spans or places",
]
Positions = tuple[tuple[int, ...], ...]

_STRETCH = re.compile(r"audio(?:\.(?P<clip>\d+))?\[(?P<onset>[\d.\s]*):(?P<offset>[\d.\s]*)\]")


def select(batch: PromptBatch, where: Where) -> Positions:
    """Per prompt, the positions that are meant, each once and in order.

    ```python
    select(batch, "keyword+last")
    select(batch, "audio[1.0:2.5]")      # the audio tokens that hear a part of these 1.5 seconds
    select(batch, "audio.1[1.0:2.5]")    # the same in the second of several clips
    select(batch, [-2, -1])
    ```

    Raises:
        KeyError: No such span.
        IndexError: A position outside the prompt.
        ValueError: A stretch that ends before it begins, in a prompt whose audio tokens have no time, or lists of
            positions for another number of prompts.
    """
    if isinstance(where, str):
        parts = [_span(batch, part.strip()) for part in where.split("+")]
        return tuple(tuple(sorted({p for part in parts for p in part[row]})) for row in range(batch.n_rows))
    wanted = [where] if isinstance(where, int) else list(where)
    per_prompt = bool(wanted) and not isinstance(wanted[0], int)
    rows = [list(row) for row in wanted] if per_prompt else [wanted] * batch.n_rows
    if len(rows) != batch.n_rows:
        raise ValueError(
            f"positions are given for all prompts at once, or as one list per prompt ({batch.n_rows} here); got "
            f"{n_of(len(rows), 'list')}"
        )
    return tuple(tuple(sorted(set(row))) for row in from_the_start(batch, rows))


def from_the_start(batch: PromptBatch, rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Count positions from the start of the prompts, those below zero from the end.

    Raises:
        IndexError: A position outside the prompts.
    """
    n_positions = batch.n_positions - batch.n_forced
    for position in {position for row in rows for position in row}:
        if not -n_positions <= position < n_positions:
            raise IndexError(f"position {position} is outside the prompts of {n_of(n_positions, 'position')}")
    return [[position % n_positions for position in row] for row in rows]


def _span(batch: PromptBatch, part: str) -> Positions:
    if part == "words":
        return (tuple(range(batch.n_positions - batch.n_forced, batch.n_positions)),) * batch.n_rows
    if part == "behind":
        rows = batch.spans["audio"]
        return tuple(tuple(sorted({*range(min(row), batch.n_positions)} - {*row})) if row else () for row in rows)
    stretch = _STRETCH.fullmatch(part)
    if stretch is None:
        return batch.spans[part]
    onset = _seconds(stretch["onset"], 0.0, part)
    positions = []
    for row, clocks in enumerate(batch.clocks):
        number = int(stretch["clip"] or 0)
        if not number < len(clocks) or (stretch["clip"] is None and len(clocks) > 1):
            raise ValueError(f"{part!r} cannot be found in prompt {row}: {_timed(clocks)}")
        clock = clocks[number]
        end = clock.end
        offset = _seconds(stretch["offset"], end, part)
        if not onset < offset:
            raise ValueError(f"{part!r} ends before it begins in prompt {row}: its sound lasts {end:.2f} s")
        audio = batch.spans["audio" if len(clocks) == 1 else f"audio.{number}"][row]
        positions.append(tuple(audio[token] for token in clock.tokens_hearing(onset, offset)))
    return tuple(positions)


def _timed(clocks: Sequence[TokenClock]) -> str:
    if not clocks:
        return "its audio tokens have no known time (it has no sound, or its inputs hold several clips); give positions"
    return f"it has {n_of(len(clocks), 'clip')}; name one of them, 'audio.0[...]' to 'audio.{len(clocks) - 1}[...]'"


def _seconds(text: str, otherwise: float, part: str) -> float:
    try:
        return float(text.strip() or otherwise)
    except ValueError:
        raise ValueError(f"{part[:80]!r} is no stretch of sound: write seconds, as in 'audio[1.0:2.5]'") from None


def of_rows(where: Where | None, rows: Sequence[int]) -> Where | None:
    """Choose for some prompts of a batch: the same, unless it was given as one list per prompt."""
    if where is None or isinstance(where, (str, int)) or not where or isinstance(where[0], int):
        return where
    return [where[row] for row in rows]


def heads_among(heads: Sequence[int], n_heads: int) -> list[int]:
    """Heads counted from the first.

    Raises:
        IndexError: A head that there is not.
        ValueError: A head that is named twice.
    """
    for head in heads:
        if not -n_heads <= head < n_heads:
            raise IndexError(f"there is no head {head}: a layer has heads 0 to {n_heads - 1} here")
    counted = [head % n_heads for head in heads]
    if len(set(counted)) < len(counted):
        raise ValueError(f"heads {list(heads)} name one of {n_of(n_heads, 'head')} twice: name each once")
    return counted
