"""Variants one below the other: what each makes of the answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.steering_sweep import SteeringSweep
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.evaluation import Comparison
from mechaudio.interventions.sweep_result import Sweep
from mechaudio.labelled import grid_coordinates
from mechaudio.metrics.choices import likeliest
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.estimates import Proportion
from mechaudio.metrics.multiple_choice import accuracy
from mechaudio.metrics.significance import share
from mechaudio.results import as_numpy
from mechaudio.viz.theme import CYCLE, INK, laid_out, plain, whiskers

#: Variants in a figure; of more, those in the middle are left out.
MOST = 60


@checks_arguments
def variant_effects(result: Sweep | Comparison | SteeringSweep, title: str | None = None) -> go.Figure:
    """The share of right answers of every variant, with its Wilson interval, beside that without an intervention.

    Where answers are not known it is the share of prompts whose likeliest choice, or next token, is another one.

    Args:
        result: What `ma.sweep`, `ma.evaluate(variants=)` or `analyses.steering_sweep` gives.
        title: Title of the figure; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
    """
    clean, values = _right(result)
    what = "right answers"
    if values is None:
        what, values = "prompts with another answer", _changed(result)
    names = _names(result)
    if len(names) > MOST:
        kept = [*range(MOST // 2), *range(len(names) - MOST // 2, len(names))]
        left_out = f"; left out in the middle: {n_of(len(names) - MOST, 'variant')}"
        names, values = [names[place] for place in kept], [values[place] for place in kept]
    else:
        left_out = ""
    middle, low, high = (100 * np.array([getattr(one, end) for one in values]) for end in ("value", "low", "high"))
    labels = [f"{place}: {plain(name, 60)}" for place, name in enumerate(names)]
    figure = go.Figure(
        go.Scatter(
            x=middle,
            y=labels,
            mode="markers",
            marker={"size": 8, "color": CYCLE[0]},
            error_x=whiskers(middle, low, high, color=CYCLE[0]),
            customdata=[plain(name) for name in names],
            hovertemplate="%{customdata}<br>%{x:.1f}%<extra></extra>",
        )
    )
    note = f"bars: 95% intervals (Wilson){left_out}"
    if clean is not None:
        figure.add_vline(100 * clean.value, line={"color": INK, "width": 1.5, "dash": "dash"})
        note = f"dashed: {clean.value:.1%} without an intervention; {note}"
    first = values[0]
    return laid_out(
        figure,
        title or f"{what[0].upper()}{what[1:]} by variant ({questions_of(first.n, first.n_clips)})",
        note,
        height=150 + 26 * len(labels),
        xaxis={"title": {"text": f"{what} (%)"}, "range": [-2, 102]},
        yaxis={"autorange": "reversed", "showgrid": False},
        showlegend=False,
    )


def _right(result: Sweep | Comparison | SteeringSweep) -> tuple[Proportion | None, list[Proportion] | None]:
    """The accuracies, without an intervention and of every variant; None where no answer is known."""
    if isinstance(result, Comparison):
        known = result.clean.scored
        if not known.any():
            return None, None
        clips = result.clean.clips_among(known)
        clean, rows = result.clean.correct[known], result.correct[:, known]
    elif isinstance(result, SteeringSweep):
        clean, rows, clips = result.clean_correct, result.correct, result.clips or None
    else:
        questions = result.batch.questions
        if not questions or any(question.answer is None or question.is_open for question in questions):
            return None, None
        clean, rows, clips = result.clean_correct.numpy(), result.correct.numpy(), result.clips or None
    return accuracy(clean, clips=clips), [accuracy(row, clips=clips) for row in rows]


def _changed(result: Sweep | Comparison | SteeringSweep) -> list[Proportion]:
    if isinstance(result, Sweep):
        logits: Float[np.ndarray, "variant question choice"] = as_numpy(result.logits).astype(np.float64)
        questions = result.batch.questions
        sizes = [len(question.choices) for question in questions] or [logits.shape[-1]] * logits.shape[1]
        chosen = likeliest(logits, sizes)
        clean = likeliest(as_numpy(result.clean).astype(np.float64), sizes)
        clips = result.clips or None
    else:
        chosen, clean, clips = result.chosen, result.clean.chosen, result.clean.clips or None
    return [share(row != clean, clips=clips) for row in chosen]


def _names(result: Sweep | Comparison | SteeringSweep) -> list[str]:
    if isinstance(result, SteeringSweep):
        return list(result.names)
    axes = grid_coordinates(result.axes, result.variants)
    if "variant" in axes:
        return [str(name) for name in axes["variant"]]
    return [
        ", ".join(f"{name} {value}" for name, value in zip(axes, cell, strict=True)) for cell in product(*axes.values())
    ]
