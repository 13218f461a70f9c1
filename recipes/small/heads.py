"""Heads whose attention goes with right answers: correlation, and what cutting what they look at does."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from asking import NOISY, Asked, Rows, change, mean_change, rounded, share, told_change

import mechaudio as ma

RANDOM_SETS = 20
"""Sets of random heads whose attention is cut; of their scores there are ten times as many."""


def specialists(asked: Asked) -> dict[str, Any]:
    """Heads at the last row and at those that listen: do they tell right from wrong, and what does cutting them do?"""
    questions = asked.questions("specialists", noise=NOISY)
    return {rows: _specialists_at(asked, questions, rows) for rows in dict.fromkeys(("last", asked.listening))}


def _specialists_at(asked: Asked, questions: Sequence[ma.AudioQuestion], rows: str) -> dict[str, Any]:
    most = int(0.5 * asked.model.n_layers * asked.model.n_heads)
    settings = ma.experiments.SpecialistsSettings(ks=(min(20, most), min(10, most // 2)), queries=rows)
    study = ma.experiments.specialists_study(asked.model, questions, settings=settings, progress=False)
    scores, score, held = study.scores, study.score, ~study.chooses
    same_layers = _random_sets(scores, score.heads, 10 * RANDOM_SETS)
    areas = [_area(study, heads) for heads in same_layers]
    sound = score.listening()
    told = {
        "rows": rows,
        "heads": int(scores.varies.sum()),
        "heads with q < 0.05": int((scores.q < 0.05).sum()),
        "choose": int(study.chooses.sum()),
        "report": int(held.sum()),
        "k": study.k,
        "strongest": [[int(layer), int(head), rounded(scores.r[layer, head])] for layer, head in score.heads[:5]],
        "area": _auc(score.auc),
        "area within tasks": _auc(study.auc_within_tasks),
        "area, sound changes the answer": _auc(sound.everywhere),
        "area, the same among right answers": _auc(sound.within_right),
        "random heads, mean area": rounded(float(np.mean(score.random_auc))),
        "random heads, p": rounded(score.p_random),
        "random heads of the same layers, mean area": rounded(float(np.mean(areas))),
        "random heads of the same layers, p": rounded(
            (1 + sum(a >= score.auc.value for a in areas)) / (1 + len(areas))
        ),
        "with silence": share(study.silent.correct),
        "with sound": share(study.heard.correct),
    }
    told["cut"] = _cut_heads(asked, questions, study, same_layers[:RANDOM_SETS], rows)
    told["steering"] = [
        {"kind": choice.arm.kind, "arm": str(choice.arm)}
        | told_change(choice.held_out)
        | {"p_holm": rounded(choice.p_holm)}
        for choice in study.steering.choices
    ]
    told["steering against controls"] = [
        {"kind": each.kind, "control": each.control, "gain": rounded(each.gain.value)}
        | {"low": rounded(each.gain.low), "high": rounded(each.gain.high), "p_holm": rounded(each.p_holm)}
        for each in study.steering.against_controls
    ]
    return told


def _auc(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "value": rounded(found.value),
        "low": rounded(found.low),
        "high": rounded(found.high),
        "p": rounded(found.p),
    }


def _random_sets(scores: Any, heads: Sequence[tuple[int, int]], draws: int) -> list[list[tuple[int, int]]]:
    """Sets of heads with as many in each layer as `heads`, drawn from all heads that vary there."""
    rng = np.random.default_rng(0)
    layers, counts = np.unique([layer for layer, _ in heads], return_counts=True)
    return [
        [
            (int(layer), int(head))
            for layer, count in zip(layers, counts, strict=True)
            for head in rng.choice(np.flatnonzero(scores.varies[layer]), count, replace=False)
        ]
        for _ in range(draws)
    ]


def _area(study: Any, heads: Sequence[tuple[int, int]]) -> float:
    """How well the score of these heads, each weighted by its own correlation, tells right from wrong."""
    layers, places = np.transpose(heads)
    held = ~study.chooses
    values = study.heard.audio_attention[held][:, layers, places] @ study.scores.r[layers, places]
    right = study.heard.correct[held]
    return float(ma.metrics.roc_auc(values, right).value)


def _cut_heads(asked: Asked, questions: Sequence[ma.AudioQuestion], study: Any, random: list, rows: str) -> Rows:
    """Cut what the specialists look at, and what random heads of the same layers do, on the half that reports."""
    reporting = [question for question, own in zip(questions, ~study.chooses, strict=True) if own]
    every = [(layer, head) for layer, head in np.argwhere(study.scores.varies).tolist()]
    sets = [list(study.score.heads), every, *random]
    variants = [_without_sound(heads, rows) for heads in sets]
    found = ma.evaluate(asked.model, reporting, variants=variants, progress=False)
    clean = found.clean.correct
    falls = found.margin.mean(1) - found.clean.margin.mean()
    moved = (found.chosen != found.clean.chosen).sum(1)
    told = []
    for place, name in enumerate(("specialists", "all heads")):
        row = {"heads": name, "k": len(sets[place]), "answers changed": int(moved[place])}
        row |= change(clean, found.correct[place])
        row |= {f"margin, {key}": value for key, value in mean_change(found.margin[place] - found.clean.margin).items()}
        told.append(row)
    row = {"heads": "random heads of the same layers", "k": len(sets[0]), "sets": len(random), "n": len(clean)}
    row |= {"answers changed, mean": rounded(moved[2:].mean()), "answers changed, most": int(moved[2:].max())}
    row |= {"margin, mean": rounded(falls[2:].mean()), "margin, least": rounded(falls[2:].min())}
    row["p"] = rounded((1 + (falls[2:] <= falls[0]).sum()) / (1 + len(random)))
    return [*told, row]


def _without_sound(heads: Iterable[tuple[int, int]], rows: str) -> list[Any]:
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    return [ma.KnockOutAttention(layers=layer, heads=own, queries=rows) for layer, own in sorted(by_layer.items())]
