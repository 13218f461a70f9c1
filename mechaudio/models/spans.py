"""The text of a question as the model reads it, and which of its tokens say what.

Layout. The user's turn is the audio, then one block of text:

    Caption: a dog barks, then it rains        (only in the conditions with a caption)
    Which sound has the earliest onset?
    A: dog
    B: rain

The audio comes first where a family was trained that way, which is all but Kimi-Audio. The caption stands before the
question and never moves between conditions, so that conditions differ in what is given and in nothing else. The letter
stands before its option at the start of a line: the answer, too, starts a line, and there a letter is one token, the
same one that `choice_ids` looks up. `A: dog` is what the shipped model was trained on; `PromptFormat` writes others,
and an accuracy is comparable only within one format. An open question, which has no choices, ends with its own text.

Spans. Roles are given out by character offsets of the pieces from which the text was put together. Nothing is ever
searched for, so that a caption with the words of the question stays a caption.

Conventions: offsets are characters, end excluded; positions are tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mechaudio.arguments import check_fields
from mechaudio.data.temporal_phrases import KEYWORDS
from mechaudio.question import AudioQuestion
from mechaudio.results import keep
from mechaudio.showing import Shown

#: Roles of which every token of a prompt has exactly one; in conversations, texts before the last turn are `history`.
#: Audio tokens that hear nothing of the clip, only what it was filled up with, are `audio_padding`.
ROLES = ("audio", "audio_padding", "question", "choices", "caption", "template")

#: Those whose words are a question's own, and not the chat template's.
TEXT_ROLES = ("question", "choices", "caption")

#: Where a question names its time relation itself; `meta["keyword"]` overrides it.
TEMPORAL_WORDS = (*KEYWORDS.values(), "shortest", "briefest", "first", "last", "before", "after")


@dataclass(frozen=True)
class PromptFormat(Shown):
    """How caption, choices and closing words are written.

    Attributes:
        caption: The caption's line, holding `{caption}`.
        choice: One choice's line, holding `{letter}` and `{choice}`.
        closing: A last line, such as "Answer with the letter."; empty for none.
        audio: Where the clips of a question stand: `trained`, where training had them; `first` or `last`. Positions in
            front of a clip cannot attend to it.
    """

    caption: str = "Caption: {caption}"
    choice: str = "{letter}: {choice}"
    closing: str = ""
    audio: str = "trained"

    def __post_init__(self):
        check_fields(self)
        if self.audio not in ("trained", "first", "last"):
            raise ValueError(f"PromptFormat(audio=) is one of 'trained', 'first' and 'last', got {self.audio!r}")
        for name, field, needed in (
            ("caption", self.caption, ("{caption}",)),
            ("choice", self.choice, ("{letter}", "{choice}")),
        ):
            missing = [part for part in needed if field.count(part) != 1]
            if missing:
                raise ValueError(f"PromptFormat({name}={field!r}) must hold {' and '.join(missing)} exactly once")


keep(PromptFormat)


@dataclass(frozen=True)
class Part:
    """The characters `start` to `stop` of a text, and their role."""

    role: str
    start: int
    stop: int

    def overlaps(self, start: int, stop: int) -> bool:
        """Return whether any of the characters from `start` to `stop` is in this part."""
        return max(self.start, start) < min(self.stop, stop)


@dataclass(frozen=True)
class TextBlock:
    """The text of one question and its parts, in order and disjoint but for the keyword, which is in the question."""

    text: str
    parts: tuple[Part, ...]


def text_block(question: AudioQuestion, caption: str | None, layout: PromptFormat) -> TextBlock:
    """Write a question out.

    Raises:
        ValueError: `meta["keyword"]` is not in the question's text.
    """
    pieces: list[tuple[str, str | None]] = []
    if caption is not None:
        before, _, behind = layout.caption.partition("{caption}")
        pieces += [(before, None), (caption, "caption"), (behind + "\n", None)]
    pieces.append((question.text, "question"))
    if question.choices:
        letters = zip(question.letters, question.choices, strict=True)
        lines = "\n".join(_choice_line(layout, letter, choice) for letter, choice in letters)
        pieces += [("\n", None), (lines, "choices")]
    if layout.closing:
        pieces.append(("\n" + layout.closing, None))
    text, parts, keyword = "", list[Part](), find_keyword(question)
    for piece, role in pieces:
        if role == "question" and keyword is not None:
            parts.append(Part("keyword", len(text) + keyword[0], len(text) + keyword[1]))
        if role is not None:
            parts.append(Part(role, len(text), len(text) + len(piece)))
        text += piece
    return TextBlock(text, tuple(parts))


def _choice_line(layout: PromptFormat, letter: str, choice: str) -> str:
    before, _, behind = layout.choice.partition("{choice}")
    return before.replace("{letter}", letter) + choice + behind.replace("{letter}", letter)


def find_keyword(question: AudioQuestion) -> tuple[int, int] | None:
    """Find the keyword in the question's text: `meta["keyword"]`, else the first of `TEMPORAL_WORDS`.

    Returns:
        First character and the one after the last; `None` where there is no such word.

    Raises:
        ValueError: `meta["keyword"]` is given but is not in the text.
    """
    given = question.meta.get("keyword")
    words = TEMPORAL_WORDS if given is None else (str(given),)
    pattern = r"(?<!\w)(?:" + "|".join(re.escape(word) for word in words) + r")(?!\w)"
    match = re.search(pattern, question.text, flags=re.IGNORECASE)
    if match is None and given is not None:
        raise ValueError(
            f"question {question.id!r}: meta['keyword'] is {given!r}, but its text is {question.text!r}. Name a word "
            "of the text, or leave the keyword out"
        )
    return None if match is None else match.span()


def positions_by_role(
    offsets: Sequence[tuple[int, int] | None], parts: Sequence[Part], audio: Sequence[bool]
) -> dict[str, tuple[int, ...]]:
    """Give every token of one prompt its role.

    A token that reaches over the edge of a part (`?` and the line break behind it, in many vocabularies) belongs to the
    part; one that reaches into two parts belongs to the first.

    Args:
        offsets: Which characters of the text each token holds, `None` for tokens of the chat template and of the audio.
        parts: The parts of the text.
        audio: Which tokens are audio.

    Returns:
        Positions per role in `ROLES` (and `history`, where there is a part of it), which are disjoint and together all
        positions; `keyword`, a subset of the question; `last`; and the turns and speakers that are parts, by the
        positions of their texts.
    """
    ordered = [part for part in parts if part.role in (*ROLES, "history")]
    beside = [part for part in parts if part.role not in (*ROLES, "history")]
    positions: dict[str, list[int]] = {role: [] for role in (*ROLES, "keyword", *(part.role for part in parts))}
    for position, (span, is_audio) in enumerate(zip(offsets, audio, strict=True)):
        if is_audio:
            role = "audio"
        else:
            role = next((part.role for part in ordered if span is not None and part.overlaps(*span)), "template")
        positions[role].append(position)
        if span is not None and not is_audio:
            names = {part.role for part in beside if part.overlaps(*span)}
            for name in names if role == "question" else names - {"keyword"}:
                positions[name].append(position)
    return {**{role: tuple(some) for role, some in positions.items()}, "last": (len(offsets) - 1,)}
