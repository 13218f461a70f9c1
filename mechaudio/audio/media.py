"""Compressed sound to its last sample: what phones, recorders and the web write, decoded by FFmpeg (PyAV).

A length that a file does not say is never taken from an estimate. What mp4, webm, ogg and aiff files, a flac, or an mp3
with a Xing or VBRI header promise is checked against what is there; bare mp3 or aac frames promise nothing, and their
end is the end of the file.

Conventions: samples are float32 with full scale at 1.0; durations in seconds; files are open for reading bytes, able to
seek, and messages call them by their name.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mechaudio.arguments import n_of
from mechaudio.audio.containers import FILLING, chunk_damage, matroska_damage, mp4_damage, ogg_damage
from mechaudio.notices import warn

if TYPE_CHECKING:
    from av.container import InputContainer

READ = "wav, flac, mp3, ogg, opus, m4a, aac, mp4, 3gp, webm, mkv, mov, aiff, caf or amr"
DEMUXERS = "aac,aiff,amr,caf,flac,matroska,mov,mp3,ogg,w64,wav"  # none that opens a second file or address, as hls does
STRICT = {"err_detect": "crccheck+explode"}  # damage is an error, and not patched over
EXACT = ("aiff", "caf", "flac", "w64", "wav")
GAPLESS = 0.2  # seconds of an mp3 that its header may declare to be padding
DAMAGE = {"ogg": ogg_damage, "mp4": mp4_damage, "matroska": matroska_damage} | dict.fromkeys(
    ("wav", "aiff", "caf"), chunk_damage
)
PAUSE = 0.1  # seconds without a packet that are a gap; what is behind it would be heard too early
TAGS = (b"TAG", b"APETAGEX", b"ID3", b"LYRICS", b"3DI")  # what stands behind the last frame of an mp3
KILOBITS = {
    (3, True): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, True): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of a frame, by index from 1: of layers III (mp3) and II (mp2), of MPEG-1, and MPEG-2 and 2.5."""


def decode_media(file: BufferedIOBase, name: str) -> tuple[Float[np.ndarray, "*channels samples"], int]:
    """Decode an open file to its end.

    Returns:
        The samples as float32, `[samples]` or `[channels, samples]`, and their rate in Hz; of several tracks the first,
        with a warning.

    Raises:
        ValueError: If the file holds no sound, is damaged, or breaks off before what it promises; if PyAV is missing.
    """
    with _opened(file, name) as container:
        decoded = _decoded(container, name)
        promised, kind = _promised(container, file, decoded.times), container.format.name
    samples = np.concatenate(decoded.parts, axis=1) if decoded.parts else np.zeros((1, 0), np.float32)
    frame = max((part.shape[1] for part in decoded.parts), default=0)
    slack = 0 if kind in EXACT else 2 * frame if "matroska" in kind else frame
    seconds = _summed(decoded.times) if kind == "mp3" else (samples.shape[1] + slack) / decoded.rate
    lost = f"promises {promised:.2f} s of sound" if promised is not None and seconds < promised else ""
    damage = next((damage_of for word, damage_of in DAMAGE.items() if word in kind), None)
    lost = lost or (damage(file) if damage else "") or _gap(kind, decoded.times)
    if decoded.broken or lost:
        raise ValueError(
            f"{name} {lost or 'is cut off or damaged'}, and {samples.shape[1] / decoded.rate:.2f} s can be read"
            f"{decoded.broken}: it is truncated or damaged; copy or download it again, or convert what is left to wav"
        )
    if not samples.shape[1]:
        raise ValueError(f"{name} holds no samples, 0 seconds of sound: the file is damaged, or not audio")
    if "mp4" in kind and promised is not None and samples.shape[1] - frame <= promised * decoded.rate:
        samples = samples[:, : round(promised * decoded.rate)]  # the last frame is filled up with silence
    return (samples[0] if len(samples) == 1 else samples), decoded.rate


