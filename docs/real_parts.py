"""The tables of docs/model_of_real_parts.md, made from what recipes/small/questions.py wrote; the prose stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mechaudio.metrics import holm

ANSWERS = Path(__file__).parent.parent / "recipes" / "small" / "asked"
"""A JSON file for each seed, and one for the tiny model."""
NAMES = {"seed_2": "seed 2, shipped", "seed_0": "seed 0", "seed_1": "seed 1", "tiny": "tiny"}

Told = dict[str, dict[str, Any]]
Rows = Iterable[tuple[str, Callable[[dict[str, Any]], str]]]


def answers() -> Told:
    """Read the answers of each model, by its name in the tables."""
    found = {name: ANSWERS / f"{file}.json" for file, name in NAMES.items()}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in found.items() if file.exists()}


def tables(told: Told) -> dict[str, list[str]]:
    """The lines of every table, by the name of its marks."""
    return {
        "rows": _rows(told),
        "layers": _layers(told),
        "sides": _sides(told),
        "conflict": _conflict(told),
        "cuts": _cuts(told),
        "uniform": _uniform(told),
        "strengths": _strengths(told),
        "heads": _heads(told),
        "steering": _steering(told),
        "mata": _mata(told),
        "patching": _patching(told),
        "asked": _asked(told),
    }


def _table(told: Told, first: str, rows: Rows) -> list[str]:
    """A row for each name and function of a model's answers, a column for each model."""
    lines = [f"| {first} | {' | '.join(told)} |", "|---" * (len(told) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(cell(model) for model in told.values())} |" for name, cell in rows]


def _only(rows: list[dict[str, Any]], /, **wanted: Any) -> dict[str, Any] | None:
    """The row in which all this holds; None where there is none."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def _sure(text: str, row: dict[str, Any]) -> str:
    """In bold where the corrected p value is below 0.05."""
    return f"**{text}**" if row["p_holm"] < 0.05 else text


def _points(row: dict[str, Any]) -> str:
    """A change of right answers in points, with its interval."""
    if row["low"] is None:
        return f"{100 * row['change']:+.1f}"
    change, low, high = (round(100 * row[name], 1) + 0.0 for name in ("change", "low", "high"))
    return f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"


def _listening(model: dict[str, Any]) -> str:
    return "+".join(model["listens"]["rows"]) or "choices"


def _rows(told: Told) -> list[str]:
    """What each edge of the prompt carries, cut in all layers."""

    def cell(edge: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(model["listens"]["cuts"], edge=edge, scope="all layers")
            if row is None:
                return "-"
            return _sure(f"{_interval(row['change'], row['low'], row['high'])}, {row['broken']} broken", row)

        return of

    edges = ["audio → behind", "audio → choices", "audio → question", "audio → keyword", "audio → template"]
    edges += ["audio → last", "question → last", "choices → last", "template → last"]
    whole = [("right as it is", lambda model: _count(model["listens"]["clean"]))]
    named = [("rows that listen", _listening)]
    return _table(told, "without", [*whole, *((edge, cell(edge)) for edge in edges), *named])


def _count(row: dict[str, Any]) -> str:
    return f"{row['right']} of {row['n']} ({100 * row['low']:.0f}-{100 * row['high']:.0f})"


def _layers(told: Told) -> list[str]:
    """In which windows, and in which single layers, the rows that listen need the sound."""

    def places(model: dict[str, Any], edge: str, scope: str) -> str:
        sure = [
            row
            for row in model["listens"]["cuts"]
            if row["edge"] == edge and row["scope"] == scope and row["p_holm"] < 0.05 and row["change"] < 0
        ]
        named = (f"{row['first']}-{row['last']}" if row["first"] < row["last"] else row["first"] for row in sure)
        return ", ".join(f"{name} ({row['change']:+.2f})" for name, row in zip(named, sure, strict=True)) or "none"

    def heard(scope: str) -> Callable[[dict[str, Any]], str]:
        return lambda model: places(model, f"audio → {_listening(model)}", scope)

    def handed_on(scope: str) -> Callable[[dict[str, Any]], str]:
        return lambda model: "-" if _listening(model) == "last" else places(model, f"{_listening(model)} → last", scope)

    rows = [("layers", lambda model: str(_depth(model)))]
    rows += [("windows: audio → rows that listen", heard("window")), ("single layers", heard("layer"))]
    rows += [("windows: rows that listen → last", handed_on("window")), ("single layers", handed_on("layer"))]
    return _table(told, "p < .05 after correction", rows)


def _depth(model: dict[str, Any]) -> int:
    return 1 + max(row["last"] for row in model["listens"]["cuts"])


TASKS = {"earliest_onset": "onset", "latest_offset": "offset", "longest_duration": "duration", "all": "all"}


def _sides(told: Told) -> list[str]:
    """Right answers by condition and task, then what is followed in a conflict."""

    def of_condition(noise: str, condition: str, task: str) -> Callable[[dict[str, Any]], str]:
        return lambda model: _count(
            _only(model["sides"]["conditions"], noise=noise, condition=condition, task=task) or {}
        )

    def of_conflict(noise: str, task: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(model["sides"]["conflict"], noise=noise, variant="as it is", task=task) or {}
            return f"{row['sound']} / {row['caption']} of {row['n']}"

        return of

    rows = [
        (f"{noise}, {condition}", of_condition(noise, condition, "all"))
        for noise in ("quiet", "noisy")
        for condition in ("audio", "silence", "caption", "audio+caption")
    ]
    rows += [
        (f"{noise}, conflict about {name}: sound / caption", of_conflict(noise, task))
        for noise in ("quiet", "noisy")
        for task, name in TASKS.items()
    ]
    return _table(told, "", rows)


def _conflict(told: Told) -> list[str]:
    """What is followed in a conflict once attention is changed."""
    changes = {"sound x 2": "sound × 2", "sound x 0.5": "sound × 0.5", "sound + 1": "sound + 1"}
    changes |= {"no sound": "no sound", "no caption": "no caption"}

    def cell(change: str, at: str | None) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            variant = "as it is" if not change else f"{change} at {at or _listening(model)}"
            row = _only(model["sides"]["conflict"], noise="noisy", variant=variant, task="all") or {}
            told = f"{row['sound']} / {row['caption']}"
            return _sure(told, row) if change else f"{told} of {row['n']}"

        return of

    rows = [("as it is", cell("", None))]
    for at, name in (("last", "the last row"), ("keyword", "the keyword"), (None, "the rows that listen")):
        rows += [(f"{shown} at {name}", cell(change, at)) for change, shown in changes.items()]
    return _table(told, "sound / caption, noisy", rows)


def _cuts(told: Told) -> list[str]:
    """Right answers with the sound hidden from rows."""

    def cell(rows: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(model["attention"]["cuts"], rows=rows)
            return "-" if row is None else _sure(f"{row['before']} → {row['after']} of {row['n']}", row)

        return of

    names = ["last", "keyword", "keyword+last", "question", "choices", "keyword+choices"]
    return _table(told, "sound hidden from", [(name, cell(name)) for name in names])


def _uniform(told: Told) -> list[str]:
    """Every strength in all layers, at the last row, the question and the choices, on all questions."""

    def cell(kind: str, strength: float, rows: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(model["attention"]["all layers"], kind=kind, strength=strength, rows=rows) or {}
            return _sure(_points(row), row)

        return of

    signs = {"scaling": "×", "upweighting": "+"}
    arms = [("scaling", factor) for factor in (0.5, 0.8, 1.25, 2.0)] + [("upweighting", b) for b in (0.5, 1.0, 2.0)]
    rows = [
        (f"{signs[kind]} {strength:g}, {name}", cell(kind, strength, name))
        for name in ("last", "question", "choices")
        for kind, strength in arms
    ]
    return _table(told, "change in points", rows)


def _strengths(told: Told) -> list[str]:
    """The best of each kind at each set of rows, on the half that reports."""

    def cell(kind: str, rows: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(model["attention"]["chosen"], kind=kind, rows=rows)
            if row is None:
                return "-"
            first, _, last = row["layers"].partition("-")
            where = f"layer {first}" if first == last else "all layers" if first == "all" else f"layers {first}-{last}"
            return f"{_sure(_points(row), row)}<br>{row['strength']:g}, {where}"

        return of

    kinds = {"scaling": "scaling", "scaling, mass kept": "mass kept", "upweighting": "upweighting"}
    kinds |= {"scaling of the question's keys": "question's keys scaled"}
    names = ["last", "keyword", "keyword+last", "question", "choices", "keyword+choices"]
    rows = [(f"{shown}, {name}", cell(kind, name)) for kind, shown in kinds.items() for name in names]

    def against(place: int) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = model["attention"]["scaling against upweighting"][place]
            return _sure(_points(row), row)

        return of

    rows += [("scaling against upweighting, rows chosen too", against(0))]
    rows += [("scaling against upweighting, rows that listen", against(1))]
    return _table(told, "change in points: strength, layers", rows)


def _interval(value: float | None, low: float | None, high: float | None, form: str = "+.2f") -> str:
    if value is None or low is None or high is None:
        return "-" if value is None else format(value, form)
    value, low, high = (round(number, 2) + 0.0 for number in (value, low, high))  # no minus before a zero
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _area(area: dict[str, Any] | None) -> str:
    return "-" if area is None else _interval(area["value"], area["low"], area["high"], ".2f")


def _at_both(told: Told, first: str, rows: Callable[[Callable[[dict[str, Any]], dict[str, Any]]], Rows]) -> list[str]:
    """A table of what was found at the last row, and one of what was found at the rows that listen."""

    def last(model: dict[str, Any]) -> dict[str, Any]:
        return model["specialists"]["last"]

    def listening(model: dict[str, Any]) -> dict[str, Any]:
        return model["specialists"][_listening(model)]

    lines = ["At the last row:", "", *_table(told, first, rows(last))]
    return [*lines, "", "At the rows that listen:", "", *_table(told, first, rows(listening))]


def _heads(told: Told) -> list[str]:
    """Correlation, the held-out half, and what cutting does."""
    return _at_both(told, "", _heads_at)


def _heads_at(found: Callable[[dict[str, Any]], dict[str, Any]]) -> Rows:
    def cut(heads: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(found(model)["cut"], heads=heads) or {}
            margin = _interval(row["margin, mean"], row["margin, low"], row["margin, high"])
            moved = f"{row['answers changed']} of {row['n']} change, {row['fixed']} fixed, {row['broken']} broken"
            return f"{moved}; margin {margin}"

        return of

    def random(model: dict[str, Any]) -> str:
        row = _only(found(model)["cut"], heads=SAME) or {}
        moved = f"{row['answers changed, mean']:.1f} change in the mean, {row['answers changed, most']} at most"
        p = _beside_random(model)[found(model)["rows"], "cut"]
        return f"{moved}; margin {row['margin, mean']:+.2f}; p = {p:.2f}"

    def beside(name: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            p = _beside_random(model)[found(model)["rows"], name]
            return f"{found(model)[f'{name}, mean area']:.2f}; p = {p:.2f}"

        return of

    return [
        ("heads whose attention goes with right answers", lambda model: _share_of_heads(found(model))),
        ("area of the score, other half", lambda model: _area(found(model)["area"])),
        ("the same within tasks", lambda model: _area(found(model)["area within tasks"])),
        ("random heads", beside("random heads")),
        (SAME, beside(SAME)),
        ("where the sound changes the answer", lambda model: _area(found(model)["area, sound changes the answer"])),
        ("sound cut from the specialists", cut("specialists")),
        ("from " + SAME, random),
        ("from all heads", cut("all heads")),
    ]


SAME = "random heads of the same layers"


def _beside_random(model: dict[str, Any]) -> dict[tuple[str, str], float]:
    """P values beside random heads, of scores and of cuts, each corrected over a model's rows and kinds of control."""
    scores, cuts = {}, {}
    for rows, found in model["specialists"].items():
        scores |= {(rows, name): found[f"{name}, p"] for name in ("random heads", SAME)}
        cuts[rows, "cut"] = (_only(found["cut"], heads=SAME) or {})["p"]
    families = (zip(p, holm(list(p.values())).tolist(), strict=True) for p in (scores, cuts))
    return {name: p for family in families for name, p in family}


def _share_of_heads(found: dict[str, Any]) -> str:
    return f"{found['heads with q < 0.05']} of {found['heads']} (K = {found['k']})"


def _steering(told: Told) -> list[str]:
    """Steering from silence to the sound, and its gain over what is at random."""
    return _at_both(told, "change in points", _steering_at)


def _steering_at(found: Callable[[dict[str, Any]], dict[str, Any]]) -> Rows:
    def cell(kind: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(found(model)["steering"], kind=kind) or {}
            return _sure(_points(row), row)

        return of

    def gain(kind: str, control: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(found(model)["steering against controls"], kind=kind, control=control) or {}
            return _sure(_points(row | {"change": row["gain"]}), row)

        return of

    kinds, controls = ("layer-guided", "head by head"), ("random heads", "random direction", "another question")
    rows = [(kind, cell(kind)) for kind in (*kinds, "single layer")]
    return rows + [(f"{kind}, more than {control}", gain(kind, control)) for kind in kinds for control in controls]


def _mata(told: Told) -> list[str]:
    """MATA in its readings and with everything chosen, at each set of rows."""

    def cell(what: str, at: str | None) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            row = _only(model["mata"]["settings"], rows=at or _listening(model), what=what) or {}
            return _sure(f"{_points(row)}, {row['fixed']} fixed, {row['broken']} broken", row)

        return of

    whats = {"published, multiplicative": "as published", "published, additive": "as published, additive"}
    whats |= {"published, pai": "as published, on magnitudes", "layers chosen": "layers chosen"}
    whats |= {"layers, strength and reading chosen": "all chosen"}
    rows = [
        (f"{shown}, {name}", cell(what, at))
        for at, name in (("last", "last"), ("keyword", "keyword"), (None, "rows that listen"))
        for what, shown in whats.items()
    ]
    return _table(told, "change in points", rows)


def _patching(told: Told) -> list[str]:
    """The effect of each role's states by depth: where it is most, and from where to where it is half."""

    def cell(role: str) -> Callable[[dict[str, Any]], str]:
        def of(model: dict[str, Any]) -> str:
            rows = [row for row in model["patching"]["places"] if row["role"] == role]
            if not rows:
                return "-"
            most = max(rows, key=lambda row: row["effect"])
            half = [row["layer"] for row in rows if row["effect"] >= 0.5]
            at = f"{_interval(most['effect'], most['low'], most['high'], '.2f')} in layer {most['layer']}"
            return at + (f"; half or more in {half[0]}-{half[-1]}" if half else "; never half")

        return of

    roles = ("audio", "question", "choices", "template", "last")
    return _table(told, "states in front of a layer", [(role, cell(role)) for role in roles])


def _asked(told: Told) -> list[str]:
    """How many questions, where, and how long it took."""
    sections = ("listens", "sides", "attention", "specialists", "mata", "patching")
    rows: Rows = [
        *((name, lambda m, name=name: f"{m['questions'][name]} ({m['seconds'][name]:.0f} s)") for name in sections),
        ("machine, torch", lambda m: f"{m['device']}, {m['torch']}"),
    ]
    return _table(told, "questions (time)", rows)
