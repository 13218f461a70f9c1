"""The temporal study drawn: right answers, where the last position looks, changes in all layers and in one."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.temporal_arms import Arm, Control
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.models.spans import TEXT_ROLES
from mechaudio.viz.by_task import accuracy_by_task
from mechaudio.viz.theme import (
    CYCLE,
    INK,
    LEGEND_BELOW,
    LONGEST_NAME,
    ROLE_COLOURS,
    band,
    ends,
    laid_out,
    layer_ticks,
    level,
    number,
    plain,
    whiskers,
)


@checks_arguments
def temporal_accuracies(study: TemporalStudy) -> go.Figure:
    """Right answers by condition and task, with Wilson's 95% intervals and the share that guessing gets right."""
    return accuracy_by_task(study.conditions)


@checks_arguments
def temporal_attention(study: TemporalStudy, *, confidence: float = 0.95, seed: int = 0) -> go.Figure:
    """Attention of the last position on audio and text, and on each role of text, by layer, in the mean over heads.

    Args:
        study: What `temporal_study` found.
        confidence: Level of the bands, bootstrap intervals of the mean, over clips; few clips have none.
        seed: Seed of the bootstrap.
    """
    measured = np.flatnonzero(np.isfinite(study.attention).all((0, 2)))
    shares = {role: 100 * study.attention[:, measured, place] for place, role in enumerate(study.roles)}
    text = [role for role in TEXT_ROLES if role in shares]
    lines = {"audio": shares.pop("audio")}
    if len(text) > 1:
        lines[f"text ({' + '.join(text)})"] = np.sum([shares[role] for role in text], axis=0)
    lines |= {role: share for role, share in shares.items() if share.any()}
    figure, n = go.Figure(), len(study.attention)
    clips = study.compared.clean.clips[:n]  # attention was measured on the first questions
    few = too_few(n, clips, confidence)
    colours = {name: ROLE_COLOURS["question" if name.startswith("text (") else name] for name in lines}
    for name, share in () if few else lines.items():
        ends = bootstrap_mean(share, clips=clips or None, confidence=confidence, seed=seed)
        band(figure, measured, *ends, colour=colours[name], legendgroup=name, name=f"{name}: interval")
    for name, share in lines.items():
        whole = name == "audio" or name.startswith("text (")
        figure.add_scatter(
            x=measured,
            y=share.mean(0),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colours[name], "width": 3.5 if whole else 1.5, "dash": "solid" if whole else "dot"},
            marker={"size": 8 if whole else 5},
            hovertemplate=f"layer %{{x}}: %{{y:.1f}}% on {name}<extra></extra>",
        )
    sample = questions_of(n, clips)
    whole_text = (
        f"text: {' + '.join(text)}, without the template, which the control on text keys counts as text; "
        if len(text) > 1
        else ""
    )
    bands = f"; {few}" if few else f"; bands: {100 * confidence:g}% intervals over clips (bootstrap)"
    return laid_out(
        figure,
        f"Where the last position looks, by layer ({sample})",
        f"mean over heads{bands}<br>{whole_text}dotted: role by role",
        height=440,
        xaxis={"title": {"text": "layer"}, "tickvals": layer_ticks(range(study.attention.shape[1]))},
        yaxis={"title": {"text": "share of attention (%)"}, "rangemode": "tozero"},
        legend=LEGEND_BELOW,
    )


