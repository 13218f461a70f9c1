"""A recording as a player for notebooks, of bounded size.

Conventions: seconds from the start of the clip.
"""

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from jaxtyping import Int16

if TYPE_CHECKING:
    from mechaudio.audio.clip import AudioClip

LARGEST = 1_000_000
"""Bytes of 16-bit samples in a page; more are played at 16 kHz in one channel, and what is still too much is cut."""
PLAIN_RATE = 16_000


def playable(clip: "AudioClip") -> tuple[str, tuple[str, ...]]:
    """Encode a sound as a `data:` address of bounded size for an audio element, and say what is left out of it."""
    samples, rate, notes = clip.waveform, clip.sample_rate, []
    if 2 * samples.size > LARGEST and (samples.ndim > 1 or rate > PLAIN_RATE):
        rate = min(rate, PLAIN_RATE)
        samples = clip.mono(rate)
        notes.append(f"played in one channel at {rate} Hz")
    most = LARGEST // (2 if samples.ndim == 1 else 2 * samples.shape[0])
    if samples.shape[-1] > most:
        samples = samples[..., :most]
        notes.append(f"the first {most / rate:.1f} s of {clip.duration:.1f} s can be played here")
    return _data_uri(samples.T, rate), tuple(notes)


def player(clip: "AudioClip") -> str:
    """Write an audio element that holds the sound itself, and a line on what it is and what is left out."""
    sound, notes = playable(clip)
    title = html.escape("; ".join([repr(clip), *notes]), quote=True)
    return (
        f'<figure style="margin:0"><audio controls style="width:100%;max-width:420px" src="{sound}"></audio>'
        f'<figcaption style="overflow-wrap:anywhere">{title}</figcaption></figure>'
    )


def wav_data_uri(samples: Int16[np.ndarray, " samples"], sample_rate: int) -> str:
    """Mono 16-bit sound as a `data:` address for an `<audio>` element."""
    return _data_uri(samples, sample_rate)


def _data_uri(samples: np.ndarray, rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode("ascii")
