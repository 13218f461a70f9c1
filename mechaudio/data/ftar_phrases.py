"""Instructions of FTAR's tasks, six each, in words of our own; the answers' form is the published one.

Conventions: `{query}` stands where the released templates have `'<query_placeholder>'`; times have one place behind the
point.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mechaudio.audio.events import Event

TASKS = ("dac", "tag", "tss", "tqa")
"""Dense captions, grounding of a sound, summaries of speech, questions on time."""

INSTRUCTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dac": (
            "List every sound event of this recording with the seconds in which it is heard.",
            "What is heard in the audio, and from when to when?",
            "Describe all sounds of the clip, each with its start and end times.",
            "Give the time intervals of the sound events, and a description of each.",
            "Write down what happens in this audio, with onset and offset of each event.",
            "Which events sound here? Name them together with their timestamps.",
        ),
        "tag": (
            "During which seconds can '{query}' be heard?",
            "Find all time intervals of the audio that match '{query}'.",
            "When does '{query}' begin and end in this recording?",
            "Mark the start and end times of '{query}'.",
            "At what times does the clip contain '{query}'?",
            "Locate '{query}' in the audio and give its timestamps.",
        ),
        "tss": (
            "Summarise the speech part by part, with the start and end times of each part.",
            "What are the main points of this talk, and when is each of them made?",
            "Give a timeline of what is said, in short sentences.",
            "Condense the speech into its key points with their time intervals.",
            "Write a summary of the recording in which every point has its timestamps.",
            "Outline what the speaker says from one time to the next.",
        ),
        "tqa count": (
            "How many times is '{query}' heard in the audio?",
            "Count the occurrences of '{query}'.",
            "How often does '{query}' sound in this recording?",
            "What is the number of separate occurrences of '{query}'?",
            "In this clip, how many times does '{query}' come?",
            "Tell how often '{query}' can be heard.",
        ),
        "tqa duration": (
            "How long does '{query}' last altogether?",
            "What is the total duration of '{query}' in the audio?",
            "For how many seconds is '{query}' heard?",
            "Give the overall length of '{query}'.",
            "How much time does '{query}' take up in this recording?",
            "Add up the seconds in which '{query}' sounds.",
        ),
        "tqa order": (
            "Which begins first, '{query}' or '{other}'?",
            "Does '{query}' or '{other}' start earlier?",
            "Of '{query}' and '{other}', which is heard first?",
            "Tell which of the two comes first: '{query}' or '{other}'.",
            "What starts sooner, '{query}' or '{other}'?",
            "Which of '{query}' and '{other}' has the earlier onset?",
        ),
    }
)


def times(intervals: Sequence[tuple[float, float]]) -> str:
    """Write intervals as the published answers do: `0.2 - 2.7, 3.3 - 5.7`."""
    return ", ".join(f"{onset:.1f} - {offset:.1f}" for onset, offset in intervals)


def grounding_answer(intervals: Sequence[tuple[float, float]]) -> str:
    """Say when a query is heard."""
    return f"The given query happens in {times(intervals)} seconds."


def dense_answer(grouped: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Say what is heard and when: each caption behind its intervals."""
    return " ".join(f"{times(each)} seconds, {caption.rstrip('.')}." for caption, each in grouped.items())


def timeline_answer(parts: Sequence[tuple[float, float, str]]) -> str:
    """Say what is spoken of and when: each summary behind its interval."""
    return " ".join(f"{times([(onset, offset)])}, {summary.rstrip('.')}." for onset, offset, summary in parts)


def grouped(events: Sequence[Event], duration: float) -> dict[str, list[tuple[float, float]]]:
    """Group events by label, the earliest first: intervals in tenths of a second, joined where they touch.

    An event that is shorter than a tenth of a second in tenths takes the tenth that it begins in.
    """
    rounded: dict[str, list[tuple[float, float]]] = {}
    last = max(math.floor(10 * duration + 1e-6) / 10, 0.1)  # the last whole tenth
    for event in sorted(events, key=lambda event: (event.onset, event.offset, event.label)):
        onset = min(round(event.onset, 1), round(last - 0.1, 1))
        offset = max(min(round(event.offset, 1), last), round(onset + 0.1, 1))
        intervals = rounded.setdefault(event.label, [])
        if intervals and onset <= intervals[-1][1]:
            intervals[-1] = (intervals[-1][0], max(intervals[-1][1], offset))
        else:
            intervals.append((onset, offset))
    return rounded
