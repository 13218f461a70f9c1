"""How every figure looks: one template that reads well on a light page and on a dark one.

Backgrounds are transparent, so the page shows through; text and grid are greys that keep a contrast above 4 on white
and on black alike; colours are Okabe and Ito's, which people with any kind of colour vision can tell apart. The
template is a value that each figure is given: nothing global is changed by importing this.
"""

import html
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Num
from plotly.colors import convert_colors_to_same_type, sample_colorscale

from mechaudio.labelled import ANYTHING_ELSE, target_names
from mechaudio.results import Result
from mechaudio.writing import in_order

Ends = Float[np.ndarray, " point"]
Places = Num[np.ndarray, " point"]

INK = "#767c84"
FAINT = "rgba(128,134,140,0.25)"
VEIL = "rgba(128,134,140,0.35)"
CLEAR = "rgba(0,0,0,0)"

DARK, LIGHT = "#14181c", "#ffffff"
#: The luminance of which `DARK` and `LIGHT` have the same contrast: that of white, 1, and of `DARK`, 0.0089, by WCAG 2.
_HALFWAY = (1.05 * 0.0589) ** 0.5 - 0.05

SEQUENTIAL = "Viridis"
DIVERGING = "RdBu_r"
SOUND_SCALE = (
    (0.0, "rgba(118,124,132,0)"),
    (0.45, "rgba(118,124,132,0.1)"),
    (0.75, "rgba(118,124,132,0.5)"),
    (1.0, "rgba(118,124,132,1)"),
)

LEGEND_BELOW = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0}

CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#b8860b")
ROLE_COLOURS = {
    "audio": "#d55e00",
    "audio_padding": "#e8b48f",
    "transcript": "#8a5fbf",
    "question": "#2c8fd1",
    "choices": "#009e73",
    "caption": "#cc79a7",
    "keyword": "#e69f00",
    "template": "#8c8c8c",
    "text": "#8c8c8c",
    "last": "#56b4e9",
}

_AXIS = {
    "gridcolor": FAINT,
    "linecolor": FAINT,
    "zerolinecolor": FAINT,
    "tickcolor": FAINT,
    "automargin": True,
    "title": {"standoff": 8},
}

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {
            "color": INK,
            "size": 13,
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
        },
        "title": {
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "font": {"size": 16},
            "subtitle": {"font": {"size": 12, "color": INK}},
        },
        "colorway": CYCLE,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {
            "bgcolor": "#20252b",
            "bordercolor": "#20252b",
            "font": {"color": "#f5f6f7", "size": 13},
            "align": "left",
        },
        "legend": {"bgcolor": CLEAR, "font": {"color": INK}},
        "margin": {"l": 64, "r": 24, "t": 76, "b": 52},
        "modebar": {"bgcolor": CLEAR, "color": INK, "activecolor": "#d55e00"},
    },
    data={"heatmap": [go.Heatmap(colorbar={"thickness": 12, "outlinewidth": 0})]},
)


def whiskers(value: Ends, low: Ends, high: Ends, **look: Any) -> dict[str, Any]:
    """Error bars from `low` to `high`, as plotly takes them: as distances from the value.

    They have the `look` of plotly's error bars: `color`, `thickness` (of the line) and `width` (of the ends).
    """
    ends = {"array": high - value, "arrayminus": value - low}
    return {"type": "data", "symmetric": False, **ends, "thickness": 1, "width": 3, **look}


def faded(colour: str, share: float) -> str:
    """A colour such as `#d55e00`, of which this share covers what is behind it."""
    return f"rgba{(*(int(colour[start : start + 2], 16) for start in (1, 3, 5)), share)}"


def pale(colours: str | Sequence[str]) -> dict[str, Any]:
    """The look of bars, outlined and pale inside, in which error bars are seen; in one colour, or in one for each."""
    inside = faded(colours, 0.3) if isinstance(colours, str) else [faded(colour, 0.3) for colour in colours]
    return {"color": inside, "line": {"color": colours, "width": 1.5}}


