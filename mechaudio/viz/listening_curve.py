"""How well listening scores of more and more heads tell right answers from wrong ones, beside heads drawn at random."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.listening_score import ListeningScore
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, ROLE_COLOURS, band, laid_out, whiskers


@checks_arguments
def listening_curve(scores: Mapping[int, ListeningScore]) -> go.Figure:
    """Area under the ROC curve of the listening score, over the number of heads it is made from.

    Bars are intervals (`ma.metrics.roc_auc`), which count clips; the band holds as large a share of the random sets. A
    specialist's line inside the band says that any heads would have done.

    Args:
        scores: Scores of the same questions, by number of heads.

    Raises:
        ValueError: Without scores, or with scores of different questions.
    """
    if not scores:
        raise ValueError("there is nothing to draw: scores is empty")
    ks = sorted(scores)
    curve = [scores[k] for k in ks]
    first = curve[0]
    if any(score.ids != first.ids for score in curve):
        raise ValueError("the scores are of different questions: one curve needs the same questions at every K")
    tail = (1 - first.confidence) / 2
    low, middle, high = np.transpose([np.quantile(score.random_auc, [tail, 0.5, 1 - tail]) for score in curve])
    share, places = 100 * first.confidence, np.arange(len(ks))
    figure = go.Figure()
    name = f"random heads, {share:g}% of {len(first.random_auc)} sets"
    band(figure, places, low, high, name=name, showlegend=True)
    figure.add_scatter(
        x=places,
        y=middle,
        mode="lines",
        name="random heads, median",
        line={"color": INK, "width": 1.5, "dash": "dash"},
        customdata=np.stack([ks, low, high], axis=-1),
        hovertemplate="%{customdata[0]} random heads: median %{y:.3f}, "
        f"{share:g}% within %{{customdata[1]:.3f}} to %{{customdata[2]:.3f}}<extra></extra>",
    )
    lines = (
        ("specialists, unweighted", [score.mass_auc for score in curve], CYCLE[5], "dot", 0.08),
        ("specialists", [score.auc for score in curve], ROLE_COLOURS["audio"], "solid", 0.0),
    )
    for name, areas, colour, dash, aside in lines:
        value, lower, upper = np.transpose([(area.value, area.low, area.high) for area in areas])
        figure.add_scatter(
            x=places + aside,
            y=value,
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 7},
            error_y=whiskers(value, lower, upper, color=colour),
            customdata=np.stack([ks, lower, upper, [score.p_random for score in curve]], axis=-1),
            hovertemplate=f"%{{customdata[0]}} {name}: AUC %{{y:.3f}}<br>{share:g}% interval "
            "%{customdata[1]:.3f} to %{customdata[2]:.3f}"
            + ("<br>random sets that do as well: %{customdata[3]:.1%}" if name == "specialists" else "")
            + "<extra></extra>",
        )
    figure.add_hline(y=0.5, line={"color": INK, "dash": "dot", "width": 1})
    return laid_out(
        figure,
        f"Does audio attention tell right from wrong? ({questions_of(len(first.ids), first.clips)}, "
        f"{first.correct.sum()} right)",
        f"heads chosen on {n_of(first.n_calibration, 'other question')}; bars: {share:g}% intervals over clips<br>"
        "band: as many heads drawn at random; dotted line: a score that tells nothing",
        height=440,
        xaxis={
            "title": {"text": "heads that the score is made from"},
            "tickvals": places,
            "ticktext": [str(k) for k in ks],
            "range": [-0.4, len(ks) - 0.6],
            "zeroline": False,
        },
        yaxis={"title": {"text": "area under the ROC curve"}},
        legend=LEGEND_BELOW,
    )
