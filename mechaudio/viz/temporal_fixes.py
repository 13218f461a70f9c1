"""The temporal study's fixed and broken answers over the strength of a change."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.choosing import Tested
from mechaudio.experiments.temporal_arms import Arm, Control
from mechaudio.experiments.temporal_result import TemporalStudy
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, TEMPLATE, level, plain, titled, whiskers


@checks_arguments
def temporal_fixes(study: TemporalStudy, *, control: Control = "") -> go.Figure:
    """Fix and break rates of changes in all layers over their strength, a line per choice of query rows.

    The dashed line and its band are the fix rate of answers at random: a fix rate inside the band needs no listening.

    Args:
        study: what `temporal_study` found.
        control: which control to draw instead of the change itself.

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
        axis = "bias added to audio scores" if kind == "upweighting" else "factor on audio scores (1 changes nothing)"
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
    figure.update_layout(
        template=TEMPLATE,
        height=620,
        title=titled(
            f"Fixed and broken answers over strengths ({what})",
            f"n = {(~right).sum()} wrong, {right.sum()} right without a change; whiskers: 95 % intervals (Wilson)<br>"
            f"dashed, with 95 % band: answers at random, which fix {100 * null.value:.0f} % and break "
            f"{100 * (1 - study.chance):.0f} %",
        ),
        legend=LEGEND_BELOW | {"title": {"text": "query rows: "}},
        margin={"t": 104, "b": 104},
    )
    return figure


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
        name=plain(queries),
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
