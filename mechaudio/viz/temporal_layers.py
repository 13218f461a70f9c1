"""The temporal study's right answers with audio scaled in one layer, beside all layers at once."""

from collections.abc import Sequence

import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.temporal_arms import Arm
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import INK, LEGEND_BELOW, TEMPLATE, layer_ticks, level, plain, titled

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
        one = [tested for tested in study.targeted if tested.arm.strength == factor]
        _layer_line(figure, [tested.arm.layer for tested in one], one, factor, colour, lines=True)
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
    figure.update_layout(
        template=TEMPLATE,
        height=480,
        title=titled(
            f"Right answers with audio scaled in one layer ({questions_of(baseline.n, baseline.n_clips)})",
            f"query rows: {plain(queries)}; dashed, with 95 % band: no change, {100 * baseline.value:.1f} % right; "
            "diamonds: all layers at once<br>"
            f"ring: best on one half (n = {best.chosen_on.n}); on the other (n = {n_held}) {100 * held.value:+.1f} "
            f"points ({100 * held.confidence:g} % interval {100 * held.low:+.1f} to {100 * held.high:+.1f})",
        ),
        xaxis={
            "title": {"text": "layer that is scaled"},
            "tickvals": [*layer_ticks(layers), aside],
            "ticktext": [*map(str, layer_ticks(layers)), "all layers"],
            "range": [-0.5, aside + 0.6],
            "zeroline": False,
        },
        yaxis={"title": {"text": "right answers (%)"}},
        legend=LEGEND_BELOW,
        margin={"t": 104, "b": 104},
    )
    return figure


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
            f"{tested.arm}<br>{tested.change.after}<br>change {tested.change.change.in_percent()}<br>"
            f"p = {tested.p_holm:.2g} (Holm)"
            for tested in arms
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
