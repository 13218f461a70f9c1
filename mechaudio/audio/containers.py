"""Damage to containers of compressed sound, told by their own pages, boxes and elements.

Decoders go on behind what they cannot read, and give a shorter sound without a word: a page of an ogg file whose
checksum is wrong is left out, and so is what an mp4 or webm has behind a hole. Each function says what is wrong with a
file, as the end of a sentence, and returns an empty text where the file is whole.

Conventions: files are open for reading bytes, and able to seek; places in them are bytes from 0.
"""

import os
import re
import zlib
from io import BufferedIOBase

from mechaudio.arguments import n_of

OGG_PAGE, OGG_HEAD = b"OggS", 27
OGG_FIRST_PAGE, OGG_LAST_PAGE = 2, 4
MATROSKA_GROUPS = (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75")
"""Names of the elements whose own elements are gone through: the segment, and the clusters in it."""
CHUNK = re.compile(rb"[\x20-\x7e]{4}")
RECORDINGS = (b"data", b"SSND", b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff")
"""Names of the chunks that hold sound, or a whole file; decoders read the first one alone."""
WAVS = (b"RIFF", b"RIFX", b"RF64")
UNKNOWN_BYTES = 0x7FFFF000  # programs that write a wav into a pipe put this or more where the size should be
UNFINISHED = ", as recorders leave them that stop before they write the length"
TEXTS = (b"LIST", b"id3 ", b"ID3 ")
"""Names of chunks that hold texts; some programs write a size that is too large."""
FILLING = 128
"""Most bytes of nothing behind the end of what a file holds."""
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""The bits of each byte in the other order: zlib computes the mirror image of ogg's checksum."""


def ogg_damage(file: BufferedIOBase) -> str:
    """Describe what is wrong with the pages of an ogg file: one is damaged or left out, or the last one is missing."""
    file.seek(0)
    data, at, is_last, following = file.read(), 0, False, dict[bytes, int]()
    while at < len(data):
        page = data[at : at + OGG_HEAD + 255]
        if page[:4] != OGG_PAGE or len(page) < OGG_HEAD:
            if is_last:
                return ""  # a tag behind the last page
            outside = f"holds {n_of(len(data) - at, 'byte')} outside its pages"
            return outside if page[:4] != OGG_PAGE else "has no last page"
        n_segments = page[26]
        size = OGG_HEAD + n_segments + sum(page[OGG_HEAD : OGG_HEAD + n_segments])
        if at + size > len(data):
            return "has no last page"
        if _ogg_checksum(data[at : at + size]) != int.from_bytes(page[22:26], "little"):
            return f"has a damaged page at byte {at}"
        stream, number = page[14:18], int.from_bytes(page[18:22], "little")
        if not page[5] & OGG_FIRST_PAGE and following.get(stream) != number:
            return f"lacks pages before byte {at}"
        following[stream] = (number + 1) % (1 << 32)
        is_last = bool(page[5] & OGG_LAST_PAGE)
        at += size
    return "" if is_last else "has no last page"


def _ogg_checksum(page: bytes) -> int:
    """Compute the checksum of a page: of all its bytes, with zeros in the place of the checksum itself."""
    blank = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(blank.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _is_filling(file: BufferedIOBase, at: int) -> bool:
    """Return whether a file ends with a few bytes of nothing from here on; many are where something was not written."""
    file.seek(at)
    rest = file.read(FILLING + 1)
    return len(rest) <= FILLING and not rest.strip(b"\0")


def chunk_damage(file: BufferedIOBase) -> str:
    """Describe what is wrong with the chunks of a wav, aiff or caf file: sound that ends before, or goes on behind it.

    A wav that does not know its length promises what it has; one of RF64 says it in a chunk of its own, in 64 bits.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    kind = file.read(4)
    at, n_size = (8, 8) if kind == b"caff" else (12, 4)
    is_read, long_size = False, None
    while at + 4 + n_size <= end:
        file.seek(at)
        head = file.read(4 + n_size)
        name, size = head[:4], int.from_bytes(head[4:], "little" if kind in (b"RIFF", b"RF64") else "big")
        if is_read and name in RECORDINGS:
            return f"holds a second recording at byte {at}, as files do that were put behind one another"
        if is_read and not CHUNK.match(name):
            file.seek(at)
            rest = file.read()
            if not rest.strip(b"\0"):
                return ""
            return f"holds, behind its sound, {n_of(len(rest), 'byte')} of something else{UNFINISHED}"
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        at += len(head)
        if name == b"data" and kind in WAVS:
            size = long_size if size == 0xFFFFFFFF and long_size is not None else size
            size = size if size < UNKNOWN_BYTES or long_size is not None else end - at
            if size > end - at:
                return f"promises {n_of(size, 'byte')} of samples and has {end - at}"
        is_read = is_read or name in RECORDINGS
        at += size + (size % 2 if n_size == 4 else 0)
        if at > end + 1 and is_read and name not in (*RECORDINGS, *TEXTS):
            return f"lacks {n_of(at - end, 'byte')} of its last part"
    return ""


def mp4_damage(file: BufferedIOBase) -> str:
    """Describe what is wrong with the boxes of an mp4, m4a, mov or 3gp file: one does not end where the next begins."""
    end, at, is_read = file.seek(0, os.SEEK_END), 0, False
    while at < end:
        file.seek(at)
        head = file.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if at > 0 and _is_filling(file, at):
            return ""
        if len(name) < 4 or not all(32 <= byte < 127 or byte == 0xA9 for byte in name):
            return f"has bytes at {at} that are no part of it"
        if name == b"moov" and is_read:
            return f"holds a second recording before byte {at}, as files do that were put behind one another"
        is_read = is_read or name == b"moov"
        size = int.from_bytes(head[8:], "big") if size == 1 else size or end - at
        if size < 8:
            return f"has a damaged part at byte {at}"
        at += size
    return "" if at == end else f"lacks {n_of(at - end, 'byte')} of its last part"


def matroska_damage(file: BufferedIOBase) -> str:
    """Describe what is wrong with a webm or mkv: an element breaks off, or goes on behind the one that it is in."""
    end, at = file.seek(0, os.SEEK_END), 0
    ends = [end]  # of the file and the groups that are open; those that do not say theirs end with what they are in
    broken, n_segments = "breaks off within a block", 0
    while at < end:
        while at == ends[-1]:
            ends.pop()
        file.seek(at)
        head = file.read(12)
        n_name = 9 - head[0].bit_length()
        if n_name > 4:  # no name of an element
            return "" if at > 0 and _is_filling(file, at) else broken
        n_size = 9 - head[n_name].bit_length() if len(head) > n_name else 9
        if n_size > 8 or len(head) < n_name + n_size:
            return broken
        bits = 7 * n_size
        size = int.from_bytes(head[n_name : n_name + n_size], "big") & ((1 << bits) - 1)
        is_open_ended = size == (1 << bits) - 1
        at += n_name + n_size
        if not is_open_ended and at + size > ends[-1]:
            return broken
        if head[:n_name] not in MATROSKA_GROUPS:
            at += 0 if is_open_ended else size
        elif not is_open_ended:
            ends.append(at + size)
            n_segments += head[:n_name] == MATROSKA_GROUPS[0]
        if n_segments > 2:
            return f"holds a third recording before byte {at}, and decoders read two"
    return ""
