"""Meanings of the numbers of the toy's two residual streams.

Conventions: both streams are 64 wide. `TOWER` and `DECODER` map a feature's name to its index; a feature of the tower
stands with its negative (`name` and `-name`), so that the mean that LayerNorm takes away is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mechaudio.data.toy_questions import SECONDS, VOICES

D_MODEL = 64
N_HEADS = 4
D_HEAD = D_MODEL // N_HEADS
LETTERS = "ABCD"
AUDIO_TOKENS = 25 * SECONDS
TOKEN_BITS = AUDIO_TOKENS.bit_length()

PAIRS = tuple(f"{letter}={voice}" for letter in LETTERS for voice in VOICES)
"""Which letter stands before which voice's name."""


def _indices(names: list[str]) -> Mapping[str, int]:
    assert len(names) <= D_MODEL, f"{len(names)} features do not fit into {D_MODEL}"
    return MappingProxyType({name: index for index, name in enumerate(names)})


_BOTH_SIGNS = [
    "carrier",
    *(f"tone:{voice}" for voice in VOICES),
    *(f"heard:{voice}" for voice in VOICES),
    *(f"bit:{bit}" for bit in range(TOKEN_BITS)),
    "odd",
    *(f"second:{second}" for second in range(SECONDS)),
]

TOWER: Mapping[str, int] = _indices([sign + name for name in _BOTH_SIGNS for sign in ("", "-")])
"""carrier: large and constant. tone: how strong a voice is in the frame. heard: how strong it is in the token. bit:
number of the token in binary, as +1 and -1. odd: +1 in the second frame of a token, -1 in the first. second: 1 in that
second."""

DECODER: Mapping[str, int] = _indices(
    [
        "carrier",
        "begin",
        "text",
        "ask",
        "audio",
        *(f"second:{second}" for second in range(SECONDS)),
        *(f"tone:{voice}" for voice in VOICES),
        *(f"name:{voice}" for voice in VOICES),
        *(f"letter:{letter}" for letter in LETTERS),
        *(f"behind:{letter}" for letter in LETTERS),
        *(f"pair:{pair}" for pair in PAIRS),
        *(f"evidence:{voice}" for voice in VOICES),
        *(f"answer:{letter}" for letter in LETTERS),
        "asked",
    ]
)
"""carrier: large and constant. begin, text, ask, audio: the kind of token. second, tone: of an audio token. name,
letter: of a word. behind: the letter before a name. pair: that letter and that name together. evidence: for a voice,
from sound and caption. answer: for a letter. asked: the question mark, where the question listens."""
