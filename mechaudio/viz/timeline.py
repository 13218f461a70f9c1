"""When in the recording the model looks: layers by seconds, under the sound and its events.

Conventions: seconds from the start of the clip. Attention is drawn per second of audio, so that tokens of unequal
length compare and an area of the picture is a share of attention: a head that spread 50% evenly over 10 s is 5% per
second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clip import AudioClip
from mechaudio.viz.sound_track import PERCEPTIBLE, draw_over
from mechaudio.viz.theme import SEQUENTIAL, TEMPLATE, bare_axis, layer_ticks, plain, titled

Heads = Literal["mean"] | int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Window:
    """One question as it is drawn: percent of attention per second by layer and token."""

    density: Float[np.ndarray, "layer token"]
    edges: Float[np.ndarray, " token_plus_1"]
    layers: tuple[int, ...]


def _window(attention: AudioAttention, question: int, layers: Sequence[int] | None, heads: Heads) -> Window:
    n_questions, n_layers, n_heads, _ = attention.over_time.shape
    chosen = tuple(range(n_layers)) if layers is None else tuple(layers)
    of = tuple(range(n_heads)) if heads == "mean" else (heads,) if isinstance(heads, int) else tuple(heads)
    for what, asked, there in (
        ("question", (question,), n_questions),
        ("layer", chosen, n_layers),
        ("head", of, n_heads),
    ):
        if not asked or not all(0 <= number < there for number in asked):
            raise ValueError(
                f"{what} must be among 0 to {there - 1} in this result, got {', '.join(map(str, asked)) or 'none'}"
            )
    n_tokens = int(attention.n_tokens[question])
    if n_tokens == 0:
        raise ValueError(
            f"question {attention.ids[question]!r} was asked without audio: there is no attention over time to draw"
        )
    edges = attention.edges_of(question)
    share = attention.over_time[question][list(chosen)][:, list(of), :n_tokens].mean(axis=1)
    return Window(100 * share / np.diff(edges), edges, chosen)


def _draw_attention(figure: go.Figure, window: Window, pixels: int) -> None:
    density, edges = window.density, window.edges
    figure.add_heatmap(
        x=edges.round(4),
        y=[str(layer) for layer in window.layers],
        z=density.astype(np.float32),
        name="attention",
        zmin=0,
        zmax=float(np.quantile(density, 0.99)) or float(density.max()) or 1.0,
        colorscale=SEQUENTIAL,
        customdata=(density * np.diff(edges)).astype(np.float32),
        hovertemplate="layer %{y}, token around %{x:.2f} s<br>"
        "%{customdata:.3f}% of attention (%{z:.2f}% per second)<extra></extra>",
        colorbar={
            "title": {"text": "% per<br>second"},
            "len": pixels,
            "lenmode": "pixels",
            "y": 0,
            "yanchor": "bottom",
            "nticks": 5,
        },
    )
    ticks = layer_ticks(range(len(window.layers)))
    named = [str(window.layers[tick]) for tick in ticks]
    figure.update_layout(yaxis=bare_axis("layer", type="category", tickvals=named))


def _title(attention: AudioAttention, question: int, heads: Heads) -> dict[str, object]:
    if heads == "mean":
        which = f"mean of {n_of(attention.over_time.shape[2], 'head')}"
    else:
        which = f"head {heads}" if isinstance(heads, int) else f"mean of heads {', '.join(map(str, heads))}"
    note = plain(attention.texts[question], 110)
    unheard = float(attention.duration[question] - attention.edges[question, attention.n_tokens[question]])
    if unheard > PERCEPTIBLE:
        note += f" (the clip's last {unheard:.1f} s are not heard)"
    return titled(f"When the {attention.queries} position looks ({which}, n = 1 question)", note)


@checks_arguments
def attention_over_time(
    attention: AudioAttention,
    question: int = 0,
    clip: AudioClip | None = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Heads = "mean",
    sound: Literal["waveform", "mel"] = "mel",
) -> go.Figure:
    """Attention on each stretch of audio, layer by layer, under the sound and its events.

    The picture ends where the audio tokens end: those that hear padding are greyed, and a title says how much of a long
    clip is not heard. Colours stop at the 99th percentile, lest one token leave the rest dark; the hover is exact.

    Args:
        attention: What `analyses.audio_attention` measured.
        question: Which of its questions.
        clip: The recording, drawn above; None leaves it out.
        layers: Which layers; None for all.
        heads: `"mean"` over all heads, one head, or the mean of several.
        sound: The recording as a mel spectrogram or as a waveform.

    Returns:
        A figure whose time axis is `xaxis` (seconds), shared by all its parts; the heatmap is its first trace.

    Raises:
        ValueError: For a question, layer or head that the result does not have, or a question without audio.
    """
    window = _window(attention, question, layers, heads)
    span, duration = float(window.edges[-1]), float(attention.duration[question])
    events = tuple(event for event in attention.events[question] if event.onset < span)
    pixels = max(150, min(26 * len(window.layers), 420))
    figure = go.Figure()
    _draw_attention(figure, window, pixels)
    whole = draw_over(figure, pixels, events=events, clip=clip, sound=sound, duration=duration, span=span)
    figure.update_layout(
        template=TEMPLATE,
        height=whole + 154,
        margin={"t": 98, "b": 56, "l": 76},
        title=_title(attention, question, heads),
    )
    return figure
