"""`mechaudio models`: what can be opened."""

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from mechaudio.cli.options import add_verb
from mechaudio.cli.outcome import Outcome

if TYPE_CHECKING:
    from mechaudio.models.adapter import Adapter

ABOUT = "It is the table of [Models](models.md)."
WIDTH = 120
COLUMNS = ("class, checkpoints", "ms/token", "window", "audio tower", "exceptions")


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb."""
    verb = add_verb(
        verbs,
        "models",
        does="list the classes that mechaudio opens",
        leaves="It prints their checkpoints, how long an audio token is, what becomes of long clips, and what does not "
        "hold of a class, and writes no file.",
        examples=("mechaudio models",),
    )
    verb.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> Outcome:
    """List the classes that mechaudio opens."""
    from mechaudio.models.registry import ADAPTERS

    notes = list(dict.fromkeys(said for adapter in ADAPTERS for said in adapter.caveats))
    rows = [COLUMNS, *(_facts(adapter, notes) for adapter in ADAPTERS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    output = lines[:1]
    for adapter, line in zip(ADAPTERS, lines[1:], strict=True):
        output += [line, *(f"  {checkpoint}" for checkpoint in adapter.checkpoints)]
        output += [f"  {parts} (parts: mechaudio assemble {adapter.family})" for parts in adapter.parts]
    output += [
        "",
        "'tiny' is a small Qwen2AudioForConditionalGeneration that travels with mechaudio: mechaudio demo",
        "'toy' is one whose weights are written by hand, so that all about it is known: mechaudio check toy",
        "'small' is one of real parts, Whisper tiny.en's encoder and SmolLM2-135M-Instruct: mechaudio get small",
        "",
        "Exceptions",
    ]
    output += [
        textwrap.fill(f"{said}.", WIDTH, initial_indent=f"{number:3d}  ", subsequent_indent="     ")
        for number, said in enumerate(notes, start=1)
    ]
    return Outcome("\n".join(output), rows=[_row(adapter) for adapter in ADAPTERS])


def _row(adapter: "Adapter") -> dict[str, Any]:
    """The facts about a class, for programs; a window of None takes any length."""
    timing = adapter.timing
    return {
        "class": adapter.network_class,
        "checkpoints": adapter.checkpoints,
        "parts": adapter.parts,
        "milliseconds_per_token": None if adapter.timing.timeless is not None else adapter.milliseconds,
        "window_seconds": None if timing.window is None else timing.window / adapter.sampling_rate,
        "long_clips": timing.long_clips,
        "audio_tower": adapter.access,
        "exceptions": adapter.caveats,
    }


def _facts(adapter: "Adapter", notes: list[str]) -> tuple[str, ...]:
    timing = adapter.timing
    window = "any length" if timing.window is None else f"{timing.window / adapter.sampling_rate:g} s"
    longer = {"cut": "then cut", "split": "then the next", "refused": "and no more"}[timing.long_clips]
    return (
        adapter.network_class,
        "-" if adapter.timing.timeless is not None else f"{adapter.milliseconds:.4g}",
        window if timing.window is None else f"{window}, {longer}",
        adapter.access,
        _ranges([notes.index(said) + 1 for said in adapter.caveats]),
    )


def _ranges(numbers: list[int]) -> str:
    """`[1, 2, 3, 7]` as `1-3, 7`."""
    ends = [number for number in numbers if number + 1 not in numbers]
    starts = [number for number in numbers if number - 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(sorted(starts), sorted(ends), strict=True))
