"""Who wrote the answer: direct logit attribution as bars."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.lenses.direct_logit_attribution import DirectLogitAttribution
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics.bootstrap import bootstrap_mean, too_few
from mechaudio.metrics.clips import questions_of
from mechaudio.viz.theme import CYCLE, INK, ROLE_COLOURS, laid_out, pale, plain, whiskers

By = Literal["part", "head", "role", "second"]
MOST_HEADS = 16
_KINDS = {"input": "#8c8c8c", "attention": CYCLE[1], "MLP": CYCLE[0], "mixer": CYCLE[3], "constant": "#8c8c8c"}


@checks_arguments
def attribution_bars(written: DirectLogitAttribution, by: By = "part", *, question: int | None = None) -> go.Figure:
    """Draw what each part wrote towards one token and away from the other, in logits.

    Bars are means over questions, with 95% bootstrap intervals over clips where there are several.

    Args:
        written: What `analyses.direct_logit_attribution` found.
        by: `part` (the input, each layer's attention and MLP), `head` (those that wrote most), `role` of the key that a
            head's output came from, or `second` of the sound.
        question: One question alone; by default all. Seconds need one, unless there is only one.

    Raises:
        ValueError: For another `by`, or seconds of several questions.
        IndexError: There is no such question.
    """
    n = len(written.ids)
    if question is not None and not 0 <= question < n:
        raise IndexError(f"there is no question {question}: of {n_of(n, 'question')}, the first is 0")
    chosen = slice(None) if question is None else slice(question, question + 1)
    if by == "second" and question is None and n > 1:
        raise ValueError("seconds of different clips are not added: say which question=")
    if by == "part":
        names, values, colours = _parts(written)
    elif by == "head":
        heads = written.top_heads(MOST_HEADS)
        names, colours = [f"{layer}.{head}" for layer, head in heads], [_KINDS["attention"]] * len(heads)
        values = np.stack([written.heads[:, layer, head] for layer, head in heads], axis=1)
    elif by == "role":
        names, colours = list(written.roles), [ROLE_COLOURS.get(role, INK) for role in written.roles]
        values = np.nansum(written.by_role, axis=(1, 2))
    else:
        seconds = np.nansum(written.per_second(question or 0), axis=(0, 1))
        names = [f"{second}-{second + 1} s" for second in range(len(seconds))]
        values, colours, chosen = seconds[None], [ROLE_COLOURS["audio"]] * len(names), slice(None)
    return _bars(written, names, values[chosen], colours, by, question)


def _parts(written: DirectLogitAttribution) -> tuple[list[str], Float[np.ndarray, "question part"], list[str]]:
    names, values, colours = ["embed"], [written.embed], [_KINDS["input"]]
    for layer in range(written.attention.shape[1]):
        for kind, short in (("attention", "attn"), ("mlp", "mlp"), ("mixer", "mixer")):
            by_layer = getattr(written, kind)[:, layer]
            if not np.isnan(by_layer).all():
                names.append(f"{layer} {short}")
                values.append(by_layer)
                colours.append(_KINDS["MLP" if kind == "mlp" else kind])
    if np.any(written.constant):
        names, values, colours = [*names, "bias"], [*values, written.constant], [*colours, _KINDS["constant"]]
    return names, np.stack(values, axis=1), colours


def _bars(
    written: DirectLogitAttribution,
    names: Sequence[str],
    values: Float[np.ndarray, "question part"],
    colours: Sequence[str],
    by: str,
    question: int | None,
) -> go.Figure:
    mean, n = values.mean(0), len(values)
    spread, clips = None, written.clips if len(written.clips) == n else ()
    few = too_few(n, clips)
    if not few:
        low, high = bootstrap_mean(values, clips=clips or None)
        spread = whiskers(mean, low, high, color=INK, thickness=1.2)
    figure = go.Figure(
        go.Bar(
            x=list(names),
            y=mean,
            marker=pale(colours),
            error_y=spread,
            hovertemplate="%{x}<br>%{y:.3f} logits<extra></extra>",
            showlegend=False,
        )
    )
    if by == "part":
        for kind in ("attention", "MLP", "mixer"):
            if _KINDS[kind] in colours:
                figure.add_bar(x=[None], y=[None], name=kind, marker=pale(_KINDS[kind]))
    single = n == 1
    at = 0 if question is None else question
    alike = len(set(written.towards)) == 1 == len(set(written.away))
    pair = "right minus best wrong choice" if not written.provenance.settings.get("targets") else "target minus foil"
    if single or alike:
        pair = f"{written.towards[at]!r} minus {written.away[at]!r}" if written.away[at] else f"{written.towards[at]!r}"
    whole = written.logit_difference[at] if single else written.logit_difference.mean()
    title = {
        "part": "Who wrote the answer",
        "head": "Heads that wrote the answer",
        "role": "What the heads read it from",
        "second": "The second that heads read it from",
    }[by]
    note = plain(f"{pair}: {whole:.2f} logits in all") + (
        "" if single else f"; means over {questions_of(n, clips)}, " + (few or "95% bootstrap intervals over clips")
    )
    below = {"part": "layer and part", "head": "layer.head", "role": "role of the key", "second": ""}[by]
    return laid_out(
        figure,
        title,
        note,
        height=380,
        barmode="overlay",
        bargap=0.25,
        xaxis={
            "title": {"text": below},
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(names),
            "showgrid": False,
        },
        yaxis={"title": {"text": "logits"}, "zeroline": True, "zerolinewidth": 1.5},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
    )
