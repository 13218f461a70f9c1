"""A prompt as turns: who speaks, and which recordings and texts a turn holds, in order.

A question is one turn of the user, its recordings first unless training or `PromptFormat` say otherwise. A conversation
comes in transformers' chat format:

    [{"role": "system", "content": "You are a sound engineer."},
     {"role": "user", "content": [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": "What is this?"}]},
     {"role": "assistant", "content": "A dog."},
     {"role": "user", "content": "And what comes after it?"}]

Of a conversation, the texts of the last turn are the `question`, all others `history`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from mechaudio.models.spans import Part, PromptFormat, TextBlock, text_block
from mechaudio.question import AudioQuestion, Recording

SPEAKERS = ("system", "user", "assistant")
#: What stands for the text of a question that is asked by voice alone.
_VOICE = "♪"


@dataclass(frozen=True, eq=False)
class Turn:
    """One turn: who speaks, and recordings and texts in order.

    Attributes:
        speaker: One of `SPEAKERS`.
        parts: Recordings (or their samples, once they are read), and texts with their roles.
    """

    speaker: str
    parts: tuple[Any, ...]

    def with_clips(self, clips: Iterator[Any]) -> Turn:
        """Put the next clips in the place of the turn's recordings."""
        return replace(self, parts=tuple(part if isinstance(part, TextBlock) else next(clips) for part in self.parts))


def of_question(
    question: AudioQuestion, condition: str, layout: PromptFormat, *, text_first: bool = False
) -> tuple[Turn, ...]:
    """Write a question as one turn of the user: its recordings and its text.

    Raises:
        ValueError: The condition needs a caption, and there is none; `meta["keyword"]` is not in the question's text.
    """
    if "caption" in condition and question.caption is None:
        raise ValueError(
            f"question {question.id!r} has no caption, which condition={condition!r} needs: set "
            "AudioQuestion(caption=...)"
        )
    block = text_block(question, question.caption if "caption" in condition else None, layout)
    recordings = question.recordings if condition != "caption" else ()
    last = layout.audio == "last" or (layout.audio == "trained" and text_first)
    return (Turn("user", (block, *recordings) if last else (*recordings, block)),)


def of_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Read a conversation in transformers' chat format.

    Raises:
        TypeError: Something else than messages.
        ValueError: An unknown speaker or part, an empty turn, or a last turn that is not the user's.
    """
    if not messages:
        raise ValueError("a conversation has at least one turn, {'role': 'user', 'content': ...}; got none")
    last = len(messages) - 1
    turns = tuple(_turn(message, "question" if index == last else "history") for index, message in enumerate(messages))
    if turns[-1].speaker != "user":
        raise ValueError(
            f"the last turn of a conversation is the user's, whom the model answers; got the {turns[-1].speaker}'s"
        )
    return turns


def question_of(turns: Sequence[Turn], transcripts: Sequence[Any] = ()) -> AudioQuestion:
    """The open question that a conversation ends with; its recordings are those of all turns."""
    texts = [part.text for part in turns[-1].parts if isinstance(part, TextBlock)]
    meta = {} if all(words is None for words in transcripts) else {"transcript": list(transcripts)}
    return AudioQuestion(audio=recordings(turns) or None, text="\n".join(texts) or _VOICE, meta=meta)


def transcripts_in(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The `transcript` of every recording in a conversation in transformers' chat format, None where there is none."""
    contents = [message["content"] for message in messages if not isinstance(message["content"], str)]
    parts = [part for content in contents for part in content if isinstance(part, Mapping)]
    return [part.get("transcript") for part in parts if part.get("type") == "audio"]


def recordings(turns: Sequence[Turn]) -> list[Any]:
    """The recordings of all turns, in the order in which they are heard."""
    return [part for turn in turns for part in turn.parts if not isinstance(part, TextBlock)]


def texts(turns: Sequence[Turn]) -> list[TextBlock]:
    """The texts of all turns, in order."""
    return [part for turn in turns for part in turn.parts if isinstance(part, TextBlock)]


def joined(turns: Sequence[Turn]) -> TextBlock:
    """The texts of all turns behind one another, with their roles; of several turns, each is a part `turn.0`, too.

    All of a speaker's turns are parts of the speaker's name.
    """
    starts = [0, *accumulate(len(block.text) for block in texts(turns))]
    parts, place = list[Part](), 0
    for number, turn in enumerate(turns):
        first = place
        for block in texts([turn]):
            parts += [Part(p.role, starts[place] + p.start, starts[place] + p.stop) for p in block.parts]
            place += 1
        if len(turns) > 1:
            parts += [Part(name, starts[first], starts[place]) for name in (f"turn.{number}", turn.speaker)]
    return TextBlock("".join(block.text for block in texts(turns)), tuple(parts))


def _turn(message: Mapping[str, Any], role: str) -> Turn:
    if not isinstance(message, Mapping) or set(message) < {"role", "content"}:
        raise TypeError(f"a turn is {{'role': ..., 'content': ...}}, got {message!r}")
    speaker, content = message["role"], message["content"]
    if speaker not in SPEAKERS:
        raise ValueError(f"the role of a turn is one of {SPEAKERS}, got {speaker!r}")
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, Sequence) or not parts:
        raise ValueError(f"the content of a turn is a text or a list of parts, got {content!r}")
    return Turn(speaker, tuple(_part(part, role) for part in parts))


def _part(part: str | Mapping[str, Any], role: str) -> TextBlock | Recording:
    text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
    if isinstance(text, str) and text.strip():
        return TextBlock(text, (Part(role, 0, len(text)),))
    if isinstance(part, Mapping) and part.get("type") == "audio":
        sound = next((part[name] for name in ("audio", "path") if part.get(name) is not None), None)
        if sound is not None:
            return AudioQuestion(audio=sound, text=_VOICE).recordings[0]  # refused as the audio of a question is
    raise ValueError(
        "a part of a turn is {'type': 'text', 'text': ...} or {'type': 'audio', 'audio': a path or an AudioClip}; got "
        f"{part!r}"
    )
