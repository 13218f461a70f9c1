"""MATA in two figures: what its formula does to attention, and which layers it helps in."""

from __future__ import annotations

import itertools

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.experiments.mata_arms import MataArm, Mode
from mechaudio.experiments.mata_result import MataStudy
from mechaudio.experiments.mata_scores import MataScores
from mechaudio.metrics.clips import questions_of
from mechaudio.metrics.significance import paired_difference
from mechaudio.viz.theme import (
    CYCLE,
    DIVERGING,
    INK,
    LEGEND_BELOW,
    LIGHT,
    ends,
    full_colour,
    laid_out,
    layer_ticks,
    number,
    write_cells,
)

#: Colours and widths: a grey ring is seen on light cells, a light one beneath it on dark cells.
_RINGS = ((LIGHT, 5), (INK, 2.5))


@checks_arguments
def mata_attention(scores: MataScores) -> go.Figure:
    """Audio scores below zero by layer, and how much attention each reading of the formula moves to the audio.

    Args:
        scores: What `mata_scores` measured.
    """
    headings = ["audio scores below zero", "audio attention gained"]
    figure = make_subplots(1, 2, subplot_titles=headings, horizontal_spacing=0.1)
    figure.add_bar(
        row=1,
        col=1,
        x=scores.layers,
        y=100 * scores.negative,
        marker={"color": INK},
        customdata=np.stack([scores.score, 100 * scores.before], axis=-1),
        hovertemplate="layer %{x}: %{y:.1f}% below zero<br>mean score %{customdata[0]:.2f}, audio attention "
        "%{customdata[1]:.1f}%<extra></extra>",
        showlegend=False,
    )
    for mode, after, colour in zip(scores.modes, scores.after, CYCLE, strict=False):
        figure.add_scatter(
            row=1,
            col=2,
            x=scores.layers,
            y=100 * (after - scores.before),
            mode="lines+markers",
            name=mode,
            line={"color": colour, "width": 2},
            marker={"size": 8},
            hovertemplate=f"{mode}, layer %{{x}}: %{{y:+.2f}} points of attention<extra></extra>",
        )
    figure.add_hline(0, row=1, col=2, line={"color": INK, "width": 1.5, "dash": "dash"})
    figure.update_xaxes(title={"text": "layer"}, tickvals=layer_ticks(scores.layers), zeroline=False)
    figure.update_yaxes(title={"text": "of the scores (%)"}, range=[0, 100], col=1)
    figure.update_yaxes(title={"text": "points of attention"}, col=2)
    figure.update_annotations(font={"size": 13, "color": INK})
    return laid_out(
        figure,
        f"What MATA does to attention, by reading of its formula (n = {n_of(scores.n, 'question')})",
        "last position, in the mean over heads; multiplying lowers a score that is below zero; gained: with "
        f"alpha = {scores.alpha:g} in that layer alone",
        height=420,
        legend=LEGEND_BELOW,
    )


@checks_arguments
def mata_layers(study: MataStudy, mode: Mode = "multiplicative") -> go.Figure:
    """Change of right answers by first and last layer of the range, on the half that chooses and on the other.

    The square is the published range; the ring is the best range of the half that chooses, and what it does on the
    half that reports. A change whose interval reaches zero has half a colour at most.

    Args:
        study: What `mata_study` found.
        mode: The reading of the formula.

    Raises:
        ValueError: For a reading that the study does not have.
    """
    arms = [arm for arm in study.arms if arm.mode == mode and arm.alpha == study.alpha]
    if not arms:
        raise ValueError(f"the study has no reading {mode!r}; it has {sorted({arm.mode for arm in study.arms})}")
    known, clean = study.compared.clean.scored, study.compared.clean.correct
    halves = {"chooses": study.chooses & known, "reports": ~study.chooses & known}
    firsts, lasts = (sorted({getattr(arm, end) for arm in arms}) for end in ("first", "last"))
    headings = [
        f"the half that {name} ({questions_of(int(half.sum()), study.compared.clean.clips_among(half))})"
        for name, half in halves.items()
    ]
    figure = make_subplots(1, 2, subplot_titles=headings, shared_yaxes=True, horizontal_spacing=0.04)
    figure.update_annotations(font={"size": 13, "color": INK})
    maps = np.full((2, 3, len(firsts), len(lasts)), np.nan)  # half, change and ends of its interval, range
    for half_map, half in zip(maps, halves.values(), strict=True):
        clips = study.compared.clean.clips_among(half) or None
        for arm in arms:
            row = study.compared.correct[study.arms.index(arm)]
            change = paired_difference(clean[half], row[half], clips=clips)
            ranged = 100 * np.array([change.value, change.low, change.high])
            half_map[:, firsts.index(arm.first), lasts.index(arm.last)] = ranged
    most = max(1.0, full_colour(maps[:, 0], maps[:, 1], maps[:, 2]))
    best = study.best_of(arms)
    marks = [
        ("published", MataArm(mode, study.alpha, *study.published, study.settings.queries), "square-open"),
        ("best", best, "circle-open"),
    ]
    for column, (changes, low, high) in enumerate(maps, start=1):
        figure.add_heatmap(
            row=1,
            col=column,
            x=[str(last) for last in lasts],
            y=[str(first) for first in firsts],
            z=changes,
            zmin=-most,
            zmax=most,
            colorscale=DIVERGING,
            xgap=1,
            ygap=1,
            showscale=column == 1,
            colorbar={"title": {"text": "points"}},
            hoverongaps=False,
            customdata=[
                [ends(*pair, 1, "+", "points") for pair in zip(*row, strict=True)]
                for row in zip(low, high, strict=True)
            ],
            hovertemplate="layers %{y} to %{x}: %{z:+.1f} points<br>%{customdata}<extra></extra>",
        )
        if changes.size <= 100:
            write_cells(figure, [number(change, 1, "+") for change in changes.flat])
        for (colour, width), (name, arm, symbol) in itertools.product(_RINGS, marks):
            figure.add_scatter(
                row=1,
                col=column,
                x=[str(arm.last)],
                y=[str(arm.first)],
                mode="markers",
                name="the published range" if name == "published" else "the best on the half that chooses",
                marker={"symbol": symbol, "size": 36, "color": colour, "line": {"width": width}},
                legendgroup=name,
                showlegend=column == 1 and colour == INK,
                hoverinfo="skip",
            )
    figure.update_xaxes(title={"text": "last layer"}, showgrid=False, type="category")
    figure.update_xaxes(categoryorder="array", categoryarray=[str(last) for last in lasts])
    figure.update_yaxes(showgrid=False, type="category", categoryorder="array", categoryarray=[str(f) for f in firsts])
    figure.update_yaxes(title={"text": "first layer"}, col=1)
    return laid_out(
        figure,
        f"Change by range of layers ({mode}, alpha = {study.alpha:g})",
        "right answers, in points, against no intervention; the best of many looks better where it is chosen",
        height=460,
        legend=LEGEND_BELOW | {"itemsizing": "constant"},
    )
