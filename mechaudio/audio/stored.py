"""A recording that is not a file of its own: the bytes of one, kept in a dataset or an archive.

Conventions: a recording is an `AudioClip`, a `StoredClip` or the path of a file; `opened` makes a clip of any of them.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.files import decode_sound, opened_file, promised_duration


@dataclass(frozen=True, eq=False, repr=False)
class StoredClip:
    """The bytes of a sound file, or what else `AudioClip.load` takes, fetched and decoded each time `clip()` is called.

    Attributes:
        read: Fetches them.
        source: Where they are kept, for errors and as `AudioClip.source`.
    """

    read: Callable[[], Any]
    source: str

    def clip(self) -> AudioClip:
        """The recording.

        Raises:
            ValueError: If the bytes are not a whole sound file.
        """
        content = self.read()
        if isinstance(content, bytes):
            return AudioClip.load(AudioClip(*decode_sound(io.BytesIO(content), repr(self.source)), self.source))
        return replace(AudioClip.load(content), source=self.source)

    def __repr__(self) -> str:
        return f"StoredClip({self.source!r})"


def opened(audio: AudioClip | StoredClip | str | os.PathLike) -> AudioClip:
    """The clip itself, wherever it is kept.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If what is there is not a whole sound file.
    """
    if isinstance(audio, AudioClip):
        return audio
    return audio.clip() if isinstance(audio, StoredClip) else AudioClip.load(audio)


def recording_of(audio: Any, owner: str) -> AudioClip | StoredClip | str | os.PathLike:
    """A recording as it is kept: a path stays one, and what is in memory becomes a clip.

    Raises:
        TypeError: For what is no recording.
        ValueError: For a blank path, and for sound that is damaged.
    """
    if isinstance(audio, (AudioClip, StoredClip, os.PathLike)):
        return audio
    if isinstance(audio, str):
        if not audio.strip():
            raise ValueError(
                f"audio of {owner} is a blank path, {audio!r}: give the path of a file, or None for no recording"
            )
        return audio
    try:
        return AudioClip.load(audio)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"audio of {owner}: {error}") from error


def duration_of(audio: AudioClip | StoredClip | str | os.PathLike) -> float:
    """Length in seconds, from the file's header alone: cheap, and blind to damage behind it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, of another format or not audio at all.
    """
    if isinstance(audio, AudioClip):
        return audio.duration
    if isinstance(audio, StoredClip):
        content = audio.read()
        if not isinstance(content, bytes):
            return audio.clip().duration
        return promised_duration(io.BytesIO(content), repr(audio.source))
    with opened_file(audio) as file:
        return promised_duration(file, repr(os.fspath(audio)))
