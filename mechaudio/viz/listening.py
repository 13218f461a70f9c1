"""How well the listening score tells right answers from wrong ones, beside heads drawn at random."""

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.listening_score import ListeningScore
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, INK, ROLE_COLOURS, bare_axis, laid_out, whiskers


@checks_arguments
def listening_auc(score: ListeningScore, *, seed: int = 0) -> go.Figure:
    """Area under the ROC curve of the listening score, of its heads unweighted, and of random sets of as many heads.

    Bars are intervals for the specialists, which count clips (`ma.metrics.roc_auc`), and the interval that holds as
    large a share of the draws for the random sets; each dot is one draw.

    Args:
        score: What `analyses.listening_score` found.
        seed: Seed of the dots' places across their row.
    """
    share = 100 * score.confidence
    tail = (1 - score.confidence) / 2
    low, middle, high = np.quantile(score.random_auc, [tail, 0.5, 1 - tail])
    specialists, unweighted = score.auc, score.mass_auc
    rows = (
        ("random heads", middle, low, high, INK),
        ("specialists, unweighted", unweighted.value, unweighted.low, unweighted.high, CYCLE[5]),
        ("specialists", specialists.value, specialists.low, specialists.high, ROLE_COLOURS["audio"]),
    )
    figure = go.Figure()
    figure.add_scatter(
        x=score.random_auc,
        y=np.random.default_rng(seed).uniform(-0.28, 0.28, len(score.random_auc)),
        mode="markers",
        name="one draw",
        marker={"color": INK, "size": 5, "opacity": 0.35},
        hovertemplate="one random set: AUC %{x:.3f}<extra></extra>",
    )
    for place, (name, value, lower, upper, colour) in enumerate(rows):
        figure.add_scatter(
            x=[value],
            y=[place],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 12, "symbol": "diamond"},
            error_x=whiskers(*np.array([[value], [lower], [upper]]), color=colour, thickness=2.5, width=7),
            hovertemplate=f"{name}: AUC {value:.3f} ({share:g}% interval {lower:.3f} to {upper:.3f})<extra></extra>",
        )
    figure.add_vline(x=0.5, line={"color": INK, "dash": "dot", "width": 1})
    k = len(score.heads)
    return laid_out(
        figure,
        f"Does audio attention tell right from wrong? ({questions_of(len(score.correct), score.clips)}, "
        f"{score.correct.sum()} right)",
        f"{n_of(k, 'head')}, chosen on {n_of(score.n_calibration, 'other question')}; bars: {share:g}% "
        f"intervals; {n_of(len(score.random_auc), 'random set')}",
        height=300,
        showlegend=False,
        xaxis={"title": {"text": "area under the ROC curve"}, "zeroline": False},
        yaxis=bare_axis(
            tickvals=list(range(len(rows))), ticktext=[name for name, *_ in rows], range=[-0.5, len(rows) - 0.5]
        ),
    )
