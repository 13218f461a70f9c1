"""Digests of questions: what tells a question that was asked before from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip
from mechaudio.data.clip_names import contents
from mechaudio.question import AudioQuestion, Recording


def digest(question: AudioQuestion, *, sound: bool = True) -> str:
    """Tell a question from others: by what it asks, its name, what models read of its `meta`, and its recordings.

    Nothing is decoded for it: a recording is known by its samples if it is in memory, else by the name of its file and,
    where the file can be read, its bytes.

    Args:
        question: The question.
        sound: Whether the bytes count; they do not for a question that could not be asked, whose file may be mended.
    """
    audio = question.audio
    recordings = audio if isinstance(audio, tuple) else (audio,)
    asked = [question.id, question.text, question.choices, question.answer, question.caption]
    asked.append([_recording(one, sound) for one in recordings])
    asked += [str(question.meta.get(name, "")) for name in ("task", "keyword", "transcript")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _recording(audio: Recording | None, sound: bool) -> str:
    if isinstance(audio, AudioClip):
        return f"{audio.sample_rate} {hashlib.sha256(audio.waveform.tobytes()).hexdigest()}"
    name = Path(audio.source if isinstance(audio, StoredClip) else audio or "").name
    return " ".join((name, *(contents(audio) if sound and audio is not None else ())))
