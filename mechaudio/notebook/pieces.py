"""Pieces of HTML: a frame, a table, a spectrogram, the events of a recording.

Conventions: whatever comes from outside goes through `text`; seconds from the start of the clip.
"""

import base64
import html
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.events import Event
from mechaudio.audio.player import player
from mechaudio.viz.event_track import footprint, lanes
from mechaudio.viz.sound import mel_spectrogram
from mechaudio.viz.theme import CYCLE, FAINT, faded

LONGEST_TEXT = 400
"""Characters of one text."""
LONGEST_WORD = 32
"""Characters of a cell that stands in one line."""
SHOWN_DECIBELS = 50
"""Below the loudest cell of a spectrogram; what is softer is clear."""
_BOX = f"border:1px solid {FAINT};border-radius:6px;padding:8px 10px;max-width:960px"
_FITTED = "overflow-x:auto;overflow-wrap:anywhere"
_FONT = "font:13px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;text-align:left"
_CELL = f"padding:2px 8px;border-bottom:1px solid {FAINT};text-align:left"
_WRAPPED = ";overflow-wrap:anywhere;min-width:120px;max-width:260px"
_LANE = 20
"""Pixels of a lane of events."""


def text(value: object, longest: int = LONGEST_TEXT) -> str:
    """Anything as a reader sees it, letter by letter, cut to a length."""
    words = str(value)
    if len(words) > longest:
        words = words[: longest - 1].rstrip() + "…"
    return html.escape(words, quote=True)


def frame(title: str, *parts: str) -> str:
    """A box with a title; its parts are HTML already.

    Args:
        title: in plain text.
        *parts: what stands below it; empty ones are left out.
    """
    body = "".join(f'<div style="margin-top:6px">{part}</div>' for part in parts if part)
    return f'<div style="{_BOX};{_FITTED};{_FONT}"><div style="font-weight:600">{text(title, 600)}</div>{body}</div>'


def note(words: str) -> str:
    """A line in small letters; in plain text."""
    return f'<div style="opacity:.75;font-size:12px">{text(words, 600)}</div>' if words else ""


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers are rounded to four digits."""
    names = "".join(f'<th style="{_CELL};font-weight:600;white-space:nowrap">{text(name, 80)}</th>' for name in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;{_FONT}">'
        f"<thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    words = f"{value:.4g}" if isinstance(value, (float, np.floating)) else "" if value is None else str(value)
    wrapped = _WRAPPED if len(words) > LONGEST_WORD else ";white-space:nowrap"
    return f'<td style="{_CELL}{wrapped}">{text(words, 160)}</td>'


def chip(words: str, colour: str, title: str = "") -> str:
    """A stretch of text on a tint of a colour."""
    said = f' title="{text(title)}"' if title else ""
    style = f"background:{faded(colour, 0.22)};border-radius:3px;padding:0 2px;white-space:pre-wrap"
    return f'<span style="{style}"{said}>{text(words, 100_000)}</span>'


def recording(clip: AudioClip, events: Sequence[Event] = ()) -> str:
    """A player, and the sound as a spectrogram with its events above it."""
    spectrogram = mel_spectrogram(clip.mono(), clip.sample_rate)
    level = np.clip(1 + spectrogram.level / SHOWN_DECIBELS, 0, 1) ** 1.5
    picture = base64.b64encode(_png((255 * level[::-1]).astype(np.uint8))).decode("ascii")
    drawn = (
        f'<img alt="log-mel spectrogram" src="data:image/png;base64,{picture}" '
        'style="display:block;width:100%;height:72px;image-rendering:auto">'
    )
    ends = (
        '<div style="display:flex;justify-content:space-between;font-size:11px;opacity:.75">'
        f"<span>0 s</span><span>{clip.duration:.2f} s</span></div>"
    )
    return f'{player(clip)}<div style="margin-top:6px">{_event_lanes(events, clip.duration)}{drawn}{ends}</div>'


def _event_lanes(events: Sequence[Event], seconds: float) -> str:
    heard = [event for event in events if event.onset < seconds]
    if not heard:
        return ""
    places = lanes(heard, seconds)
    colours = {label: CYCLE[i % len(CYCLE)] for i, label in enumerate(dict.fromkeys(event.label for event in heard))}
    bars = "".join(
        _bar(event, seconds, colours[event.label], _LANE * lane) for event, lane in zip(heard, places, strict=True)
    )
    height = _LANE * (max(places) + 1)
    return f'<div style="position:relative;overflow:hidden;height:{height}px">{bars}</div>'


def _bar(event: Event, seconds: float, colour: str, top: int) -> str:
    """An event as a bar from its onset to its offset, in percent of the clip."""
    left, width = (100 * part / seconds for part in (event.onset, min(event.offset, seconds) - event.onset))
    end = ";display:flex;justify-content:flex-end" if footprint(event, seconds)[0] < event.onset else ""
    said = text(f"{event.label}, {event.onset:.2f} to {event.offset:.2f} s")
    style = (
        f"position:absolute;left:{left:.2f}%;width:{width:.2f}%;top:{top}px;height:{_LANE - 3}px;"
        f"background:{faded(colour, 0.3)};border-left:2px solid {colour};box-sizing:border-box;white-space:nowrap;"
        f"font-size:11px;padding:0 3px{end}"
    )
    return f'<div title="{said}" style="{style}">{text(event.label, 40)}</div>'


def _png(alpha: UInt8[np.ndarray, "row column"]) -> bytes:
    """A picture of one grey, more or less opaque, so that it shows on light and on dark pages."""
    height, width = alpha.shape
    lines = np.zeros((height, 1 + 2 * width), dtype=np.uint8)
    lines[:, 1::2], lines[:, 2::2] = 124, alpha

    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 4, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
