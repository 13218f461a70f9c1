"""When a sound is heard in a recording, asked of a model in words: TimeAudio's grounding, on one clip.

Conventions: seconds from the start of the clip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mechaudio.arguments import checks_arguments
from mechaudio.audio.clip import AudioClip
from mechaudio.data.ftar_phrases import INSTRUCTIONS
from mechaudio.experiments.training_groups import marker_ids
from mechaudio.metrics.captions import normalised
from mechaudio.metrics.grounding import Repairs, spans_in
from mechaudio.metrics.spans import Interval, total
from mechaudio.question import AudioQuestion
from mechaudio.showing import Shown
from mechaudio.timeaudio.markers import Markers
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.generation import generate

#: What is asked, unless something else is said.
INSTRUCTION = INSTRUCTIONS["tag"][0]


@dataclass(frozen=True)
class Grounding(Shown):
    """When a model says that a sound is heard.

    Attributes:
        query: The sound.
        intervals: Onset and offset of each stretch; none where the answer gives no time.
        answer: The answer as it was written.
        asked: The question.
        duration: Length of the clip in seconds.
        repairs: What had to be mended in reading the answer.
    """

    query: str
    intervals: tuple[Interval, ...]
    answer: str
    asked: str
    duration: float
    repairs: Repairs

    def __str__(self) -> str:
        if not self.intervals:
            return f"{self.query}: no time for it in the answer {self.answer!r}"
        spans = ", ".join(f"{onset:.1f} - {offset:.1f} s" for onset, offset in self.intervals)
        return f"{self.query}: {spans} of {self.duration:.1f} s"

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for JSON."""
        return {**vars(self), "repairs": self.repairs.as_dict()}


@checks_arguments
def ground(
    model: AudioLM,
    audio: Any,
    query: str,
    *,
    instruction: str = INSTRUCTION,
    max_new_tokens: int = 200,
) -> Grounding:
    """Ask a model when a sound is heard in a recording, and read the times that it gives.

    Args:
        model: An opened model with a processor.
        audio: The recording, in any form that `AudioClip.load` takes.
        query: The sound, such as `a dog`.
        instruction: What is asked; `{query}` stands for the sound. Without it, all sounds are asked for, and those
            parts of the answer count that name the query.
        max_new_tokens: Most tokens of the answer.

    Raises:
        ValueError: A blank query, a time marker in what a model that has markers is asked, or a recording that cannot
            be heard.
    """
    if not query.strip():
        raise ValueError("query is blank: name the sound to look for, such as 'a dog'")
    clip = AudioClip.load(audio)
    text, markers = instruction.replace("{query}", query.strip()), Markers()
    if model.processor is not None and marker_ids(model.processor):
        markers.refuse_in(text)
    (answer,) = generate(model, [AudioQuestion(clip, text, id=query.strip())], max_new_tokens=max_new_tokens).texts
    parts = [answer] if "{query}" in instruction else _about(query, answer)
    spans = [spans_in(part, clip.duration, markers=markers) for part in parts]
    intervals = tuple(interval for each in spans for interval in each.intervals)
    repairs = total([each.repairs for each in spans]) if spans else Repairs(unparsed=1)
    return Grounding(query.strip(), intervals, answer, text, clip.duration, repairs)


def _about(query: str, answer: str) -> list[str]:
    """Give the parts of an answer, between commas and full stops, that name the query."""
    parts = re.split(r"[,;]\s+|\.\s+|\.$", answer)
    return [part for part in parts if f" {normalised(query)} " in f" {normalised(part)} "]