@checks_arguments
def temporal_fixes(study: TemporalStudy, *, control: Control = "") -> go.Figure:
    """Fix and break rates of changes in all layers over their strength, a line per choice of query rows.

    The dashed line and its band are the fix rate of answers at random: a fix rate inside the band needs no listening.

    Args:
        study: What `temporal_study` found.
        control: Which control to draw instead of the change itself.

    Raises:
        ValueError: If the study has no such arms, or no answer was wrong, or none right, without a change.
    """
    arms = [tested for tested in (*study.uniform, *study.controls) if tested.arm.control == control]
    if not arms:
        raise ValueError(f"the study has no control {control!r}; it has {sorted({arm.control for arm in study.arms})}")
    clean = study.compared.clean
    right = clean.correct[clean.scored]
    if right.all() or not right.any():
        raise ValueError(f"fix and break rates need wrong and right answers; {right.sum()} of {len(right)} are right")
    kinds = [kind for kind in ("upweighting", "scaling") if any(tested.arm.kind == kind for tested in arms)]
    figure = make_subplots(2, len(kinds), shared_yaxes=True, shared_xaxes=True, vertical_spacing=0.07)
    every, named = list(dict.fromkeys(tested.arm.queries for tested in arms)), set[str]()
    for column, kind in enumerate(kinds, 1):
        of_kind = [tested for tested in arms if tested.arm.kind == kind]
        for place, queries in enumerate(every):
            drawn = [tested for tested in of_kind if tested.arm.queries == queries]
            if not drawn:  # rows that are there for the change in one layer are scaled, and not upweighted
                continue
            for row, what in enumerate(("fix", "break"), 1):
                first = row == 1 and queries not in named
                _rates(figure, row, column, drawn, what, queries, place, len(every), first=first)
            named.add(queries)
        axis = "bias added to audio scores" if kind == "upweighting" else "factor on audio scores"
        figure.update_xaxes(title_text=f"{kind}: {axis}", row=2, col=column)
        if kind == "scaling":
            figure.add_vline(1, line={"color": INK, "width": 1, "dash": "dot"}, col=column)
    null = study.compared.random_fix_rate.uniform
    for column in range(1, len(kinds) + 1):
        level(figure, 100 * null.value, 100 * null.low, 100 * null.high, row=1, col=column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="fixed, of the wrong (%)", row=1, col=1)
    figure.update_yaxes(title_text="broken, of the right (%)", row=2, col=1)
    what = f"control: {control.replace('_', ' ')}, all layers" if control else "all layers"
    dotted = "; dotted: no change" if "scaling" in kinds else ""
    return laid_out(
        figure,
        f"Fixed and broken answers over strengths ({what})",
        f"n = {(~right).sum()} wrong, {right.sum()} right without a change; whiskers: 95% intervals (Wilson)<br>"
        f"dashed, with 95% band: answers at random, which fix {null.value:.0%} and break "
        f"{1 - study.chance:.0%}{dotted}",
        height=620,
        legend=LEGEND_BELOW | {"title": {"text": "query rows: "}},
    )


