"""Scores of written answers: MMAU's rule of words, and the choice that a generated text names.

`string_match` is the rule by which MMAU and MMAR score (arXiv 2410.19168, 2505.13032). It looks at words alone,
so it takes `not the dog` for `dog`, and no letter for an answer. `parse_choice` reads what an instructed model writes,
`(A)`, `A.`, `Answer: A`, the text of a choice, and says so when it finds none or two: a text that cannot be read is
counted as wrong, and `score_generated` reports how many there were.

Conventions: choices carry the letters A, B, C ... in their order; an answer is the *text* of a choice, so that of two
choices of the same text either is right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from mechaudio.arguments import checks_arguments
from mechaudio.metrics import checked
from mechaudio.metrics.clips import Clips
from mechaudio.metrics.estimates import AsDict, Proportion
from mechaudio.metrics.significance import share

_WORD = re.compile(r"\b\w+\b")
_MARKUP = re.compile(r"[*_`\"“”{}$]|\\boxed|\\text")
#: What says that the answer follows: `answer is`, `answer:`, `<answer>`.
_DECLARED = re.compile(r"\b(?:answer|option|choice)\s*(?:is\s*[:=]?|[:=])\s*|<answer>\s*", re.IGNORECASE)
#: A tag or the end of a line.
_LINE_END = re.compile(r"[<\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
#: A letter at the beginning of a line: in brackets, with a mark behind it, or alone.
_LEADING = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]|([A-Z])[.:)\],;]|([a-z])[.:)\],;](?=\s|$)|([A-Za-z])$")
#: A letter anywhere: in brackets that no word runs into, or behind `option` or `choice`.
_ANYWHERE = re.compile(r"(?<!\w)[(\[]\s*([A-Za-z])\s*[)\]]|\b(?:[Oo]ption|[Cc]hoice)\s+([A-Z])\b")
_AROUND = " \t\r\n.,;:!?'()[]-#>"


@dataclass(frozen=True)
class ParsedChoice(AsDict):
    """The choice that a text names.

    Attributes:
        choice: Its text, None if none is named or more than one.
        how: `letter`, `text`, or why there is none: `nothing`, `ambiguous`.
    """

    choice: str | None
    how: Literal["letter", "text", "nothing", "ambiguous"]


@dataclass(frozen=True)
class GeneratedScore(AsDict):
    """The number of generated texts that name the right choice, and of those that name none.

    Attributes:
        accuracy: Right ones among all; a text that names no choice is wrong.
        unparsed: Texts that name no choice, or more than one, among all.
        parsed: What each text names.
        correct: Right or wrong, per text.
    """

    accuracy: Proportion
    unparsed: Proportion
    parsed: tuple[ParsedChoice, ...]
    correct: tuple[bool, ...]

    def __str__(self) -> str:
        return f"accuracy  {self.accuracy}\nunparsed  {self.unparsed}"


@checks_arguments
def string_match(prediction: str, answer: str, choices: Sequence[str]) -> bool:
    r"""MMAU's rule: every word of the answer is there, and no word that only other choices have.

    Words are the matches of `\b\w+\b` in lower case, each counted once.

    Args:
        prediction: What the model wrote; an empty one is wrong.
        answer: The text of the right choice.
        choices: The texts of all choices, without letters before them.

    Raises:
        ValueError: For an answer that is not among the choices, or has no word.
        TypeError: For anything but text.
    """
    _check_choices(choices)
    if answer not in choices:
        raise ValueError(f"answer {answer!r} is not among the choices {tuple(choices)}: give the text of one of them")
    said, needed = _words(prediction), _words(answer)
    if not needed:
        raise ValueError(
            f"answer {answer!r} has no word, and the rule compares words: score this question by its letter"
        )
    others = set[str]().union(*map(_words, choices)) - needed
    return needed <= said and not said & others


@checks_arguments
def parse_choice(text: str, choices: Sequence[str]) -> ParsedChoice:
    """Find the choice that a generated text names.

    The first of these that finds anything decides:

    1. what follows the last `answer is`, `answer:` or `<answer>` (`option`, `choice` likewise) that a letter or the
       text of a choice follows;
    2. letters at the beginning of a line, in brackets, with `.`, `:`, `)`, `,` or `;` behind or alone on it; letters in
       brackets or behind `option` anywhere; lines that are the text of a choice. `A` of `A dog` is no letter;
    3. texts of choices as whole words; one inside a longer one does not count.

    If it finds different choices, or a letter with nothing but the text of another choice behind it, the text is
    ambiguous. Upper and lower case, bold and quotation marks make no difference to texts. Meaning is not read:
    `not (A)` names A.

    Args:
        text: What the model wrote.
        choices: The texts of the choices, in the order of their letters.

    Raises:
        ValueError: For fewer than 2 choices or more than 26, or a blank one.
        TypeError: For anything but text.
    """
    _check_choices(choices)
    plain = _MARKUP.sub("", text)
    for declared in reversed(list(_DECLARED.finditer(plain))):
        rest = _head(plain, declared.end(), choices)
        reading = _reading(rest, choices) or _agreed(_opening(rest, choices), "text")
        if reading is not None:
            return reading
    lines = [reading for line in plain.splitlines() if (reading := _reading(line, choices)) is not None]
    if any(found.choice is None for found in lines):
        return ParsedChoice(None, "ambiguous")
    marked = [choice for match in _ANYWHERE.finditer(plain) if (choice := _lettered(match, choices)) is not None]
    how = "text" if not marked and all(found.how == "text" for found in lines) else "letter"
    return (
        _agreed([found.choice for found in lines] + marked, how)
        or _agreed(_mentioned(plain, choices), "text")
        or ParsedChoice(None, "nothing")
    )


@checks_arguments
def score_generated(
    texts: Sequence[str],
    choices: Sequence[Sequence[str]],
    answers: Sequence[str],
    *,
    clips: Clips | None = None,
    confidence: float = 0.95,
) -> GeneratedScore:
    """Read generated texts and count; one that cannot be read is wrong, and is reported.

    Args:
        texts: What the model wrote, one per question.
        choices: The choices of each question.
        answers: The text of the right choice of each.
        clips: The name of each question's clip; by default each is of its own.
        confidence: Level of the intervals.

    Raises:
        ValueError: For no texts, lengths that differ, an answer that is not among its choices, and as `parse_choice`.
        TypeError: For anything but text.
    """
    checked.same_length(texts=texts, choices=choices, answers=answers)
    for index, (answer, options) in enumerate(zip(answers, choices, strict=True)):
        if answer not in options:
            raise ValueError(f"answers[{index}] is {answer!r}, which is not among its choices {tuple(options)}")
    parsed = tuple(parse_choice(text, options) for text, options in zip(texts, choices, strict=True))
    correct = tuple(found.choice == answer for found, answer in zip(parsed, answers, strict=True))
    if not parsed:
        raise ValueError("texts is empty: there is nothing to score without a text")
    unparsed = tuple(found.choice is None for found in parsed)
    return GeneratedScore(
        share(correct, clips=clips, confidence=confidence),
        share(unparsed, clips=clips, confidence=confidence),
        parsed,
        correct,
    )


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _lettered(match: re.Match[str], choices: Sequence[str]) -> str | None:
    """The choice of a letter, None if there is none of that letter."""
    index = ascii_uppercase.index(match[match.lastindex or 0].upper())
    return choices[index] if index < len(choices) else None


def _head(text: str, start: int, choices: Sequence[str]) -> str:
    """Return what follows in the line, or enough of it to be neither a choice nor what a longer text begins with.

    A line that declares a thousand answers is not read a thousand times.
    """
    enough = 8 + 3 * max(len(choice) for choice in choices)  # `casefold` makes three letters of one at most
    end = start + 2 * enough
    while True:
        line = _LINE_END.split(text[start:end], maxsplit=1)[0]
        if len(line) < end - start:
            return line
        head = line.rstrip("\\boxedt")  # in the middle of `\boxed` or `\text` nothing is cut
        if len(_folded(head)) > enough:
            return head
        end += end - start


def _reading(line: str, choices: Sequence[str]) -> ParsedChoice | None:
    """Read a line that begins with a letter, or is the text of a choice; None if neither."""
    line = line.strip().lstrip("-#> ").rstrip()
    texts = _same_text(line, choices)
    match = _LEADING.match(line)
    chosen = None if match is None else _lettered(match, choices)
    if match is None or chosen is None:
        return _agreed(texts, "text")
    behind = _same_text(line[match.end() :], choices)
    return _agreed([chosen, *texts, *(() if chosen in behind else behind)], "letter")


def _agreed(found: Sequence[str | None], how: Literal["letter", "text"]) -> ParsedChoice | None:
    """The one choice that was found; None if none was."""
    if not found:
        return None
    return ParsedChoice(found[0], how) if len(set(found)) == 1 else ParsedChoice(None, "ambiguous")


def _folded(text: str) -> str:
    """A text for comparison: without markup, case, surrounding marks, or spaces that tell nothing."""
    return " ".join(_MARKUP.sub("", text).casefold().split()).strip(_AROUND)


def _same_text(text: str, choices: Sequence[str]) -> list[str]:
    """The choices of this very text; in upper and lower case as written, if one is."""
    exact = [choice for choice in choices if choice == text.strip(_AROUND)]
    return exact or [choice for choice in choices if _folded(choice) and _folded(choice) == _folded(text)]


def _opening(text: str, choices: Sequence[str]) -> list[str]:
    """The longest choices that a text begins with."""
    text = _folded(text)
    opening = [
        choice for choice in choices if _folded(choice) and re.match(re.escape(_folded(choice)) + r"(?!\w)", text)
    ]
    longest = max((len(_folded(choice)) for choice in opening), default=0)
    return [choice for choice in opening if len(_folded(choice)) == longest]


def _mentioned(text: str, choices: Sequence[str]) -> list[str]:
    """The choices whose texts are in a text as whole words, and not only inside a longer one."""
    text = _folded(text)
    spans = [
        (match.start(), match.end(), choice)
        for choice in choices
        if _folded(choice)
        for match in re.finditer(rf"(?<!\w){re.escape(_folded(choice))}(?!\w)", text)
    ]
    inside, furthest = set[tuple[int, int]](), 0
    for start, end in sorted({(start, end) for start, end, _ in spans}, key=lambda span: (span[0], -span[1])):
        if end <= furthest:
            inside.add((start, end))
        furthest = max(furthest, end)
    return [choice for start, end, choice in spans if (start, end) not in inside]


def _check_choices(choices: Sequence[str]) -> None:
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise ValueError(f"choices are 2 to {len(ascii_uppercase)}, one per letter, got {len(choices)}")
    if any(not choice.strip() for choice in choices):
        raise ValueError(f"no choice may be blank, got {tuple(choices)}")
