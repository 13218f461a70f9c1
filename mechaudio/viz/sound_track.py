"""Parts of figures whose x axis is the time in a recording: the sound on the y axis `y3`, and what lies beside it.

Conventions: seconds from the start of the clip; heights in pixels.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.audio.sounds import SAMPLE_RATE
from mechaudio.viz.event_track import draw_events, lanes
from mechaudio.viz.sound import FLOOR, envelope, mel_spectrogram
from mechaudio.viz.theme import INK, SOUND_SCALE, VEIL, bare_axis

LANE_HEIGHT, SOUND_HEIGHT, GAP = 24, 110, 14
PERCEPTIBLE = 0.1
"""Seconds by which a clip must differ from what the model hears for the picture to say so."""


def draw_over(
    figure: go.Figure,
    pixels: int,
    *,
    events: Sequence[Event],
    clip: AudioClip | None,
    sound: Literal["waveform", "mel"],
    duration: float,
    span: float,
) -> int:
    """Draw a recording and its events over a map of seconds, and grey out what comes after it.

    Args:
        figure: Changed in place: the map is on its axes `x` and `y`.
        pixels: Height of the map.
        events: What sounds within the map.
        clip: The recording; None leaves it out.
        sound: As a mel spectrogram or as a waveform.
        duration: Of the recording.
        span: Seconds across the map.

    Returns:
        The height of all parts.
    """
    track = LANE_HEIGHT * (1 + max(lanes(events, span), default=-1))
    placed, whole = domains([pixels, track, 0 if clip is None else SOUND_HEIGHT])
    if events:
        draw_events(figure, events, span)
        figure.update_layout(yaxis2={"domain": placed[1]})
    if clip is not None:
        (draw_waveform if sound == "waveform" else draw_mel)(figure, clip)
        figure.update_layout(yaxis3={"domain": placed[2], "zeroline": False, "fixedrange": True})
    if span - duration > PERCEPTIBLE:
        draw_padding(figure, duration, span)
    time = bare_axis("time in the recording (s)", range=[0, span])
    figure.update_layout(barmode="overlay", bargap=0, xaxis=time, yaxis={"domain": placed[0]})
    return whole


def draw_waveform(figure: go.Figure, clip: AudioClip) -> None:
    """Add the outline of the waveform."""
    shape = envelope(clip.mono(SAMPLE_RATE), SAMPLE_RATE)
    loudest = max(float(shape.high.max()), float(-shape.low.min()), 1e-3)
    figure.add_scatter(
        x=np.concatenate([shape.times, shape.times[::-1]]).astype(np.float32),
        y=np.concatenate([shape.high, shape.low[::-1]]),
        fill="toself",
        fillcolor=INK,
        line={"width": 0.5, "color": INK},
        mode="lines",
        hoverinfo="skip",
        yaxis="y3",
        showlegend=False,
        name="waveform",
    )
    figure.update_layout(
        yaxis3={
            "title": {"text": "amplitude"},
            "tickvals": [-loudest, 0, loudest],
            "tickformat": ".2f",
            "range": [-1.05 * loudest, 1.05 * loudest],
        }
    )


def draw_mel(figure: go.Figure, clip: AudioClip) -> None:
    """Add the mel spectrogram in greys: the stronger, the louder."""
    mel = mel_spectrogram(clip.mono(SAMPLE_RATE), SAMPLE_RATE)
    figure.add_heatmap(
        x=mel.times.astype(np.float32),
        y=np.arange(len(mel.edges)),
        z=np.round(mel.level).astype(np.int8),
        zmin=FLOOR,
        zmax=0,
        colorscale=SOUND_SCALE,
        showscale=False,
        yaxis="y3",
        name="mel spectrogram",
        hovertemplate="%{x:.2f} s: %{z} dB below the loudest<extra></extra>",
    )
    marks = np.interp([250, 1000, 4000], mel.edges, np.arange(len(mel.edges))).round(2)
    names = ["250 Hz", "1 kHz", "4 kHz"]
    figure.update_layout(
        yaxis3={"title": {"text": "frequency"}, "tickvals": marks, "ticktext": names, "showgrid": False}
    )


def draw_padding(figure: go.Figure, duration: float, end: float) -> None:
    """Grey out what comes after the end of the clip: what a model hears there is padding."""
    figure.add_shape(
        type="rect",
        x0=duration,
        x1=end,
        y0=0,
        y1=1,
        xref="x",
        yref="paper",
        fillcolor=VEIL,
        line={"width": 0},
        layer="above",
        name="padding",
    )
    figure.add_annotation(
        x=(duration + end) / 2,
        y=1,
        xref="x",
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        font={"size": 11},
        name="padding",
        text="padding after the clip",
    )


def domains(heights: Sequence[int]) -> tuple[list[list[float]], int]:
    """Stack parts of these heights from the bottom up, a gap apart; 0 leaves a part out. Also the height of all."""
    shown = [height for height in heights if height]
    whole = sum(shown) + GAP * (len(shown) - 1)
    bottoms = [sum(height + GAP for height in heights[:i] if height) for i in range(len(heights))]
    return [
        [b / whole, min(1.0, (b + h) / whole)] if h else [0.0, 1.0] for b, h in zip(bottoms, heights, strict=True)
    ], whole
