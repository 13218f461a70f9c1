"""Scores what the arms answered: `python -m recipes.timeaudio.score OUT/results.json`, on any machine.

Writes `scores.json` beside it and prints its tables. Each run has its scores with intervals over clips; each arm the
mean over seeds with Student's interval over seeds; each part of the method the difference that it makes, seed by seed,
between the arms that differ in it alone.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import t as student

from mechaudio.audio.events import Event
from mechaudio.metrics import grounding, sound_events
from mechaudio.timeaudio import Markers

#: Numbers of a run that arms are compared by.
COMPARED = (
    "mean_iou",
    "best_iou",
    "recall_0.5",
    "recall_0.7",
    "recall_0.9",
    "event_f1",
    "unparsed",
    "onset_error",
    "mean_iou_short",
    "mean_iou_long",
    "mean_iou_one_interval",
    "mean_iou_several",
)


def of_run(run: dict[str, Any], questions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Score the answers of one run."""
    references = [[tuple(pair) for pair in each["intervals"]] for each in questions]
    clips = [each["clip"] for each in questions]
    scores = grounding.evaluate(
        run["answers"],
        references,
        durations=[each["seconds"] for each in questions],
        clips=clips,
        markers=Markers(),  # every arm has them in its vocabulary
    )
    names = list(dict.fromkeys(clips))
    predicted: dict[str, list[Event]] = {name: [] for name in names}
    there: dict[str, list[Event]] = {name: [] for name in names}
    for each, spans, right in zip(questions, scores.spans, references, strict=True):
        predicted[each["clip"]] += [Event(each["class"], *pair) for pair in spans.intervals]
        there[each["clip"]] += [Event(each["class"], *pair) for pair in right]
    events = sound_events.event_f1([predicted[name] for name in names], [there[name] for name in names])
    errors = [error for spans, right in zip(scores.spans, references, strict=True) for error in _onsets(spans, right)]
    ious = np.array(scores.per_question)
    parts: dict[str, Callable[[dict], bool]] = {
        "short": lambda each: each["length"] == "short",
        "long": lambda each: each["length"] == "long",
        "one_interval": lambda each: len(each["intervals"]) == 1,
        "several": lambda each: len(each["intervals"]) > 1,
    }
    subsets = {f"mean_iou_{name}": float(ious[[part(q) for q in questions]].mean()) for name, part in parts.items()}
    return {
        "mean_iou": scores.mean_iou.value,
        "best_iou": scores.best_iou.value,
        **{f"recall_{threshold:g}": each.value for threshold, each in scores.recall.items()},
        "event_f1": events.f1.value,
        "unparsed": scores.unparsed.value,
        "onset_error": float(np.median(errors)) if errors else math.nan,
        "onset_error_mean": float(np.mean(errors)) if errors else math.nan,
        **subsets,
        "with_intervals": {**scores.as_dict(), "event_f1": events.f1.as_dict()},
    }


def _onsets(spans: grounding.Spans, right: Sequence[tuple[float, float]]) -> list[float]:
    """Seconds between onsets, of the pairs whose sum is smallest."""
    if not spans.intervals:
        return []
    apart = np.array([[abs(said[0] - there[0]) for there in right] for said in spans.intervals])
    return apart[linear_sum_assignment(apart)].tolist()


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Give the mean of one number per seed, and Student's 95% interval of it."""
    n = len(values)
    mean, ends = float(np.mean(values)), (None, None)
    if n > 1:
        half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
        ends = mean - half, mean + half
    return {"mean": mean, "low": ends[0], "high": ends[1], "n": n, "values": list(values)}


def _both(scored: dict[tuple[str, int], Any], first: str, second: str) -> set[int]:
    """The seeds that two arms both have."""
    return {seed for arm, seed in scored if arm == first} & {seed for arm, seed in scored if arm == second}