def media_duration(file: BufferedIOBase, name: str) -> float:
    """The length of an open file in seconds, from what it promises or from its frames; nothing is decoded.

    Raises:
        ValueError: If the file is damaged, or no sound; if PyAV is missing.
    """
    with _opened(file, name) as container:
        stream, kind = container.streams.audio[0], container.format.name
        declared = _declared(container)
        if declared is not None and kind not in ("aac", "flac", "mp3", "ogg") and "matroska" not in kind:
            return declared
        times = [_time(packet) for packet in container.demux(stream) if packet.size]
        if "matroska" in kind:  # of several behind one another, the length of the first is declared
            return max(declared or 0.0, _summed(times))
        if kind == "ogg":
            return _ogg_seconds(times)
        total = _summed(times)
        if kind == "flac":
            return max(_flac_seconds(file), total)
        counted = kind == "mp3" and declared is not None and 0 <= total - declared < GAPLESS and _mp3_count(file)
        return declared if counted and declared is not None else total


@dataclass
class _Decoded:
    """Pieces `[channels, samples]`, their rate, when each packet begins and how long it is, and what broke it off."""

    parts: list[np.ndarray] = field(default_factory=list)
    rate: int = 1
    times: list[tuple[float, float]] = field(default_factory=list)
    broken: str = ""


def _av(name: str) -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f"{name} is read with PyAV, which is not installed: pip install av, or convert the file to wav or flac"
        ) from error
    return av


class _Seeking:
    """A file that answers FFmpeg where it cannot go, instead of an error that PyAV would print."""

    def __init__(self, file: BufferedIOBase):
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


@contextmanager
def _opened(file: BufferedIOBase, name: str) -> "Iterator[InputContainer]":
    av = _av(name)
    file.seek(0)
    # PyAV before 19 fails at tags that are not UTF-8 unless it is told not to; later ones take no such option.
    tags = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
    try:
        with av.open(_Seeking(file), options={"format_whitelist": DEMUXERS, **STRICT}, **tags) as container:
            tracks = len(container.streams.audio)
            if not tracks:
                raise ValueError(f"{name} holds no sound: give a recording, or a film that has some")
            if tracks > 1:
                warn(f"{name} holds {tracks} tracks of sound; the first is read")
            yield container
    except av.FFmpegError as error:
        raise ValueError(
            f"{name} cannot be read as {READ} audio ({error.strerror}): the file is damaged, or not audio"
        ) from error


def _decoded(container: "InputContainer", name: str) -> _Decoded:
    av = _av(name)
    stream, is_mp3 = container.streams.audio[0], container.format.name == "mp3"
    stream.codec_context.options = STRICT
    resampler, decoded, behind = av.AudioResampler(format="fltp"), _Decoded(), b""
    kinds = dict[tuple[int, int], None]()
    for packet in container.demux(stream):
        if is_mp3 and packet.size and bytes(packet)[:1] != b"\xff":
            behind += bytes(packet)
            continue
        if behind and (packet.size or not _is_tag(behind)):  # between frames it stands where sound was
            decoded.broken = " before bytes that are no sound"
            return decoded
        if packet.size and (packet.is_corrupt or (is_mp3 and packet.size < _mp3_frame(bytes(packet)[:4]))):
            decoded.broken = " before a frame that is cut off"
            return decoded
        try:
            frames = packet.decode()
            for frame in frames:
                kinds.setdefault((frame.sample_rate, frame.layout.nb_channels))
            if len(kinds) > 1:
                first, other = (f"{rate} Hz and {n_of(n, 'channel')}" for rate, n in kinds)
                decoded.broken = f" before it goes from {first} to {other}, as other recordings behind the first do"
                return decoded
            pieces = [piece for frame in frames for piece in resampler.resample(frame)]
        except (av.FFmpegError, ValueError) as error:
            decoded.broken = f" before a damaged frame ({getattr(error, 'strerror', error)})"
            return decoded
        decoded.parts += [piece.to_ndarray() for piece in pieces]
        decoded.times += [_time(packet)] if packet.size else []
        decoded.rate = resampler.rate or 1
    if decoded.parts:
        decoded.parts += [piece.to_ndarray() for piece in resampler.resample(None)]
    return decoded


def _is_tag(behind: bytes) -> bool:
    """Return whether bytes behind the last frame of an mp3 are what is written there, and not what was a frame."""
    return behind.startswith(TAGS) or (len(behind) <= FILLING and not behind.strip(b"\0"))


