"""Which seconds of a recording carry the answer, layer by layer, under the sound and its events.

Conventions: seconds from the start of the clip; effects of one pair on the scale on which the corrupted run is 0 and
the clean run 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from mechaudio.analyses.patching.effect_map import EffectMap
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.question import AudioQuestion
from mechaudio.viz.patching_map import DIRECTIONS, axis_title, metric_name, scale_bar
from mechaudio.viz.sound_track import draw_over
from mechaudio.viz.theme import label_axis, laid_out, plain, two_sided


@checks_arguments
def patching_over_sound(
    found: EffectMap,
    question: AudioQuestion,
    title: str | None = None,
    *,
    pair: int | None = None,
    sound: Literal["waveform", "mel"] = "mel",
) -> go.Figure:
    """One pair's effect of every window of seconds, under the clean clip and its events.

    ```python
    found = ma.analyses.activation_patching(model, questions, over=("layer", "second"), window_seconds=0.5)
    ma.viz.patching_over_sound(found, questions[0])
    ```

    Args:
        found: A map over `second`, or over `layer` and `second`.
        question: The clean question of the pair; its clip and events are drawn.
        title: What was patched; plotly's own markup is allowed, so pass words from outside through `theme.plain`.
        pair: Which pair of the map; the one with the question's id by default.
        sound: The recording as a mel spectrogram or as a waveform.

    Returns:
        A figure whose time axis is `xaxis` (seconds), shared by all its parts; the heatmap is its first trace.

    Raises:
        ValueError: A map over something else, a question that is not one of the map's or stands there more than once,
            one without a clip, or a pair whose clean and corrupted runs agree, so that it has no scale.
    """
    *layered, across = found.axes
    if across != "second" or layered not in ([], ["layer"]):
        raise ValueError(
            "the time axis takes a map over second, or over layer and second; this one goes over "
            f"{', '.join(found.axes)}: patch with over=('layer', 'second')"
        )
    pair = _pair(found, question, pair)
    if question.audio is None:
        raise ValueError(f"question {question.id!r} has no clip to draw; ma.viz.patching_map draws the map alone")
    layers = [str(layer) for layer in found.axes["layer"]] if layered else [found.hook_point]
    edges, effect = _windows(found, found.per_pair()[..., pair].reshape(len(layers), -1))
    clip = question.clip()
    span = max(float(edges[-1]), clip.duration)
    events = tuple(event for event in question.events if event.onset < span)
    pixels = max(90, min(26 * len(layers), 420))
    figure = go.Figure()
    _draw(figure, found, edges, effect, pixels)
    whole = draw_over(figure, pixels, events=events, clip=clip, sound=sound, duration=clip.duration, span=span)
    axis = label_axis(axis_title(found, "layer"), layers) if layered else {"visible": False}
    return laid_out(
        figure,
        title or f"Effect of {plain(found.hook_point)} second by second (n = 1 pair)",
        _note(found, question, pair),
        height=whole + 164,
        margin={"t": 104, "b": 56, "l": 76},
        yaxis=axis,
    )


def _pair(found: EffectMap, question: AudioQuestion, pair: int | None) -> int:
    if pair is None:
        pairs = [index for index, name in enumerate(found.ids) if name == question.id]
        if len(pairs) != 1:
            raise ValueError(
                f"the map has {n_of(len(pairs), 'pair')} whose clean question is {question.id!r}: say which one with "
                f"pair=, 0 to {len(found.ids) - 1}"
            )
        (pair,) = pairs
    elif not 0 <= pair < len(found.ids):
        raise ValueError(f"pair= is 0 to {len(found.ids) - 1} in this map, got {pair}")
    elif found.ids[pair] != question.id:
        raise ValueError(f"pair {pair} of the map is about {found.ids[pair]!r}, and the question is {question.id!r}")
    if not found.scale.defined[pair]:
        raise ValueError(
            f"pair {pair}, {question.id!r}, has no scale: in {found.metric} its clean and corrupted runs agree "
            f"({found.clean[pair]:.4g} and {found.corrupted[pair]:.4g}). Draw another pair, or take another metric"
        )
    return pair


def _windows(
    found: EffectMap, effect: Float[np.ndarray, "layer second"]
) -> tuple[Float[np.ndarray, " edge"], Float[np.ndarray, "layer window"]]:
    """Edges of all windows up to the last one, and the effect in them; NaN in those that the map lacks."""
    begins = np.array(found.axes["second"], dtype=np.float64)
    width = found.window_seconds or float(np.diff(begins).min(initial=begins[-1] or 1.0))
    at = np.round(begins / width).astype(int)
    wide = np.full((len(effect), at[-1] + 1), np.nan)
    wide[:, at] = effect
    return np.arange(at[-1] + 2) * width, wide


def _draw(
    figure: go.Figure,
    found: EffectMap,
    edges: Float[np.ndarray, " edge"],
    effect: Float[np.ndarray, "layer window"],
    pixels: int,
) -> None:
    colours = two_sided(float(np.nanmin(effect)), float(np.nanmax(effect)), found.no_effect)
    layers = found.axes.get("layer", (None,))
    words = [
        [
            f"{'' if layer is None else f'layer {layer}, '}{begin:g} to {end:g} s"
            for begin, end in zip(edges[:-1].round(4), edges[1:].round(4), strict=True)
        ]
        for layer in layers
    ]
    bar = scale_bar(colours["zmin"], colours["zmax"])
    figure.add_heatmap(
        x=edges.round(4),
        y=np.arange(len(layers)),
        z=effect,
        name="effect",
        hoverongaps=False,
        **colours,
        customdata=words,
        hovertemplate="%{customdata}<br>%{z:.3f} on the scale of this pair<extra></extra>",
        colorbar={**bar, "len": max(150, pixels), "lenmode": "pixels", "y": 0, "yanchor": "bottom"},
    )


def _note(found: EffectMap, question: AudioQuestion, pair: int) -> str:
    text = f"{question.text} {question.answer}"
    return (
        f"{plain(text, 110)}<br>{DIRECTIONS[found.direction]}; {metric_name(found)}: {found.clean[pair]:.2f} clean, "
        f"{found.corrupted[pair]:.2f} corrupted"
    )
