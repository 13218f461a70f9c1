"""Which questions are about the same clip, whatever their ids and wherever the recording is kept.

What chooses and what reports must not share a clip, and questions of one clip are no independent samples: both need a
name of the clip that does not change when other questions are asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from mechaudio.arguments import checks_arguments, followed_home
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.files import opened_file, read_sound
from mechaudio.audio.stored import StoredClip
from mechaudio.question import AudioQuestion, Recording

#: In `meta` of a question that was kept without its recording: the name of its clip.
KNOWN_AS = "clip, as named among its questions"


@checks_arguments
def clips_of(questions: Iterable[AudioQuestion]) -> tuple[str, ...]:
    """Name the clip that each question is about: the same name for questions that must not be on both sides.

    Questions are about one clip if they have the same `meta["clip"]`, or recordings of the same content: copies of a
    file count as one, and so does an `AudioClip` that holds what its file holds. Questions about several recordings
    join these. A name depends on the other questions only where they join clips that were apart.

    Args:
        questions: Any number; files are read as bytes, and decoded only where an `AudioClip` came from them.
    """
    return clip_names([clip_keys(question) for question in questions])


def clip_keys(question: AudioQuestion) -> tuple[str, ...]:
    """Name everything by which a question shares a clip with another, `meta["clip"]` first."""
    if KNOWN_AS in question.meta:
        return (str(question.meta[KNOWN_AS]),)
    named = [f"clip {question.meta['clip']}"] if question.meta.get("clip") not in (None, "") else []
    audio = question.audio if isinstance(question.audio, tuple) else (question.audio,)
    keys = (*named, *(key for each in audio if each is not None for key in contents(each) or (f"sound {_name(each)}",)))
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


def contents(recording: Recording) -> tuple[str, ...]:
    """Give the digests of a recording; none of one that cannot be read, which is told when it is asked about.

    A clip in memory that is a whole file has the digest of its samples, and the file's.
    """
    try:
        if isinstance(recording, AudioClip):
            return _of_samples(recording.waveform, recording.sample_rate), *_file_of(recording)
        if isinstance(recording, StoredClip):
            return (_digest(iter((recording.read(),))),)
        return (_of_file(*_state(recording)),)
    except (OSError, ValueError):
        return ()


def _name(recording: Recording) -> str:
    known = recording.source if isinstance(recording, (AudioClip, StoredClip)) else recording
    return os.fspath(known or "")


def _file_of(clip: AudioClip) -> tuple[str, ...]:
    """The digest of the file that a clip came from, if it still is what is in it."""
    if clip.source is None:
        return ()
    try:
        state = _state(clip.source)
        same = _samples_of_file(*state) == _of_samples(clip.waveform, clip.sample_rate)
        return (_of_file(*state),) if same else ()
    except (OSError, ValueError):
        return ()  # it is gone, or was no file: then no other question is about it by its path


def _state(path: str | os.PathLike) -> tuple[str, tuple[int, ...]]:
    """A file as it is now."""
    name = followed_home(os.fsdecode(path))  # as it is opened: `..` behind a link leads elsewhere
    state = os.stat(name)
    # An inode is given to another file once this one is gone, and times of writing are copied with files.
    return name, (state.st_dev, state.st_ino, state.st_ctime_ns, state.st_mtime_ns, state.st_size)


def _of_samples(waveform: np.ndarray, sample_rate: int) -> str:
    return _digest(iter((str(sample_rate).encode(), np.ascontiguousarray(waveform))))


@lru_cache(maxsize=65536)
def _samples_of_file(path: str, state: tuple[int, ...]) -> str:  # noqa: ARG001  (as of `_of_file`)
    clip = AudioClip(*read_sound(path))
    return _of_samples(clip.waveform, clip.sample_rate)


@lru_cache(maxsize=65536)
def _of_file(path: str, state: tuple[int, ...]) -> str:  # noqa: ARG001  (what is cached is of this state of the file)
    with opened_file(path) as file:  # which refuses a pipe, that would be waited on for ever
        return _digest(iter(lambda: file.read(1 << 20), b""))


def _digest(parts: Iterable[bytes | np.ndarray]) -> str:
    content = blake2b(digest_size=12)
    for part in parts:
        content.update(part)
    return f"sound {content.hexdigest()}"