def band(figure: go.Figure, x: Places, low: Ends, high: Ends, *, colour: str | None = None, **look: Any) -> None:
    """A filled band from `low` to `high`, to be added before the lines that are to lie upon it.

    It is of the colour of its line, which shines through, or grey, and has the `look` of plotly's scatter.
    """
    fill = {"fillcolor": VEIL} if colour is None else {"fillcolor": colour, "opacity": 0.2}
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        mode="lines",
        line={"width": 0},
        fill="toself",
        hoverinfo="skip",
        **{**fill, "showlegend": False, **look},
    )


def level(figure: go.Figure, value: float, low: float, high: float, **where: Any) -> None:
    """Draw the level that all else is compared with, in a `row` and `col`: a dashed line on a band, its interval."""
    figure.add_hrect(low, high, fillcolor=VEIL, line_width=0, opacity=0.5, layer="below", **where)
    figure.add_hline(value, line={"color": INK, "width": 1.5, "dash": "dash"}, **where)


def number(value: float, decimals: int, sign: str = "") -> str:
    """A rounded number, never minus zero; with `sign="+"` one above zero has its sign, too."""
    return f"{round(float(value), decimals) + 0.0:{sign}.{decimals}f}"


def cells(z: Float[np.ndarray, "row column"], **look: Any) -> go.Heatmap:
    """A map with its rows and columns at 0, 1, 2 ... and its cells a pixel apart.

    Args:
        z: The numbers; NaN leaves a cell empty.
        **look: Options of plotly's heatmap.
    """
    rows, columns = z.shape
    return go.Heatmap(**{"z": z, "x": np.arange(columns), "y": np.arange(rows), "xgap": 1, "ygap": 1, **look})


def write_cells(figure: go.Figure, texts: Sequence[str]) -> None:
    """Write into the cells of the heatmap that a figure was given last; cells without a value stay empty.

    Each cell gets light or dark letters, whichever have the higher contrast with its colour (by WCAG 2's formula).

    Args:
        figure: Changed in place.
        texts: In the order of a nested loop over rows and columns.
    """
    drawn = figure.data[-1]
    ends, colours = zip(*drawn.colorscale, strict=True)
    scale = np.array(convert_colors_to_same_type(list(colours), "tuple")[0])
    values = np.asarray(drawn.z, dtype=np.float64)
    places = (values - drawn.zmin) / (drawn.zmax - drawn.zmin)
    light = _luminance(np.stack([np.interp(places, ends, channel) for channel in scale.T], axis=-1))
    numbers = [
        go.layout.Annotation(
            x=drawn.x[column],
            y=drawn.y[row],
            xref=drawn.xaxis or "x",
            yref=drawn.yaxis or "y",
            text=text,
            showarrow=False,
            name="number",
            font={"size": 11, "color": DARK if light[row, column] > _HALFWAY else LIGHT},
        )
        for (row, column), text in zip(np.ndindex(values.shape), texts, strict=True)
        if np.isfinite(values[row, column])
    ]
    figure.layout.annotations += tuple(numbers)  # at once: each call of add_annotation copies all that are there


