"""Sums up opened arms, `python -m recipes.timeaudio.summary OPENED.json`, and draws how answers follow clocks.

Numbers of one network are medians or means over clips; of an arm, means over seeds with Student's 95% interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mechaudio.viz.theme import CYCLE, LEGEND_BELOW, TEMPLATE, titled
from recipes.timeaudio.score import over_seeds

#: Seconds that a clock is moved by where its slope is taken: clocks that disagree by more break the look-up itself.
NEAR = 3.1
#: Logits that a moved clock has to move the digit of tens by, for shares of it to mean anything.
LEAST = 1.0
#: What is patched of the run in which a clock is moved (`look.Look.heads`).
PATCHED = ("z at all rows", "z at the row that writes", "straight to the logits", "through no other head", "k", "v")
CLOCKS = {
    "sound": "the sound (both clocks)",
    "time": "the encoding of time alone",
    "place": "places in the prompt alone",
}


def moves(network: dict[str, Any], clock: str, window: float) -> tuple[np.ndarray, np.ndarray]:
    """Return doses in seconds, and how far the answers that were right moved: `[dose, clip]`, NaN without a time."""
    doses = network["doses"]
    every = np.array([[np.nan if move is None else move for move in of] for of in doses[clock]], dtype=float)
    return np.array(doses["windows"]) * window, every[:, np.array(doses["right"], dtype=bool)]


def slopes(network: dict[str, Any], clock: str, window: float) -> np.ndarray:
    """Return, per clip, the seconds that the answer moves for each that a clock is moved by, near where it stands."""
    seconds, moved = moves(network, clock, window)
    near = np.abs(seconds) < NEAR
    moved, dose = moved[near], seconds[near][:, None]
    there = ~np.isnan(moved)
    whole = there.all(0)
    return (dose * np.where(there, moved, 0)).sum(0)[whole] / (dose**2).sum()


def followed(opened: dict[str, Any], of: str = "doses") -> dict[str, dict[str, dict[str, Any]]]:
    """Per arm and clock, the median slope of every seed, with an interval over seeds; `of` merged scenes: `merged`."""
    arms: dict[str, dict[str, list[float]]] = {}
    for network in opened["networks"]:
        doses = network.get(of, {})
        for clock in CLOCKS:
            if clock in doses and sum(doses["right"]) > 1:
                values = slopes({"doses": doses}, clock, opened["settings"]["window"])
                of_arm = arms.setdefault(network["arm"], {})
                of_arm.setdefault(clock, []).append(float(np.median(values)))
    return {arm: {clock: over_seeds(values) for clock, values in of.items()} for arm, of in arms.items()}


def of_arm(opened: dict[str, Any], arm: str) -> list[dict[str, Any]]:
    """The networks of an arm, one per seed."""
    return [network for network in opened["networks"] if network["arm"] == arm]


def dose_response(networks: Sequence[dict[str, Any]], window: float, title: str) -> go.Figure:
    """Draw how far answers move when clocks are moved: medians over clips, of every network and in the mean.

    Args:
        networks: What was measured of one arm, a network per seed.
        window: Seconds of a window.
        title: Title of the figure.
    """
    figure = go.Figure()
    clocks = [clock for clock in CLOCKS if clock in networks[0]["doses"]]
    furthest = 0.0
    for clock, colour in zip(clocks, CYCLE, strict=False):
        medians = []
        for network in networks:
            seconds, moved = moves(network, clock, window)
            medians.append(np.nanmedian(moved, axis=1))
            _add(figure, seconds, medians[-1], clock, colour, network["seed"])
        furthest = float(np.abs(seconds).max())
        _add(figure, seconds, np.mean(medians, axis=0), clock, colour, None)
    ends = [-furthest, furthest]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "#8c8c8c", "width": 1}, name="followed in full"
    )
    n = len(networks)
    figure.update_layout(
        template=TEMPLATE,
        title=titled(
            title, f"medians over clips; thin: {n} seeds, thick: their mean" if n > 1 else "median over clips"
        ),
        xaxis={"title": {"text": "a clock is moved by (s)"}},
        yaxis={"title": {"text": "the answer moves by (s)"}},
        legend=LEGEND_BELOW,
        height=460,
        margin={"b": 110},
    )
    return figure


def _add(figure: go.Figure, seconds: np.ndarray, moved: np.ndarray, clock: str, colour: str, seed: int | None) -> None:
    """Draw a line through the origin: faint for a seed, strong for their mean."""
    at, who = len(seconds) // 2, "mean" if seed is None else f"seed {seed}"
    figure.add_scatter(
        x=np.insert(seconds, at, 0.0),
        y=np.insert(moved, at, 0.0),
        mode="lines",
        line={"color": colour, "width": 3 if seed is None else 1},
        opacity=1.0 if seed is None else 0.5,
        name=CLOCKS[clock],
        showlegend=seed is None,
        hovertemplate=f"{who}: %{{x:.1f}} s, %{{y:.1f}} s<extra>{CLOCKS[clock]}</extra>",
    )


def looks(opened: dict[str, Any], arm: str, rows: str) -> dict[str, Any]:
    """Sum up where the rows of an arm look: of its best head, chosen on other scenes, the share inside the event."""
    networks = [network["attention"][rows] for network in of_arm(opened, arm)]
    return {
        "inside": over_seeds([float(np.mean(each["best_inside"])) for each in networks]),
        "best": [tuple(each["best"]) for each in networks],
        "chance": networks[0]["chance"],
        "other": over_seeds([each["other"][each["best"][0]][each["best"][1]] for each in networks]),
        "other_chance": networks[0]["other_chance"],
    }


def _line(name: str, values: Iterable[str]) -> str:
    return f"| {name} | " + " | ".join(values) + " |"


def _written(each: dict[str, Any]) -> str:
    ends = "" if each["low"] is None else f" ({each['low']:.2f} to {each['high']:.2f})"
    return f"{each['mean']:.2f}{ends}"


def tables(opened: dict[str, Any]) -> str:
    """Lay out slopes, attention, probes and heads in Markdown."""
    lines = []
    for of, scenes in (("doses", "scenes as they are"), ("merged", "merged scenes")):
        lines += [f"| seconds per second, {scenes} | " + " | ".join(CLOCKS) + " |", "|---" * (len(CLOCKS) + 1) + "|"]
        for arm, by_clock in followed(opened, of).items():
            lines.append(_line(arm, (_written(by_clock[clock]) if clock in by_clock else "" for clock in CLOCKS)))
        lines.append("")
    arms = [arm for arm in followed(opened) if "attention" in of_arm(opened, arm)[0]]
    lines += [
        "| best head of each seed | rows | inside the event | chance | another event | chance |",
        "|---" * 6 + "|",
    ]
    for arm in arms:
        for rows in ("before", "onset", "end"):
            looked = looks(opened, arm, rows)
            cells = (
                rows,
                _written(looked["inside"]),
                f"{looked['chance']:.3f}",
                _written(looked["other"]),
                f"{looked['other_chance']:.3f}",
            )
            lines.append(_line(f"{arm} {looked['best']}", cells))
    lines += ["", "| probes | state | R2 | error (s) |", "|---|---|---|---|"]
    for arm in followed(opened):
        probes = [network["probes"] for network in of_arm(opened, arm)]
        for state in probes[0]:
            cells = (_written(over_seeds([each[state][name] for each in probes])) for name in ("r2", "error"))
            lines.append(_line(arm, (state, *cells)))
    lines += ["", "| heads | clock | what | largest share restored, by seed |", "|---|---|---|---|"]
    for arm, (of, scenes) in product(arms, (("heads", ""), ("merged_heads", " of merged scenes"))):
        for clock, name in product(of_arm(opened, arm)[0].get(of, {}), PATCHED):
            measured = [each[of][clock] for each in of_arm(opened, arm) if name in each.get(of, {}).get(clock, {})]
            maps = [np.array(each[name]) for each in measured if each["moved_by"] > LEAST]
            best = [np.unravel_index(each.argmax(), each.shape) for each in maps]
            cells = ", ".join(
                f"{layer}.{head}: {each[layer, head]:.2f}" for (layer, head), each in zip(best, maps, strict=True)
            )
            if measured:
                lines.append(_line(arm, (clock + scenes, name, cells or "the clock is not read")))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.timeaudio.summary", description=__doc__.splitlines()[0])
    parser.add_argument("opened", type=Path, help="what recipes.timeaudio.look wrote")
    print(tables(json.loads(parser.parse_args(arguments).opened.read_text())))


if __name__ == "__main__":
    main()
