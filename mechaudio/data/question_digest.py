"""Digests of questions: what tells a question that was asked before from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip
from mechaudio.question import AudioQuestion


def digest(question: AudioQuestion, *, sized: bool = True) -> str:
    """Tell a question from others: by what it asks, its name, task and keyword, and its recordings.

    Nothing is decoded for it: a recording is known by its samples if it is in memory, else by the name of its file and,
    where the file is there, its size.

    Args:
        question: The question.
        sized: Whether the size counts; it does not for a question that could not be asked, whose file may be mended.
    """
    audio = question.audio
    recordings = audio if isinstance(audio, tuple) else (audio,)
    asked = [question.id, question.text, question.choices, question.answer, question.caption]
    asked.append([_sound(one, sized) for one in recordings])
    asked += [str(question.meta.get(name, "")) for name in ("task", "keyword")]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _sound(audio: Any, sized: bool) -> str:
    if isinstance(audio, AudioClip):
        return f"{audio.sample_rate} {hashlib.sha256(audio.waveform.tobytes()).hexdigest()}"
    if isinstance(audio, StoredClip):
        return Path(audio.source).name
    file = Path(audio or "")
    return f"{file.name} {file.stat().st_size}" if sized and file.is_file() else file.name
