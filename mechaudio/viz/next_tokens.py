"""The next tokens of a run, and how large what it kept is."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechaudio.arguments import checks_arguments
from mechaudio.results import as_numpy
from mechaudio.tracing.labels import axis_names
from mechaudio.tracing.run_result import Run, names_of
from mechaudio.viz.theme import CYCLE, INK, ROLE_COLOURS, SEQUENTIAL, faded, laid_out, plain


@checks_arguments
def next_tokens(run: Run, question: int = 0, *, k: int = 10) -> go.Figure:
    """The most probable tokens after a prompt; those that are the letter of a choice are in another colour.

    Args:
        run: What `ma.run` gave.
        question: Which prompt.
        k: How many tokens.

    Raises:
        IndexError: There is no such prompt.
        ValueError: The run has no logits.
    """
    _check(run, question)
    if run.logits is None:
        raise ValueError('this run has no logits: ask for them with logits="last", or draw what it kept')
    shares = as_numpy(run.logits[question, -1].float().softmax(-1))
    ids = np.argsort(-shares, kind="stable")[:k].tolist()
    decode = getattr(run.batch.tokenizer, "decode", None)
    letters = dict.fromkeys(run.batch.choice_ids[question]) if run.batch.choice_ids else {}
    texts = [repr(decode([token]))[1:-1] or "(nothing)" if callable(decode) else str(token) for token in ids]
    figure = go.Figure(
        go.Bar(
            orientation="h",
            x=[100 * float(shares[token]) for token in ids],
            y=list(range(len(ids))),
            marker={"color": [ROLE_COLOURS["choices"] if token in letters else faded(INK, 0.55) for token in ids]},
            customdata=[(plain(text), token) for text, token in zip(texts, ids, strict=True)],
            hovertemplate="%{customdata[0]} (id %{customdata[1]}): %{x:.2f}%<extra></extra>",
        )
    )
    return laid_out(
        figure,
        "The most probable next tokens",
        f"{_name(run, question)}{'; green: choices' if letters else ''}",
        height=140 + 26 * len(ids),
        xaxis={"title": {"text": "probability (%)"}, "rangemode": "tozero"},
        yaxis={
            "tickvals": list(range(len(ids))),
            "ticktext": [plain(text, 24) for text in texts],
            "autorange": "reversed",
            "showgrid": False,
        },
    )


@checks_arguments
def recorded_sizes(run: Run, question: int = 0) -> go.Figure:
    """The root mean square of each hook point that a run kept, by layer, and by position where it has positions.

    Args:
        run: What `ma.run` gave.
        question: Which prompt; hook points of the audio tower, which has clips in their place, are left out.

    Raises:
        IndexError: There is no such prompt.
        ValueError: Nothing was recorded of prompts.
    """
    _check(run, question)
    names = [name for name in dict.fromkeys(name for name, _ in run.cache) if _of_prompts(run, name)]
    if not names:
        raise ValueError("there is nothing to draw: this run kept no hook point of the decoder, and no logits")
    figure = make_subplots(len(names), 1, subplot_titles=names, vertical_spacing=min(0.2, 0.4 / len(names)))
    for row, name in enumerate(names, start=1):
        layers = [layer for kept, layer in run.cache if kept == name]
        sizes = [_by_position(name, as_numpy(run.cache[name, layer][question])) for layer in layers]
        labels = ["" if layer is None else str(layer) for layer in layers]
        if len(sizes[0]) == 1:
            figure.add_scatter(
                x=labels, y=[float(size[0]) for size in sizes], mode="lines+markers", marker={"color": CYCLE[0]},
                showlegend=False, hovertemplate="layer %{x}: %{y:.3f}<extra></extra>", row=row, col=1,
            )  # fmt: skip
        else:
            figure.add_heatmap(
                z=np.stack(sizes), x=np.arange(len(sizes[0])), y=labels, colorscale=SEQUENTIAL, showscale=False,
                hovertemplate="layer %{y}, position %{x}: %{z:.3f}<extra></extra>", row=row, col=1,
            )  # fmt: skip
            figure.update_yaxes(title={"text": "layer"}, tickvals=labels[:: max(1, len(labels) // 12)], row=row, col=1)
    maps = [row for row, trace in enumerate(figure.data, start=1) if trace.type == "heatmap"]
    if maps:
        figure.update_xaxes(title={"text": "position"}, row=maps[-1], col=1)  # between panels it meets their titles
    laid_out(
        figure,
        "How large what was recorded is",
        f"root mean square; {_name(run, question)}",
        height=140 + 220 * len(names),
        margin={"t": 104},
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def _check(run: Run, question: int) -> None:
    if not 0 <= question < run.batch.n_rows:
        raise IndexError(f"question must be among 0 to {run.batch.n_rows - 1}, got {question}")


def _name(run: Run, question: int) -> str:
    text = run.batch.questions[question].text if run.batch.questions else f"prompt {names_of(run.batch)[question]}"
    return plain(text, 90)


def _of_prompts(run: Run, name: str) -> bool:
    layer = next(layer for kept, layer in run.cache if kept == name)
    return axis_names(name, run.cache[name, layer].ndim)[0] == "batch"


def _by_position(name: str, value: np.ndarray) -> np.ndarray:
    """The root mean square over everything but positions or query rows; infinite scores, of masked keys, left out."""
    axes = axis_names(name, value.ndim + 1)[1:]
    along = next((place for place, axis in enumerate(axes) if axis in ("position", "query")), None)
    rows = value.reshape(1, -1) if along is None else np.moveaxis(value, along, 0).reshape(value.shape[along], -1)
    squares, known = np.where(np.isfinite(rows), rows, 0.0) ** 2, np.isfinite(rows).sum(1)
    return np.sqrt(squares.sum(1) / np.maximum(known, 1))
