"""The words in which a clip stands in the prompt, in a class that reads transcripts beside the sound.

A transcript comes from the question (`meta["transcript"]`, or `transcript` of the part of a turn), or is written by the
processor's `recogniser`, or by the network's own. Where the processor's `finds_speech` finds none, there are no words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mechaudio.arguments import n_of
from mechaudio.models.adapter import OpenedModel
from mechaudio.notices import warn
from mechaudio.question import NO_TRANSCRIPT, AudioQuestion

#: The transcript of a clip in which nobody speaks: a token, so that the prompt has one in any case.
NO_WORDS = " "


def transcripts_of(
    model: OpenedModel, question: AudioQuestion, clips: Sequence[Float[np.ndarray, " _"]], condition: str
) -> tuple[str, ...]:
    """Return the transcript of each clip; none in a class that reads no transcripts.

    Args:
        model: An opened model with a processor.
        question: What is asked; it may give transcripts.
        clips: Its clips, at the rate of the model.
        condition: What the model is given. Silence keeps the transcripts of the sound that it takes the place of;
            silence without transcript has those of silence.

    Raises:
        ValueError: Another number of transcripts than of clips; or the condition, in a class that reads none.
        TypeError: A transcript that is no text, from the question or from a recogniser.
    """
    adapter = model.adapter
    if adapter.transcribes is None:
        if condition == NO_TRANSCRIPT:
            raise ValueError(
                f"{adapter.network_class} reads no transcripts, so that condition={condition!r} is condition='silence'"
            )
        return ()
    if condition == NO_TRANSCRIPT:
        return (NO_WORDS,) * len(clips)
    return tuple(
        _transcript(model, samples) if words is None else words if words.strip() else NO_WORDS
        for words, samples in zip(_given(question, len(clips)), clips, strict=True)
    )


def _given(question: AudioQuestion, n_clips: int) -> list[str | None]:
    """The transcripts that a question gives; a text stands for that of its only clip."""
    given = question.meta.get("transcript")
    several = [given] if isinstance(given, str) else [None] * n_clips if given is None else given
    if not isinstance(several, (list, tuple)) or any(
        words is not None and not isinstance(words, str) for words in several
    ):
        raise TypeError(f"question {question.id!r}: meta['transcript'] is a text, or a list of one per clip: {given!r}")
    if n_clips and len(several) != n_clips:
        raise ValueError(
            f"question {question.id!r} has {n_of(n_clips, 'clip')} and {n_of(len(several), 'transcript')}: give one "
            "per clip, None for those that are to be recognised"
        )
    return list(several[:n_clips])


def _transcript(model: OpenedModel, samples: Float[np.ndarray, " samples"]) -> str:
    processor = model.processor
    if processor.finds_speech is None:
        warn(
            "no detector of speech is set, so that the recogniser writes words for clips without speech too: install "
            "the release's (pip install 'mechaudio[desta]'), set model.processor.finds_speech, or give transcripts"
        )
    elif not processor.finds_speech(samples):
        return NO_WORDS
    if processor.recogniser is not None:
        words = processor.recogniser(samples)
    else:
        assert model.adapter.transcribes is not None, "a class that reads transcripts writes them"
        words = getattr(model.network, model.adapter.transcribes)(samples, processor)
    if not isinstance(words, str):
        raise TypeError(f"a recogniser returns a text, got {words!r}")
    # Recognisers begin with a blank; what was trained on were the words alone.
    return words.strip() or NO_WORDS
