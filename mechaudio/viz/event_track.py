"""The events of a recording as labelled bars in a figure whose x axis is time in seconds."""

from collections.abc import Sequence

import plotly.graph_objects as go

from mechaudio.audio.events import Event
from mechaudio.viz.theme import CYCLE, LIGHT, faded, plain

PLOT_WIDTH = 230
"""Pixels across a figure on a page of 420, where labels are to stay apart too."""
LETTER_WIDTH = 7.5
LONGEST_LABEL = 40


def lanes(events: Sequence[Event], span: float) -> list[int]:
    """For each event the first lane in which neither its bar nor its label meets one placed before it.

    Args:
        events: In any order.
        span: Seconds across the whole picture, which says how many seconds a letter takes.
    """
    ends: list[float] = []
    lane = [0] * len(events)
    for index in sorted(range(len(events)), key=lambda i: (footprint(events[i], span)[0], -events[i].offset)):
        start, end = footprint(events[index], span)
        free = next((number for number, taken in enumerate(ends) if taken <= start), len(ends))
        ends[free : free + 1] = [end]
        lane[index] = free
    return lane


def footprint(event: Event, span: float) -> tuple[float, float]:
    """The seconds that an event's bar and label take: a label that would run out on the right starts further left."""
    width = (min(len(event.label), LONGEST_LABEL) * LETTER_WIDTH + 10) * span / PLOT_WIDTH
    if event.onset + width <= span:
        return event.onset, max(event.offset, event.onset + width)
    return max(0.0, min(event.onset, event.offset - width)), max(event.offset, span)


def draw_events(figure: go.Figure, events: Sequence[Event], span: float) -> None:
    """Add a bar per event and its label on the y axis `y2`, and dotted lines at its onset and offset over `y`.

    Args:
        figure: Changed in place; its x axis is time in seconds.
        events: At least one; equal labels get equal colours.
        span: Seconds across the picture.
    """
    colours = {label: CYCLE[i % len(CYCLE)] for i, label in enumerate(dict.fromkeys(event.label for event in events))}
    placed = lanes(events, span)
    figure.update_layout(yaxis2={"range": [max(placed) + 0.5, -0.5], "visible": False, "fixedrange": True})
    for event, lane in zip(events, placed, strict=True):
        start, end = footprint(event, span)
        left = start == event.onset
        figure.add_bar(
            orientation="h",
            base=[event.onset],
            x=[event.offset - event.onset],
            y=[lane],
            width=0.82,
            yaxis="y2",
            marker={"color": faded(colours[event.label], 0.2), "line": {"width": 1, "color": colours[event.label]}},
            showlegend=False,
            name=plain(event.label),
            text=[
                f"{plain(event.label)}: {event.onset:.2f} to {event.offset:.2f} s ({event.offset - event.onset:.2f} s)"
            ],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
        figure.add_annotation(
            x=event.onset if left else min(event.offset, end),
            y=lane,
            xref="x",
            yref="y2",
            text=plain(event.label, LONGEST_LABEL),
            showarrow=False,
            xanchor="left" if left else "right",
            xshift=4 if left else -4,
            font={"size": 12},
            name="event",
        )
        for time in (event.onset, event.offset):
            for line in ({"color": faded(LIGHT, 0.6)}, {"color": colours[event.label], "dash": "dot"}):
                figure.add_shape(
                    type="line",
                    x0=time,
                    x1=time,
                    y0=0,
                    y1=1,
                    xref="x",
                    yref="y domain",
                    line={"width": 1.5, **line},
                )
