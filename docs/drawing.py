"""The drawing of the house and the page around it, made from the import contract in `pyproject.toml`."""

from __future__ import annotations

import re
import sys
import textwrap
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
#: What travels, its colour, and its stops in their order, as `module:name`.
JOURNEYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a question": (
        "#0072b2",
        (
            "mechaudio.question:AudioQuestion",
            "mechaudio.data:toy_questions",
            "mechaudio.experiments.evaluate:evaluate",
            "mechaudio.models.prompt:prompt",
            "mechaudio.tracing.run:run",
            "mechaudio.tracing.answers:answers_in",
            "mechaudio.metrics.choices:likeliest",
            "mechaudio.results:Result",
        ),
    ),
    "an intervention": (
        "#d55e00",
        (
            "mechaudio.interventions.scale:ScaleAttention",
            "mechaudio.interventions.sweep:sweep",
            "mechaudio.variants.execute:carry_out",
            "mechaudio.tracing.bind:bind",
            "mechaudio.variants.plan:variant_of",
            "mechaudio.variants.shared_pass:first_pass",
            "mechaudio.tracing.exchange:Exchange",
            "mechaudio.tracing.effects:Effects",
        ),
    ),
    "a clip": (
        "#009e73",
        (
            "mechaudio.audio.clip:AudioClip",
            "mechaudio.question:AudioQuestion",
            "mechaudio.models.prompt:prompt",
            "mechaudio.audio.clock:TokenClock",
            "mechaudio.models.batch:PromptBatch",
            "mechaudio.tracing.audio_lm:AudioLM",
            "mechaudio.analyses.audio_attention:audio_attention",
            "mechaudio.viz.timeline:attention_over_time",
        ),
    ),
}
_BAND, _WIDTH, _FIRST_LANE, _LANE = 46, 1000, 330, 225


def layers() -> list[list[str]]:
    """The rooms of the import contract from top to bottom; those in one layer do not import one another."""
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (one for one in pyproject["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    return [re.findall(r"mechaudio\.(\w+)", layer) for layer in contract["layers"]]


def forbidden(package: str) -> list[str]:
    """The rooms that may not import a package."""
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = (one for one in pyproject["tool"]["importlinter"]["contracts"] if one["type"] == "forbidden")
    sources = (one["source_modules"] for one in contracts if package in one["forbidden_modules"])
    return [room.removeprefix("mechaudio.") for rooms in sources for room in rooms]


def rooms_below(room: str) -> list[str]:
    """The rooms that a room may import."""
    above = next(place for place, layer in enumerate(layers()) if room in layer)
    return [below for layer in layers()[above + 1 :] for below in layer]


def room_of(stop: str) -> str:
    """The room of a stop."""
    return stop.partition(":")[0].split(".")[1]


def drawing() -> str:
    """The picture: a band for every layer, a line for everything that travels."""
    bands, no_torch = layers(), forbidden("torch")
    middle = {room: _BAND * (place + 1.5) for place, layer in enumerate(bands) for room in layer}
    height = _BAND * (len(bands) + 1) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" role="img" aria-label="The rooms of mechaudio, and what travels through them">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for place, layer in enumerate(bands):
        top = _BAND * (place + 1)
        fill = "#f2f6fa" if set(layer) <= set(no_torch) else "#fdf6ec" if "tracing" in layer else "#ffffff"
        size = f'width="{_WIDTH - 8}" height="{_BAND - 4}"'
        parts.append(f'<rect x="4" y="{top}" {size} fill="{fill}" stroke="#c8ccd0"/>')
        wide = [layer[first : first + 3] for first in range(0, len(layer), 3)]
        for line, rooms in enumerate(wide):
            y = top + _BAND / 2 + 2 + 15 * (line - (len(wide) - 1) / 2)
            names = " | ".join(f'<tspan class="room">{room}</tspan>' for room in rooms)
            parts.append(f'<text x="14" y="{y:g}" font-weight="600">{names}</text>')
    for lane, (name, (colour, stops)) in enumerate(JOURNEYS.items()):
        parts += _journey(name, colour, stops, _FIRST_LANE + lane * _LANE, middle)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _journey(name: str, colour: str, stops: tuple[str, ...], x: int, middle: dict[str, float]) -> list[str]:
    """One line down and up, a dot at every stop: dots of one room stand beside one another."""
    seen: dict[str, int] = {}
    dots = []
    for number, stop in enumerate(stops, start=1):
        turn = seen[room_of(stop)] = seen.get(room_of(stop), -1) + 1
        dots.append((x + 12 * number - 30, middle[room_of(stop)] - 11 + 13 * turn, number, stop.partition(":")[2]))
    path = " ".join(f"{left:g},{y:g}" for left, y, _, _ in dots)
    parts = [
        f'<text x="{x - 20}" y="{_BAND / 2 + 4:g}" fill="{colour}" font-weight="700">{escape(name)}</text>',
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.5"/>',
    ]
    for left, y, number, label in dots:
        parts.append(f'<circle cx="{left:g}" cy="{y:g}" r="4" fill="{colour}"/>')
        parts.append(
            f'<text class="stop" x="{left + 8:g}" y="{y + 4:g}" font-size="11" fill="{colour}">'
            f"{number} {escape(label)}</text>"
        )
    return parts


_ABOUT = (
    "One drawing of the house: a band is a room, or several that do not import one another. A room imports what is "
    "below it and nothing above. Rooms on blue know no torch; the one on yellow is the only one that knows nnsight. "
    "The page and the drawing are made from the import contract in `pyproject.toml` (`python docs/generate.py`), which "
    "`make check` enforces."
)
_WAYS = (
    "A question becomes a row of a batch, and its answer is the likeliest choice. An intervention "
    "says which edits it makes of a model on prompts; `bind` finds their sites and positions, once for single runs, "
    "generation, gradients and variants. Single runs ask the exchange for them at once. Many variants are planned "
    "first: which of them run together, on which prompts, in how much memory. A clip is heard by the tower, and its "
    "clock says which seconds every audio token hears, up to the figure."
)


def architecture_page() -> str:
    """The page around the drawing."""
    lines = [
        "# Architecture",
        "",
        textwrap.fill(_ABOUT, 120),
        "",
        "![The rooms of mechaudio from top to bottom, and the way of a question, an intervention and a clip]"
        "(images/architecture.svg)",
        "",
        "## What travels",
        "",
    ]
    for name, (_, stops) in JOURNEYS.items():
        way = ", ".join(f"`{module}.{stop}`" for module, _, stop in (one.partition(":") for one in stops))
        lines += [f"**{name.capitalize()}**: {way}.", ""]
    lines += [
        textwrap.fill(_WAYS, 120),
        "",
        "## What each room may import",
        "",
        "| room | what it may import |",
        "|---|---|",
    ]
    for layer in layers():
        lines += [f"| `{room}` | {', '.join(f'`{below}`' for below in rooms_below(room)) or '-'} |" for room in layer]
    return "\n".join(lines) + "\n"