def _luminance(rgb: Float[np.ndarray, "*place 3"]) -> Float[np.ndarray, "*place"]:
    """Relative luminance of sRGB colours, from 0 to 1 (WCAG 2)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def mark_cells(
    figure: go.Figure, marked: Bool[np.ndarray, "row column"], name: str, *, downwards: bool = False
) -> None:
    """A dot in the upper right corner of some cells of a heatmap whose rows and columns are at 0, 1, 2 ...

    Args:
        figure: Changed in place.
        marked: Which cells.
        name: What the dots say.
        downwards: Whether the first row is the uppermost.
    """
    rows, columns = np.nonzero(marked)
    figure.add_scatter(
        x=columns + 0.4,
        y=rows + (-0.32 if downwards else 0.32),
        xaxis=figure.data[-1].xaxis,
        yaxis=figure.data[-1].yaxis,
        mode="markers",
        marker={"size": 5 if marked.shape[1] <= 64 else 3, "color": DARK, "line": {"width": 1, "color": LIGHT}},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
        name=name,
    )


LONGEST_NAME = 40
"""Characters of a name in a legend or on an axis; plotly draws nothing where they take the whole figure."""


def plain(text: object, longest: int | None = None) -> str:
    """Text from outside as plotly must be given it to show it letter by letter.

    Plotly reads a subset of HTML in titles, labels and hovers, and places of numbers in templates of hovers; here
    their special characters are written as entities. Marks that turn round the order of letters are left out.

    Args:
        text: Anything with a `str`.
        longest: Characters kept; a longer text ends in an ellipsis. None keeps all.
    """
    words = " ".join(in_order(str(text)).split())
    if longest is not None and len(words) > longest:
        words = words[: longest - 1].rstrip() + "…"
    return html.escape(words, quote=False).replace("%{", "&#37;{")


def ends(low: float, high: float, decimals: int, sign: str = "", unit: str = "", confidence: float = 0.95) -> str:
    """An interval in words, or that there is none.

    Args:
        low: Lower end; NaN where there is no interval.
        high: Upper end.
        decimals: Of the ends.
        sign: As `number` takes it.
        unit: Behind them.
        confidence: Level of the interval.
    """
    if math.isnan(low):
        return "no interval"
    return with_unit(
        f"{100 * confidence:g}% interval {number(low, decimals, sign)} to {number(high, decimals, sign)}", unit
    )


def with_unit(text: str, unit: str) -> str:
    """A number with its unit, between them a space unless it is a percent sign."""
    return f"{text}{unit if unit == '%' else f' {unit}'}".rstrip()


TITLE_LETTERS, NOTE_LETTERS = 66, 100
"""Letters of a title and of the note below it that fit a figure 720 pixels wide."""
SOFT = " <br>"
"""A break that is there for want of room."""


def layer_ticks(layers: Sequence[int], at_most: int = 17) -> list[int]:
    """The layers to label: all of them if there are few, else every so many."""
    return list(layers)[:: max(1, math.ceil(len(layers) / at_most))]


def titled(title: str, note: str | None = None) -> dict[str, Any]:
    """A title with what the figure rests on (sample size, what a band means) below it; lines fit 720 pixels."""
    text = _wrapped(title, TITLE_LETTERS)
    return {"text": text} if note is None else {"text": text, "subtitle": {"text": _wrapped(note, NOTE_LETTERS)}}


def laid_out(figure: go.Figure, title: str, note: str | None = None, **layout: Any) -> go.Figure:
    """Give a figure the look of all, its title and note (`titled`) with room for their lines, and options of its own.

    Args:
        figure: Changed, and returned.
        title: The first lines.
        note: What stands below it.
        **layout: Of plotly; of its margins, `t` is the least on top, more where the lines need more.
    """
    made, margin = titled(title, note), layout.pop("margin", {})
    room = {"margin": {**margin, "t": max(margin.get("t", 0), head_room(made, panel_lines(figure)))}}
    figure.update_layout(template=TEMPLATE, title=made, **room, **layout)
    return figure


def panel_lines(figure: go.Figure) -> int:
    """Count the lines that the titles of panels take above the uppermost of them."""
    layout: Any = figure.layout
    above = [
        note.text.count("<br>") + 1
        for note in layout.annotations
        if note.yref == "paper" and note.yanchor == "bottom" and note.y is not None and note.y > 0.99
    ]
    return max(above, default=0)


def head_room(title: dict[str, Any], panels: int = 0) -> int:
    """Count the pixels that a title and its note need above a figure, by their lines; at least the usual ones.

    Args:
        title: As `titled` gives it.
        panels: Lines of the titles of panels, which stand between.
    """
    lines = title["text"].count("<br>") + 1
    notes = title["subtitle"]["text"].count("<br>") + 1 if "subtitle" in title else 0
    return max(76, 36 * lines + 34 * notes - 4) + 22 * panels  # plotly centres the first line


def _wrapped(text: str, letters: int) -> str:
    """Text in lines of at most so many letters; entities and markup stay whole, and a break of ours follows a space."""
    wrapped = []
    for line in text.split("<br>"):
        lines: list[list[str]] = [[]]
        for word in re.findall(r"(?:<[^>]*>|[^\s<]|<)+", line):
            written = html.unescape(re.sub(r"<[^>]*>", "", " ".join([*lines[-1], word])))
            if lines[-1] and len(written) > letters:
                lines.append([])
            lines[-1].append(word)
        wrapped.append(SOFT.join(" ".join(words) for words in lines))
    return "<br>".join(wrapped)


def of_words(result: Result) -> str:
    """The words that a figure's numbers are of, such as `, of 'dog' against 'cat'`; nothing for letters."""
    return against([names for names in target_names(result.provenance.settings) if names is not None])


