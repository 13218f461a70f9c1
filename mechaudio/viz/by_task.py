"""Right answers by task, of one evaluation or of several conditions beside each other."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.evaluation import Evaluation
from mechaudio.metrics.choices import chance
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, INK, LEGEND_BELOW, LONGEST_NAME, laid_out, pale, plain, whiskers

_CONDITIONS = {"audio": "#d55e00", "caption": "#cc79a7", "audio+caption": "#0072b2", "silence": "#b9bec4"}


@checks_arguments
def accuracy_by_task(evaluations: Evaluation | Mapping[str, Evaluation], title: str | None = None) -> go.Figure:
    """Right answers by condition and task, with Wilson's 95% intervals and the share that guessing gets right.

    Where no answer is known, how often each choice was chosen.

    Args:
        evaluations: What `ma.evaluate` gives, or several of them by their names, of which the first is titled.
        title: Title of the figure; plotly's own markup is allowed, so pass words from outside through `theme.plain`.

    Raises:
        ValueError: There is nothing to draw: no evaluation, or open questions without a known answer.
    """
    named = {evaluations.condition: evaluations} if isinstance(evaluations, Evaluation) else dict(evaluations)
    if not named:
        raise ValueError("there is nothing to draw: evaluations is empty")
    first = next(iter(named.values()))
    if not first.scored.any():
        return _chosen(first, title)
    figure, tasks = go.Figure(), dict[str, str]()
    for place, (name, evaluation) in enumerate(named.items()):
        scores = {**evaluation.by_task(), "all tasks": evaluation.overall}
        share, low, high = (
            100 * np.array([getattr(score, end) for score in scores.values()]) for end in ("value", "low", "high")
        )
        words = [task.replace("_", " ") or "no task named" for task in scores]
        tasks |= {plain(task): plain(task, LONGEST_NAME) for task in words}
        figure.add_bar(
            x=[plain(task) for task in words],
            y=share,
            name=plain(name, LONGEST_NAME),
            marker=pale(_CONDITIONS.get(name, CYCLE[place % len(CYCLE)])),
            error_y=whiskers(share, low, high, color=INK, thickness=1.5),
            customdata=[(score.count, score.n, *ends) for score, *ends in zip(scores.values(), low, high, strict=True)],
            hovertemplate=f"{plain(name, LONGEST_NAME)}, "
            "%{x}: %{y:.1f}% right, %{customdata[0]} of %{customdata[1]}<br>"
            "95% interval %{customdata[2]:.1f} to %{customdata[3]:.1f}%<extra></extra>",
        )
    note = "whiskers: 95% intervals (Wilson)"
    if all(first.options):
        guessed = 100 * float(chance(first.options, first.answers)[first.scored].mean())
        figure.add_hline(guessed, line={"color": INK, "width": 1.5, "dash": "dot"})
        note += f"; dotted: guessing gets {guessed:.0f}% right"
    overall = first.overall
    return laid_out(
        figure,
        title or f"Right answers by condition and task ({questions_of(overall.n, overall.n_clips)})",
        note,
        height=440,
        barmode="group",
        bargroupgap=0.08,
        showlegend=len(named) > 1,
        xaxis={"title": {"text": "task"}, "tickvals": [*tasks], "ticktext": [*tasks.values()]},
        yaxis={"title": {"text": "right answers (%)"}, "range": [0, 104]},
        legend=LEGEND_BELOW,
    )


def _chosen(evaluation: Evaluation, title: str | None) -> go.Figure:
    """Draw how often each choice was chosen, of questions whose answers are not known."""
    longest = max(map(len, evaluation.options), default=0)
    if not longest:
        raise ValueError(
            "there is nothing to draw: these questions are open and have no known answer; .texts holds what was written"
        )
    counts = np.bincount(evaluation.chosen[evaluation.chosen >= 0], minlength=longest)
    figure = go.Figure(go.Bar(x=list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:longest]), y=counts, marker=pale(CYCLE[0])))
    return laid_out(
        figure,
        title or f"What was chosen ({questions_of(len(evaluation.ids), evaluation.clips)})",
        "no answer is known",
        height=360,
        xaxis={"title": {"text": "choice"}},
        yaxis={"title": {"text": "questions"}},
    )