def _rates(
    figure: go.Figure,
    row: int,
    column: int,
    drawn: Sequence[Tested[Arm]],
    what: str,
    queries: str,
    place: int,
    n_lines: int,
    *,
    first: bool,
) -> None:
    """One line, moved a little to the side so that the whiskers of several can be told apart."""
    drawn = sorted(drawn, key=lambda tested: tested.arm.strength)
    strengths = np.array([tested.arm.strength for tested in drawn])
    aside = 0.012 * (np.ptp(strengths) or 1) * (place - (n_lines - 1) / 2)
    rates = [getattr(tested.change, f"{what}_rate") for tested in drawn]
    share, low, high = (100 * np.array([getattr(rate, end) for rate in rates]) for end in ("value", "low", "high"))
    figure.add_scatter(
        row=row,
        col=column,
        x=strengths + aside,
        y=share,
        mode="lines+markers",
        name=plain(queries, LONGEST_NAME),
        legendgroup=queries,
        showlegend=first,
        line={"color": CYCLE[place % len(CYCLE)], "width": 2},
        error_y=whiskers(share, low, high, width=2),
        customdata=[
            f"{tested.arm}<br>{what} rate {rate}<br>p = {tested.p_holm:.2g} (Holm)"
            for tested, rate in zip(drawn, rates, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


_BELOW, _ABOVE = ("#1b62b0", "#2c8fd1", "#56b4e9", "#9ecae1"), ("#e6a86c", "#e69f00", "#d55e00", "#b03a06")
_SPREAD = 0.5


@checks_arguments
def temporal_layers(study: TemporalStudy) -> go.Figure:
    """Right answers with audio scores scaled in one layer, by layer and factor, beside no change and all layers."""
    layers = sorted({tested.arm.layer for tested in study.targeted})
    factors = sorted({tested.arm.strength for tested in study.targeted})
    queries = study.targeted[0].arm.queries
    everywhere = {
        tested.arm.strength: tested
        for tested in study.uniform
        if tested.arm.kind == "scaling" and tested.arm.queries == queries
    }
    n_layers = study.attention.shape[1]
    figure, aside = go.Figure(), n_layers + 0.5
    step = _SPREAD / max(1, len(factors) - 1)
    baseline = study.targeted[0].change.before
    level(figure, 100 * baseline.value, 100 * baseline.low, 100 * baseline.high)
    for place, (factor, colour) in enumerate(zip(factors, _factor_colours(factors), strict=True)):
        of_factor = [tested for tested in study.targeted if tested.arm.strength == factor]
        _layer_line(figure, [tested.arm.layer for tested in of_factor], of_factor, factor, colour, lines=True)
        _layer_line(figure, [aside - _SPREAD / 2 + place * step], [everywhere[factor]], factor, colour, lines=False)
    best = study.best_layer
    chosen = next(tested for tested in study.targeted if tested.arm == best.arm)
    figure.add_scatter(
        x=[best.arm.layer],
        y=[100 * chosen.change.after.value],
        mode="markers",
        name="chosen on one half",
        marker={"symbol": "circle-open", "size": 18, "color": INK, "line": {"width": 2}},
        hovertemplate=f"chosen on one half of the questions: {best.arm}<extra></extra>",
    )
    held, n_held = best.held_out.change, best.held_out.n
    return laid_out(
        figure,
        f"Right answers with audio scaled in one layer ({questions_of(baseline.n, baseline.n_clips)})",
        f"query rows: {plain(queries)}; dashed, with 95% band: no change, {baseline.value:.1%} right; "
        "diamonds: all layers at once<br>"
        f"ring: best on one half (n = {best.chosen_on.n}); on the other (n = {n_held}) "
        f"{number(100 * held.value, 1, '+')} points "
        f"({ends(100 * held.low, 100 * held.high, 1, '+', confidence=held.confidence)})",
        height=480,
        xaxis={
            "title": {"text": "layer that is scaled"},
            "tickvals": [*layer_ticks(layers), aside],
            "ticktext": [*map(str, layer_ticks(layers)), "all layers"],
            "range": [-0.5, aside + 0.6],
            "zeroline": False,
        },
        yaxis={"title": {"text": "right answers (%)"}},
        legend=LEGEND_BELOW,
    )


def _factor_colours(factors: Sequence[float]) -> list[str]:
    """Blue below one and orange above, stronger the further from it."""
    below, above = [f for f in factors if f < 1], [f for f in factors if f > 1]
    return [_BELOW[round(i * 3 / max(1, len(below) - 1))] for i in range(len(below))] + [
        _ABOVE[3 - round((len(above) - 1 - i) * 3 / max(1, len(above) - 1))] for i in range(len(above))
    ]


def _layer_line(
    figure: go.Figure, x: Sequence[int | float], arms: Sequence[Tested[Arm]], factor: float, colour: str, *, lines: bool
) -> None:
    figure.add_scatter(
        x=x,
        y=[100 * tested.change.after.value for tested in arms],
        mode="lines+markers" if lines else "markers",
        name=f"factor {factor:g}" if lines else f"factor {factor:g}, all layers",
        legendgroup=f"{factor:g}",
        showlegend=lines,
        line={"color": colour, "width": 2},
        marker={"color": colour, "size": 7 if lines else 11, "symbol": "circle" if lines else "diamond"},
        customdata=[
            f"{tested.arm}<br>{tested.change.after}<br>change {tested.change.change.in_points()}<br>"
            f"p = {tested.p_holm:.2g} (Holm)"
            for tested in arms
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