def effects(scored: dict[tuple[str, int], dict[str, Any]], name: str = "mean_iou") -> dict[str, Any]:
    """Compare arms seed by seed: each part of the method within the arms that differ in it alone.

    Each pair of arms is compared in all seeds that both have. All pairs together give a mean per seed, of the pairs
    that this seed has, and an interval over seeds.
    """
    arms = {arm for arm, _ in scored}

    def swapped(arm: str, old: str, new: str) -> str:
        parts = (new if part == old else part for part in arm.split("+"))
        return "+".join(part for part in parts if part)

    def pairs(change: Callable[[str], str]) -> list[tuple[str, str]]:
        return [(arm, change(arm)) for arm in sorted(arms) if change(arm) != arm and change(arm) in arms]

    def compared(of: list[tuple[str, str]]) -> dict[str, Any]:
        by_pair, by_seed = [], {}
        for before, after in of:
            apart = {
                seed: scored[after, seed][name] - scored[before, seed][name]
                for seed in sorted(_both(scored, before, after))
            }
            for seed, difference in apart.items():
                by_seed.setdefault(seed, []).append(difference)
            if apart:
                by_pair.append({"from": before, "to": after, "seeds": list(apart), **over_seeds(list(apart.values()))})
        pooled = over_seeds([float(np.mean(by_seed[seed])) for seed in sorted(by_seed)]) if by_seed else {}
        return {"pairs": by_pair, **pooled}

    changes = {
        "markers against digits": pairs(lambda arm: swapped(arm, "digits", "markers")),
        "words against digits": pairs(lambda arm: swapped(arm, "digits", "words")),
        "time encoding": [(swapped(arm, "encoding", ""), arm) for arm in sorted(arms) if "encoding" in arm],
        "merging by importance": pairs(lambda arm: swapped(arm, "none", "importance")),
        "importance against random": pairs(lambda arm: swapped(arm, "random", "importance")),
        "importance against its constant score": pairs(lambda arm: swapped(arm, "constant", "importance")),
    }
    return {change: compared([pair for pair in of if set(pair) <= arms]) for change, of in changes.items()}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.timeaudio.score", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="results.json, or a folder of questions.json and runs/")
    given = parser.parse_args(arguments)
    results = _read(given.results)
    scored = {(run["arm"], run["seed"]): of_run(run, results["questions"]) for run in results["runs"]}
    by_arm: dict[str, dict[str, Any]] = {}
    for run in results["runs"]:
        arm = by_arm.setdefault(run["arm"], {"audio_tokens": run["audio_tokens"], "tokens": [], "seeds": []})
        arm["tokens"].append(run["right_answer_tokens"])
        arm["seeds"].append(run["seed"])
    for name, arm in by_arm.items():
        arm["answer_tokens"] = float(np.mean(arm.pop("tokens")))
        arm |= {each: over_seeds([scored[name, seed][each] for seed in arm["seeds"]]) for each in COMPARED}
    compared = {each: effects(scored, each) for each in ("mean_iou", "event_f1", "onset_error")}
    record = {
        "arms": by_arm,
        "effects": compared,
        "runs": [{"arm": arm, "seed": seed, **scores} for (arm, seed), scores in scored.items()],
        **{each: results.get(each) for each in ("settings", "sizes", "scenes", "versions")},
    }
    folder = given.results if given.results.is_dir() else given.results.parent
    file = folder / "scores.json"
    file.write_text(json.dumps(record, indent=1))
    print(tables(record))
    print(f"\n{file}")


def _read(path: Path) -> dict[str, Any]:
    """Read what a call of `run` wrote at its end, or put together what one that was stopped left."""
    if path.is_file():
        return json.loads(path.read_text())
    runs = [json.loads(file.read_text()) for file in sorted((path / "runs").glob("*.json"))]
    return {"questions": json.loads((path / "questions.json").read_text()), "runs": runs}


def tables(record: dict[str, Any]) -> str:
    """Lay out the arms, and what each part of the method changes, as tables in Markdown."""
    shown = ("mean_iou", "recall_0.5", "recall_0.7", "recall_0.9", "event_f1", "unparsed", "onset_error")
    lines = ["| arm | " + " | ".join(shown) + " | tokens of 60 s | of an answer |", "|---" * (len(shown) + 3) + "|"]
    for name, arm in record["arms"].items():
        cells = " | ".join(f"{arm[each]['mean']:.3f}" for each in shown)
        lines.append(f"| {name} | {cells} | {arm['audio_tokens']['long']} | {arm['answer_tokens']:.1f} |")
    lines += ["", "| mean IoU | difference | 95% over seeds | by seed |", "|---|---|---|---|"]
    for change, each in record["effects"]["mean_iou"].items():
        for pair in each["pairs"]:
            seeds = ", ".join(f"{value:+.3f}" for value in pair["values"])
            lines.append(
                f"| {change}: {pair['from']} to {pair['to']} | {pair['mean']:+.3f} | {_ends(pair)} | {seeds} |"
            )
        if len(each["pairs"]) > 1:
            seeds = ", ".join(f"{value:+.3f}" for value in each["values"])
            lines.append(f"| {change}, all pairs | {each['mean']:+.3f} | {_ends(each)} | {seeds} |")
    return "\n".join(lines)


def _ends(each: dict[str, Any]) -> str:
    return "one seed" if each["low"] is None else f"{each['low']:+.3f} to {each['high']:+.3f}"


if __name__ == "__main__":
    main()
