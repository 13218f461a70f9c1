"""Reading sound files whole, or not at all: a truncated download must not pass for a shorter recording.

wav, flac and ogg are read by libsndfile, which knows how long they are; all else, and rare kinds of these, by FFmpeg
(`mechaudio.audio.media`). libsndfile reads what is there of a truncated file without a word, so the length is checked
against what the file itself promises: the size of the data chunk (wav), the last page (ogg), the number of frames. It
ends with the first of several streams that follow one another; those are read by FFmpeg as well.

Conventions: open files are read as bytes and able to seek; messages call them by their name.
"""

import io
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import wraps
from io import BufferedIOBase
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from jaxtyping import Float

from mechaudio.arguments import followed_home
from mechaudio.audio.containers import chunk_damage, ogg_damage
from mechaudio.audio.media import decode_media, media_duration
from mechaudio.notices import warn, withheld

HEADS = {b"RIFF": None, b"RIFX": None, b"RF64": None, b"fLaC": b"fLaC\0\0\0\x22", b"OggS": b"OggS\0\x02"}
"""First bytes of files that libsndfile reads, and of streams of which several can follow one another."""
UNKNOWN_FRAMES = 1 << 60  # libsndfile's word for a flac stream that does not say how long it is lies above this
REMEDY = "it is truncated or damaged: copy or download it again, or convert what is left to wav"

PATIENCE = 300.0
"""Seconds after which a decoder counts as one that hangs; it takes about one for an hour of sound."""
Decoded = TypeVar("Decoded")


def _patient(decode: Callable[[BufferedIOBase, str], Decoded]) -> Callable[[BufferedIOBase, str], Decoded]:
    """Decode in a thread that is given up on when it hangs, as decoders cannot be stopped from outside."""

    @wraps(decode)
    def decoded(file: BufferedIOBase, name: str) -> Decoded:
        outcome: Future[tuple[Decoded, list[str]]] = Future()

        def run() -> None:
            try:
                with withheld() as warnings:
                    outcome.set_result((decode(file, name), warnings))
            except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is waited for
                outcome.set_exception(error)

        # A daemon, as the end of the program does not wait for it.
        threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
        if not wait([outcome], PATIENCE).done:
            raise TimeoutError(
                f"{name} is not decoded after {PATIENCE:g} seconds: the decoder hangs on it, or the disk does. Convert "
                "it to wav, or leave it out"
            )
        result, warnings = outcome.result()
        for warning in warnings:  # here, where they point at the caller's line
            warn(warning)
        return result

    return decoded


def read_sound(path: str | os.PathLike) -> tuple[Float[np.ndarray, "*channels samples"], int]:
    """Read a sound file of any common kind.

    Returns:
        The samples as float32, `[samples]` or `[channels, samples]`, and their rate in Hz.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ValueError: If the file is a pipe or a device, empty, truncated, damaged, or not audio at all.
        TimeoutError: If the decoder hangs on it.
    """
    with opened_file(path) as file:
        return decode_sound(file, repr(os.fspath(path)))


def opened_file(path: str | os.PathLike) -> BufferedIOBase:
    """Open a sound file for reading bytes; a pipe is refused, for who waits for its end may wait for ever.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ValueError: If it is a pipe, a socket or a device.
    """
    name, path = repr(os.fspath(path)), Path(followed_home(os.fsdecode(path)))
    if os.path.isdir(path):  # unlike Path.is_dir, false for a name that no file can have
        raise IsADirectoryError(f"{name} is a folder: give one sound file")
    if not os.path.exists(path):
        advice = "; addresses are not opened: download it first" if re.match(r"'\w+://", name) else ""
        raise FileNotFoundError(f"there is no file {name} (looked from {os.getcwd()!r}){advice}")
    if not os.path.isfile(path):
        raise ValueError(f"{name} is a pipe or a device, not a file: write the sound to a file, and give that")
    return path.open("rb")


@_patient
def decode_sound(file: BufferedIOBase, name: str) -> tuple[Float[np.ndarray, "*channels samples"], int]:
    """Read an open sound file.

    Returns:
        The samples as float32, `[samples]` or `[channels, samples]`, and their rate in Hz.

    Raises:
        ValueError: If the file is empty, truncated, damaged, or not audio at all.
        TimeoutError: If the decoder hangs on it.
    """
    sound = _exact(file, name)
    if sound is None:
        return decode_media(file, name)
    with sound:
        rate, promised, kind = sound.samplerate, sound.frames, sound.format
        try:
            samples = sound.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.removeprefix("Error : ").rstrip(".")
            raise ValueError(f"{name} cannot be read ({reason}): the file is damaged, or not audio") from error
    if len(samples) < promised:
        raise ValueError(
            f"{name} promises {promised / rate:.2f} s of sound, and {len(samples) / rate:.2f} s can be read; {REMEDY}"
        )
    damage = {"FLAC": lambda _: "", "OGG": ogg_damage}.get(kind, chunk_damage)(file)
    if damage:
        raise ValueError(f"{name} {damage}, and {len(samples) / rate:.2f} s can be read; {REMEDY}")
    if not len(samples):
        raise ValueError(f"{name} holds no samples: 0 seconds of sound at {rate} Hz")
    return samples[:, 0] if samples.shape[1] == 1 else samples.T, rate


@_patient
def promised_duration(file: BufferedIOBase, name: str) -> float:
    """The length of an open sound file in seconds, without decoding its samples.

    Raises:
        ValueError: If the file is empty, damaged or not audio at all.
        TimeoutError: If the decoder hangs on it.
    """
    sound = _exact(file, name)
    if sound is None:
        return media_duration(file, name)
    with sound:
        return sound.frames / sound.samplerate


def _exact(file: BufferedIOBase, name: str) -> soundfile.SoundFile | None:
    """A wav, flac or ogg whose length libsndfile knows; None for anything else."""
    head = file.read(4)
    file.seek(0)
    if not head:
        raise ValueError(f"{name} is empty, 0 bytes: copy or download it again")
    if head not in HEADS:
        return None
    stream = HEADS[head]
    if stream is not None and file.read().count(stream) > 1:
        return None
    file.seek(0)
    if str(getattr(file, "name", "")).lower().endswith(".raw"):
        file = io.BytesIO(file.read())  # soundfile goes by the name, and would take it for samples without a header
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        return None
    if sound.frames <= UNKNOWN_FRAMES and not sound.subtype.startswith("MPEG"):
        return sound
    sound.close()
    return None
