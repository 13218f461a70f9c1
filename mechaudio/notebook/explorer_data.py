"""The data of the explorer's front end, as JSON: the sound, the prompt, its attention, and the answer.

Conventions: arrays are base64 of bytes in the order of rows; those of attention are deflated (zlib) before, a query row
at a time, so that a page unpacks only the rows that are looked at. Floats are little-endian, 32 bits wide. Texts are
plain: the front end shows them letter by letter.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int16

from mechaudio.analyses.prompt_attention import PromptAttention
from mechaudio.audio.events import Event
from mechaudio.audio.player import wav_data_uri
from mechaudio.audio.sounds import SAMPLE_RATE
from mechaudio.viz.event_track import footprint, lanes
from mechaudio.viz.sound import FLOOR, mel_spectrogram
from mechaudio.viz.theme import CYCLE, INK, ROLE_COLOURS

_FRONT = Path(__file__).parent / "front"
FRAMES = 640
"""Columns of the spectrogram."""


def explorer_data(
    attention: PromptAttention,
    samples: Float[np.ndarray, " samples"],
    *,
    text: str,
    events: Sequence[Event] = (),
    answer: dict[str, Any],
    most: int | None = None,
) -> dict[str, Any]:
    """Everything that the front end shows of one prompt.

    Args:
        attention: The prompt's tokens and rows of attention.
        samples: All clips, one behind the other, at 16 kHz; none for a prompt without sound.
        text: The question.
        events: What sounds when.
        answer: As `chosen` or `written` give it.
        most: Characters that rows of attention may take; the last ones are kept. None keeps all.
    """
    return {
        "text": text,
        "tokens": tokens(attention),
        "apart": not any(token.startswith((" ", "Ġ", "▁")) for token in attention.tokens),
        "colours": {role: ROLE_COLOURS.get(role, INK) for role in dict.fromkeys(attention.roles)},
        "layers": attention.cells.shape[1],
        "heads": attention.cells.shape[2],
        "rows": rows(attention, most),
        "clips": list(attention.clips),
        "seconds": len(samples) / SAMPLE_RATE,
        "spectrogram": spectrogram(samples) if len(samples) else None,
        "events": placed(events, len(samples) / SAMPLE_RATE),
        "answer": answer,
    }


def front(name: str) -> str:
    """The front end itself: `explorer.js`, a JavaScript module, or `explorer.css`."""
    return (_FRONT / name).read_text(encoding="utf-8")


def tokens(attention: PromptAttention) -> list[dict[str, Any]]:
    """Every position: how it reads, its role, and the seconds that it hears."""
    parts = zip(attention.tokens, attention.roles, attention.heard, strict=True)
    return [
        {"text": text, "role": role, "heard": [[round(end, 4) for end in stretch] for stretch in heard]}
        for text, role, heard in parts
    ]


def rows(attention: PromptAttention, most: int | None = None) -> dict[str, dict[str, str]]:
    """Rows of attention by position: `cells`, deflated, and `largest`; of too many characters the last rows."""
    kept: dict[str, dict[str, str]] = {}
    used = 0
    for index in reversed(range(len(attention.queries))):
        row = {
            "cells": base64.b64encode(zlib.compress(attention.cells[index].tobytes(), 6)).decode("ascii"),
            "largest": base64.b64encode(attention.largest[index].astype("<f4").tobytes()).decode("ascii"),
        }
        used += sum(map(len, row.values()))
        if most is not None and used > most and kept:
            break
        kept[str(attention.queries[index])] = row
    return kept


def spectrogram(samples: Float[np.ndarray, " samples"]) -> dict[str, Any]:
    """A byte per cell of the log-mel spectrogram, band by band from the lowest: 255 is the loudest, 0 is 70 dB less."""
    drawn = mel_spectrogram(samples, SAMPLE_RATE, n_bands=64, frames=FRAMES)
    cells = np.rint(255 * (1 - drawn.level / FLOOR)).astype(np.uint8)
    return {
        "bands": cells.shape[0],
        "frames": cells.shape[1],
        "cells": base64.b64encode(zlib.compress(cells.tobytes(), 6)).decode("ascii"),
    }


def placed(events: Sequence[Event], seconds: float) -> list[dict[str, Any]]:
    """Events that begin within the sound, with a lane and a colour, which equal labels share.

    A label that would run out on the right stands at the `end` of its bar.
    """
    sounding = [event for event in events if event.onset < seconds]
    colours = {label: CYCLE[i % len(CYCLE)] for i, label in enumerate(dict.fromkeys(e.label for e in sounding))}
    return [
        {
            "label": event.label,
            "onset": event.onset,
            "offset": min(event.offset, seconds),
            "lane": lane,
            "end": footprint(event, seconds)[0] < event.onset,
            "colour": colours[event.label],
        }
        for event, lane in zip(sounding, lanes(sounding, seconds), strict=True)
    ]


def sound(samples: Float[np.ndarray, " samples"] | Int16[np.ndarray, " samples"]) -> str | None:
    """Mono sound of 16 kHz as a `data:` address, None without any."""
    if not len(samples):
        return None
    whole = samples if samples.dtype == np.int16 else np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    return wav_data_uri(whole, SAMPLE_RATE)


def chosen(
    names: Sequence[str], choices: Sequence[str], probabilities: Sequence[float], right: str | None
) -> dict[str, Any]:
    """The probabilities of choices, and which of them are right.

    Args:
        names: Their letters, or `target` and `foil`.
        choices: Their texts.
        probabilities: Over the choices alone.
        right: The text of the right one, if it is known.
    """
    return {
        "names": list(names),
        "choices": list(choices),
        "right": [choice == right for choice in choices],
        "probabilities": [float(probability) for probability in probabilities],
    }


def written(text: str, right: str | None) -> dict[str, Any]:
    """The text that a model wrote to an open question, and the answer that is known."""
    return {"written": text, "right": right}
