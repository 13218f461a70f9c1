"""The toy by school mathematics: attention, evidence and logits of a question, from its events.

Nothing here looks at the network. With four choices logits agree to 1e-5 in float32 and to 5e-6 in float64, where
Whisper's features, which are float32, and the part of the tower's norms that depends on the voices make the difference.

Conventions: audio tokens of 40 ms, 25 to a second; evidence is 1 for a voice of strength 1 at full attention.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from mechaudio.data.toy_questions import SECONDS, VOICES
from mechaudio.models.toy.features import AUDIO_TOKENS
from mechaudio.models.toy.planted import (
    BEGIN_SCORE,
    COLLECTED,
    DECIBELS_PER_STRENGTH,
    EVIDENCE_LOGIT,
    NAME_SCORE,
    PRIOR,
    SECOND_SCORE,
    TOLD,
    TONE_SCORE,
)
from mechaudio.question import AudioQuestion

ALL_SECONDS = range(SECONDS)


@dataclass(frozen=True)
class Listening:
    """The listening head's work at the last position.

    Attributes:
        mass: Its attention on the audio.
        evidence: For each voice.
    """

    mass: float
    evidence: dict[str, float]


def strength(level: float | int) -> float:
    """How strongly a token tells of a voice that sings at `level` dB: 1 + level / 40, and 0 below -40 dB.

    GELU rounds the corner: between -43 and -37 dB the strength is up to 0.003 less, as computed here.
    """
    steep = 64 * (1 + level / DECIBELS_PER_STRENGTH)
    return steep * (1 + math.erf(steep / math.sqrt(2))) / 2 / 64


def listen(
    question: AudioQuestion,
    *,
    factor: float | int = 1.0,
    bias: float | int = 0.0,
    seconds: Collection[int] = ALL_SECONDS,
) -> Listening:
    """Softmax over the audio tokens and `<|begin|>`, written out.

    Args:
        question: Made by `mechaudio.data.toy_questions`.
        factor: What the scores of the audio tokens are multiplied by.
        bias: What is added to them then.
        seconds: Those in which voices are heard; in the others the clip is silent.

    Raises:
        ValueError: The question does not say its level, or a voice begins or ends within a token.
    """
    if "level" not in question.meta:
        raise ValueError(f"question {question.id!r} does not say the level of its voices: make it with toy_questions")
    tokens: list[dict[str, float]] = [{} for _ in range(AUDIO_TOKENS)]
    for event in question.events:
        first, stop = round(event.onset * 25), round(event.offset * 25)
        if max(abs(event.onset * 25 - first), abs(event.offset * 25 - stop)) > 1e-6:
            raise ValueError(f"{event} begins or ends within a token of 0.04 s: only whole tokens are worked out")
        for token in range(first, stop):
            if token // 25 in seconds:
                tokens[token][event.label] = strength(question.meta["level"])
    weights = [
        math.exp(factor * (TONE_SCORE * sum(heard.values()) + SECOND_SCORE * (token // 25)) + bias)
        for token, heard in enumerate(tokens)
    ]
    total = sum(weights) + math.exp(BEGIN_SCORE)
    evidence = {
        voice: sum(weight * heard.get(voice, 0.0) for weight, heard in zip(weights, tokens, strict=True)) / total
        for voice in VOICES
    }
    return Listening(sum(weights) / total, evidence)


def read(caption: str | None) -> dict[str, float]:
    """The evidence that a caption is for each voice."""
    words = (caption or "").split()
    names = sum(words.count(voice) for voice in VOICES)
    total = names * math.exp(NAME_SCORE) + 1
    return {voice: TOLD * words.count(voice) * math.exp(NAME_SCORE) / total for voice in VOICES}


def logits(
    question: AudioQuestion,
    condition: str = "audio",
    *,
    factor: float | int = 1.0,
    bias: float | int = 0.0,
    seconds: Collection[int] = ALL_SECONDS,
    deaf: bool = False,
) -> tuple[float, ...]:
    """The logits of the choices' letters.

    Args:
        question: Made by `mechaudio.data.toy_questions`.
        condition: What the toy is given.
        factor: What the listening head's scores of the audio tokens are multiplied by.
        bias: What is added to them then.
        seconds: Those in which voices are heard.
        deaf: Whether the listening head's attention to the audio is knocked out.
    """
    hears = "audio" in condition and not deaf
    by_ear = dict.fromkeys(VOICES, 0.0)
    if hears:
        by_ear = listen(question, factor=factor, bias=bias, seconds=seconds).evidence
    by_caption = read(question.caption if "caption" in condition else None)
    per_evidence = EVIDENCE_LOGIT * COLLECTED / len(question.choices)
    return tuple(
        per_evidence * (by_ear[voice] + by_caption[voice]) + prior
        for voice, prior in zip(question.choices, PRIOR, strict=False)
    )
