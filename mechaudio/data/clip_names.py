"""Which questions are about the same clip, whatever their ids and wherever the recording is kept.

What chooses and what reports must not share a clip, and questions of one clip are no independent samples: both need a
name of the clip that does not change when other questions are asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mechaudio.arguments import checks_arguments
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.files import opened_file
from mechaudio.audio.stored import StoredClip
from mechaudio.question import AudioQuestion, Recording


@checks_arguments
def clips_of(questions: Iterable[AudioQuestion]) -> tuple[str, ...]:
    """Name the clip that each question is about: the same name for questions that must not be on both sides.

    Questions are about one clip if they have the same `meta["clip"]`, or recordings of the same content: copies of a
    file count as one. Questions about several recordings join these. A name depends on the other questions only where
    they join clips that were apart.

    Args:
        questions: Any number; recordings are read as bytes, not decoded.
    """
    return clip_names([clip_keys(question) for question in questions])


def clip_keys(question: AudioQuestion) -> tuple[str, ...]:
    """Name everything by which a question shares a clip with another, `meta["clip"]` first."""
    named = [f"clip {question.meta['clip']}"] if question.meta.get("clip") not in (None, "") else []
    audio = question.audio if isinstance(question.audio, tuple) else (question.audio,)
    keys = (*named, *(_content(recording) for recording in audio if recording is not None))
    if keys:
        return keys
    return (f"caption {question.caption}",) if question.caption else (f"question {question.id or question.text}",)


def clip_names(keys: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Name the clip of each question by the first key of all those that are joined by sharing one."""
    above: dict[str, str] = {}

    def root(key: str) -> str:
        while above.setdefault(key, key) != key:
            above[key] = key = above[above[key]]
        return key

    for own in keys:
        for key in own[1:]:
            first, second = sorted((root(own[0]), root(key)))  # "clip ..." sorts before "sound ..."
            above[second] = first
    return tuple(root(own[0]) for own in keys)


def _content(recording: Recording) -> str:
    """A digest of a recording; of one that cannot be read, which is told when it is asked about, its name."""
    if isinstance(recording, AudioClip):
        parts: Iterator[bytes] = iter((str(recording.sample_rate).encode(), np.ascontiguousarray(recording.waveform)))
        return _digest(parts)
    try:
        if isinstance(recording, StoredClip):
            return _digest(iter((recording.read(),)))
        path = Path(recording).expanduser().resolve()
        state = path.stat()
        return _of_file(str(path), state.st_mtime_ns, state.st_size)
    except (OSError, ValueError):
        return f"sound {recording.source if isinstance(recording, StoredClip) else os.fspath(recording)}"


@lru_cache(maxsize=65536)
def _of_file(path: str, modified: int, size: int) -> str:  # noqa: ARG001  (what is cached is of this state of the file)
    with opened_file(path) as file:  # which refuses a pipe, that would be waited on for ever
        return _digest(iter(lambda: file.read(1 << 20), b""))


def _digest(parts: Iterable[bytes | np.ndarray]) -> str:
    content = blake2b(digest_size=12)
    for part in parts:
        content.update(part)
    return f"sound {content.hexdigest()}"