def against(names: Sequence[tuple[str, str]]) -> str:
    """Targets and foils of all questions in words: those that they share, or that each has its own."""
    if not names:
        return ""
    if len(set(names)) > 1 or names[0] == ("target", "foil"):
        return ", of each question's target"
    target, foil = names[0]
    return plain(f", of {target!r} against {foil if foil == ANYTHING_ELSE else repr(foil)}")


def two_sided(low: float, high: float, centre: float, reach: float = 0.0) -> dict[str, Any]:
    """The two-sided colours that values from `low` to `high` need: white at `centre`, as strong to either side.

    Args:
        low: The smallest value.
        high: The largest.
        centre: Where there is no effect.
        reach: Distance from the centre at which colours are full, if values do not go as far (`full_colour`).

    Returns:
        `colorscale`, `zmin` and `zmax` of a heatmap; the scale ends where the values do.
    """
    low, high = min(low, centre), max(high, centre)
    reach = max(high - centre, centre - low, reach) or 1.0
    if low == high:
        low, high = low - reach, high + reach
    places = np.linspace(low - centre, high - centre, 101) / (2 * reach) + 0.5
    return {"colorscale": sample_colorscale(DIVERGING, np.clip(places, 0, 1)), "zmin": low, "zmax": high}


def full_colour(effects: Any, low: Any = None, high: Any = None) -> float:
    """Return how far from no effect two-sided colours are full: as far as the largest effect, or more if it is unsure.

    No effect whose interval reaches to none has more than half a colour: what chance makes is pale.

    Args:
        effects: Array of effects; NaN where there is none.
        low: Array of the lower ends of their intervals; NaN where there is none.
        high: The upper ends.
    """
    effects = np.asarray(effects, dtype=np.float64)
    largest = float(np.nanmax(np.abs(effects)))
    if low is None or high is None:
        return largest or 1.0
    towards_none = np.where(effects > 0, effects - np.asarray(low), np.asarray(high) - effects)
    strong = np.abs(effects) > largest / 2  # all others have half a colour as it is
    return max(largest, 2 * float(np.max(towards_none, where=strong & np.isfinite(towards_none), initial=0.0))) or 1.0


def bare_axis(title: str | None = None, **look: Any) -> dict[str, Any]:
    """An axis without grid and without a line at zero, as those of maps are.

    Args:
        title: What stands beside it; None leaves the title as it is.
        **look: Options of plotly's axes.
    """
    named = {} if title is None else {"title": {"text": title}}
    return {**named, "showgrid": False, "zeroline": False, **look}


def label_axis(name: str, labels: Sequence[str], at_most: int = 17) -> dict[str, Any]:
    """An axis with a label per row or column, at 0, 1, 2 ...; of many, every so many."""
    step = max(1, -(-len(labels) // at_most))
    return bare_axis(
        plain(name),
        tickvals=list(range(len(labels)))[::step],
        ticktext=[plain(label, 16) for label in labels[::step]],
        range=[-0.5, len(labels) - 0.5],
    )
