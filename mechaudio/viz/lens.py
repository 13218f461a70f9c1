"""Readings of each depth at each position, as a table."""

import numpy as np
import plotly.graph_objects as go

from mechaudio.analyses.lenses.logit_lens import LogitLens
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.viz.theme import SEQUENTIAL, bare_axis, cells, laid_out, plain, write_cells

WRITTEN = 24
"""Positions of the widest table that has its tokens written in."""


@checks_arguments
def lens_table(lens: LogitLens, question: int = 0) -> go.Figure:
    """The most probable token of every depth and position, coloured by its probability; the hover has the others.

    The last row of the table, at the top, is what the network itself says. Audio tokens are labelled with their onset.

    Args:
        lens: What `analyses.logit_lens` found.
        question: Which of its questions.

    Raises:
        IndexError: There is no such question.
    """
    if not 0 <= question < len(lens.ids):
        raise IndexError(f"there is no question {question}: of {n_of(len(lens.ids), 'question')}, the first is 0")
    labels = lens.labels[question]
    n, depths = len(labels), len(lens.depths)
    probability = lens.top_probability[question, :, :n, 0]
    words = [
        plain(lens.vocabulary[int(token)].strip() or "␣", max(3, 120 // n))
        for token in lens.top_ids[question, :, :n, 0].flat
    ]
    figure = go.Figure(
        cells(
            probability,
            customdata=[[_hover(lens, question, depth, place) for place in range(n)] for depth in range(depths)],
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=1,
            xgap=int(n <= WRITTEN),
            colorbar={"title": {"text": "probability"}, "nticks": 5},
        )
    )
    if n <= WRITTEN:
        write_cells(figure, words)
    ticks = range(0, n, max(1, -(-n // WRITTEN)))
    return laid_out(
        figure,
        f"What each layer would say ({lens.lens} lens)",
        plain(lens.texts[question] or lens.ids[question], 110),
        height=max(320, 180 + 26 * depths),
        xaxis=bare_axis(
            "position",
            tickvals=list(ticks),
            ticktext=[plain(labels[place].strip() or "␣", 14) for place in ticks],
            tickangle=-45,
        ),
        yaxis=bare_axis("after layer", tickvals=list(range(depths)), ticktext=list(lens.depths)),
    )


def _hover(lens: LogitLens, question: int, depth: int, place: int) -> str:
    where = f"after layer {lens.depths[depth]}" if depth else "before the first layer"
    lines = [f"{plain(lens.labels[question][place])} ({lens.roles[question][place] or 'text'}), {where}"]
    if not np.isnan(lens.onset[question, place]):
        lines.append(f"hears {lens.onset[question, place]:.2f} to {lens.offset[question, place]:.2f} s")
    lines += [f"{plain(repr(token))}  {share:.1%}" for token, share in lens.says(depth, place, question)]
    letters = lens.letters[question]
    if letters:
        logits = lens.choice_logits[question, depth, place, : len(letters)]
        lines.append(
            "logits " + ", ".join(f"{letter} {value:.2f}" for letter, value in zip(letters, logits, strict=True))
        )
    lines.append(f"KL from the output {lens.kl[question, depth, place]:.2f} nats")
    return "<br>".join(lines)
