"""The planted truth: which head does what, and every constant of the arithmetic.

Tests of a method import what it has to find from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Head = tuple[int, int]
Listener = Literal["last", "question", "choices"]

TONE_SCORE = 12.0
"""Addition of a voice of strength 1 to the listening head's score of an audio token."""
SECOND_SCORE = -1.5
"""Addition of each second from the start of the clip to it."""
BEGIN_SCORE = 8.0
"""The listening head's score of `<|begin|>`, where it rests when there is little to hear."""
NAME_SCORE = math.log(3)
"""The reading head's score of a name in the caption; that of `<|begin|>` is 0."""
TOLD = 0.5
"""Evidence that a caption's name is worth at full attention; a voice of strength 1 is worth 1."""
COLLECTED = 4.0
"""Times the share of the collecting head's attention that a choice gets, 1 / choices."""
EVIDENCE_LOGIT = 4.0
"""Logits of a letter per evidence for its voice, with four choices."""
PRIOR = (1.0, 0.0, 0.0, 0.0)
"""Logits of the letters A to D without any evidence: the toy guesses A."""
DECIBELS_PER_STRENGTH = 40.0
"""Strength 1 is 0 dB, strength 0 is -40 dB: Whisper's features change by 1 in 40 dB."""
NEVER = -32.0
"""Score of what a head does not look at; exp(-32) is 1e-14."""


@dataclass(frozen=True)
class Planted:
    """Heads as `(layer, head)` of the decoder.

    Attributes:
        listening: Looks from the rows that listen to the voice that comes first; the only way for sound to the answer.
        reading: Looks from the last position to the name in the caption; the only way for the caption.
        decoy: Looks from the last position to the audio, more than any other head does on average, and adds nothing.
        binding: Looks from a name to the letter before it.
        collecting: Looks from the last position to the names of the choices.
        inert_layer: A layer that adds nothing at all.
        n_layers: Layers of the decoder.
        n_heads: Heads in each layer.
        joining: The one head of the audio tower that adds something, as `(layer, head)` of the tower.
        listens: The rows that listen: the `last` position; the question mark of the `question`; or the `choices`, each
            at its name.
        handing: Looks from the last position to the rows that listen, and takes over what they have made of the sound;
            None where the last position listens itself.
    """

    listening: Head = (1, 2)
    reading: Head = (1, 0)
    decoy: Head = (1, 3)
    binding: Head = (0, 1)
    collecting: Head = (3, 1)
    inert_layer: int = 2
    n_layers: int = 4
    n_heads: int = 4
    joining: Head = (1, 0)
    listens: Listener = "last"
    handing: Head | None = None

    @property
    def heads(self) -> tuple[Head, ...]:
        """All heads of the decoder."""
        return tuple((layer, head) for layer in range(self.n_layers) for head in range(self.n_heads))

    @property
    def active(self) -> tuple[Head, ...]:
        """The heads that add something to the residual stream."""
        handing = () if self.handing is None else (self.handing,)
        return (self.binding, self.reading, self.listening, self.collecting, *handing)

    @property
    def inert(self) -> tuple[Head, ...]:
        """The heads that add nothing, whatever they look at: the decoy and the others."""
        return tuple(head for head in self.heads if head not in self.active)


PLANTED = Planted()
BY_LISTENER: Mapping[Listener, Planted] = MappingProxyType(
    {
        "last": PLANTED,
        "question": Planted(listens="question", handing=(3, 2)),
        "choices": Planted(listens="choices", handing=(3, 2)),
    }
)
"""The truth of each toy, by the rows that listen in it."""