def _time(packet: Any) -> tuple[float, float]:
    duration = packet.duration or 0  # that of an ogg's last packet may be negative, and wraps
    return float((packet.pts or 0) * packet.time_base), float(
        duration * packet.time_base
    ) if duration < 1 << 31 else 0.0


def _gap(kind: str, times: Sequence[tuple[float, float]]) -> str:
    """Describe the first gap between packets that have times of their own; an empty text where there is none."""
    if "matroska" in kind or "mp4" in kind:
        for (begin, duration), (following, _) in pairwise(times):
            if duration and following - begin - duration > PAUSE:
                return f"has no sound for {following - begin - duration:.2f} s behind {begin + duration:.2f} s"
    return ""


def _summed(times: Sequence[tuple[float, float]]) -> float:
    return math.fsum(duration for _, duration in times)


def _declared(container: "InputContainer") -> float | None:
    stream = container.streams.audio[0]
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    end = None if container.duration is None else container.duration / 1e6
    if len(container.streams) > 1:  # a film, whose pictures may go on for longer
        written = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
        end = None if written is None else 3600 * int(written[1]) + 60 * int(written[2]) + float(written[3])
    return None if end is None else end - float((stream.start_time or 0) * (stream.time_base or 0))


def _promised(container: "InputContainer", file: BufferedIOBase, times: Sequence[tuple[float, float]]) -> float | None:
    """Seconds of sound that the file itself says it has; None where FFmpeg could only guess."""
    kind = container.format.name
    if kind == "aac":
        return None
    if kind == "ogg":
        is_flac = container.streams.audio[0].codec_context.name == "flac"  # its packets say no time of their own
        return max(_ogg_seconds(times), (_declared(container) or 0.0) if is_flac else 0.0)
    if kind == "flac":
        return _flac_seconds(file)
    if kind == "mp3":  # some encoders count the header as a frame
        count = _mp3_count(file)
        return (count - 1.5) * times[0][1] if count and times else None
    return _declared(container)


def _mp3_count(file: BufferedIOBase) -> int | None:
    """The number of frames that a Xing or VBRI header says there are; None without one."""
    start = 0
    file.seek(0)
    while (head := file.read(10))[:3] == b"ID3" and len(head) == 10:
        start += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(start)
    file.seek(start)
    first = file.read(1 << 14)
    frame = first[max(first.find(b"\xff"), 0) :][:128]
    for word, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        at = frame.find(word, 0, 64)
        if at >= 0 and (word == b"VBRI" or frame[at + 7] & 1):
            return int.from_bytes(frame[at + offset : at + offset + 4], "big")
    return None


def _flac_seconds(file: BufferedIOBase) -> float:
    """Seconds that the streams of a flac file say they last; 0 of one that does not know."""
    file.seek(0)
    content = file.read()
    heads = [
        int.from_bytes(content[at.end() + 10 : at.end() + 18], "big") for at in re.finditer(b"fLaC\0\0\0\x22", content)
    ]
    return math.fsum((head & (1 << 36) - 1) / (head >> 44) for head in heads if head >> 44)


def _mp3_frame(head: bytes) -> int:
    """Count the bytes of a frame of layer III or II with this header; 0 for layer I, or where none is said."""
    layer = 4 - (head[1] >> 1 & 3) if len(head) == 4 else 1
    if layer not in (2, 3) or head[2] >> 2 & 3 == 3 or not 0 < head[2] >> 4 < 15:
        return 0
    version = head[1] >> 3 & 3  # 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5
    rate = (44_100, 48_000, 32_000)[head[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}.get(version, 1)
    bytes_per_kilobit = (144_000 if version == 3 or layer == 2 else 72_000) / rate
    return int(bytes_per_kilobit * KILOBITS[layer, version == 3][(head[2] >> 4) - 1]) + (head[2] >> 1 & 1)


def _ogg_seconds(times: Sequence[tuple[float, float]]) -> float:
    """From the first packet's time to the end of the last one's, for each of the streams that follow one another."""
    total, first, last = 0.0, None, 0.0
    for begin, duration in times:
        if first is None or begin < last - 1:
            total, first = total + (0.0 if first is None else last - first), max(begin, 0.0)
        last = begin + duration
    return total + (0.0 if first is None else last - first)
