"""Rows of a multiple-choice benchmark into questions: what cannot be asked is left out and listed.

Real benchmarks differ in how they write one thing. Choices come as a list, as the text of a list, or one to a line,
with or without `(A)` before each; an answer is a text, with or without its letter, or the letter alone, and may be
withheld. What is kept is the text alone. Choices may repeat: the answer is a text, so that either letter is right.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from mechaudio.audio.stored import StoredClip
from mechaudio.data.corpus import Problems
from mechaudio.data.recordings import Recordings
from mechaudio.question import FEWEST_CHOICES, MOST_CHOICES, AudioQuestion

LETTERED = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[).:])\s*(\S.*)", re.DOTALL)
ALONE = re.compile(r"^\s*\(?([A-Z])[).:]?\s*$")
WITHHELD = ("", "none", "null", "n/a", "hidden", "withheld")


def asked(
    item: str,
    *,
    audio: Any,
    text: Any,
    choices: Any,
    answer: Any,
    meta: Mapping[str, Any],
    recordings: Recordings,
    problems: Problems,
    caption: str | None = None,
) -> AudioQuestion | None:
    """The question of one row, None where it cannot be asked, which is listed.

    Args:
        item: its id.
        audio: a `StoredClip`, a path below the recordings' folder, or a list of exactly one of them.
        text: the question.
        choices: a list of texts, or a text that holds them.
        answer: the right choice's text or letter; None or blank where it is withheld.
        meta: kept with the question.
        recordings: where paths are looked up.
        problems: where problems are listed.
        caption: the recording in words.
    """
    if not isinstance(text, str) or not text.strip():
        problems.add("blank question", item, f"the question is {text!r}; left out")
        return None
    options = read_choices(choices)
    if not FEWEST_CHOICES <= len(options) <= MOST_CHOICES:
        told = "an open question" if not options else f"{len(options)} choices"
        problems.add("no choices", item, f"{told}, and {FEWEST_CHOICES} to {MOST_CHOICES} can be asked; left out")
        return None
    if not all(option.strip() for option in options):
        problems.add("blank choice", item, f"one of the choices is blank, {options}; left out")
        return None
    bare = without_letters(options)
    right = right_choice(answer, options, bare)
    if right is None and not withheld(answer):
        problems.add("answer is no choice", item, f"answer {answer!r} is none of {bare}; left out")
        return None
    recording = _recording(item, audio, recordings, problems)
    if recording is None:
        return None
    return AudioQuestion(recording, text.strip(), bare, right, caption=caption, id=item, meta=meta)


def _recording(item: str, audio: Any, recordings: Recordings, problems: Problems) -> Path | StoredClip | None:
    given = list(audio) if isinstance(audio, (list, tuple)) else [audio]
    if len(given) != 1:
        problems.add(
            "not one recording", item, f"{len(given)} recordings, and a question is about one: {given[:3]}; left out"
        )
        return None
    if isinstance(given[0], StoredClip):
        found = recordings.measured(item, given[0])
    elif isinstance(given[0], str) and given[0].strip():
        found = recordings.find(item, given[0].strip().removeprefix("./"))
    else:
        problems.add("missing recording", item, f"the recording is {given[0]!r}; left out")
        return None
    return None if found is None else found[0]


def read_choices(value: Any) -> tuple[str, ...]:
    """The choices of a row as texts: from a list, the text of one (`"['a', 'b']"`), or a text of a line for each."""
    if value is None:
        return ()
    if isinstance(value, str):
        stripped = value.strip()
        listed = _literal(stripped) if stripped.startswith("[") else None
        value = stripped.splitlines() if listed is None else listed
        if listed is None and len(value) < FEWEST_CHOICES:
            return ()
    return tuple(choice if isinstance(choice, str) else str(choice) for choice in value)


def _literal(text: str) -> list[Any] | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, list) else None


def without_letters(choices: Sequence[str]) -> tuple[str, ...]:
    """Choices without `(A)`, `A.`, `A)` or `A:` before them, if all have it in order; without blanks around them."""
    found = [LETTERED.match(choice) for choice in choices]
    letters = [match[1] or match[2] if match else "" for match in found]
    if letters == list(ascii_uppercase[: len(choices)]):
        return tuple(match.group(3).rstrip() for match in found if match is not None)
    return tuple(choice.strip() for choice in choices)


def withheld(answer: Any) -> bool:
    """Whether an answer is not told."""
    return answer is None or (isinstance(answer, str) and answer.strip().casefold() in WITHHELD)


def right_choice(answer: Any, choices: Sequence[str], bare: Sequence[str]) -> str | None:
    """The choice that an answer names.

    The choice of that very text comes first, written with its letter or without; then a text that differs in capitals
    and outer blanks alone; then a letter.

    Args:
        answer: a text, or anything else, which names none.
        choices: as the row has them.
        bare: the same without letters.

    Returns:
        One of `bare`, or None.
    """
    if not isinstance(answer, str):
        return None
    told = answer.strip()
    for choice, text in zip(choices, bare, strict=True):
        if told in (choice.strip(), text):
            return text
    alike = {text for text in bare if text.casefold() == told.casefold()}
    if len(alike) == 1:
        return alike.pop()
    letter = ALONE.match(told)
    if letter is not None and ascii_uppercase.index(letter[1]) < len(bare):
        return bare[ascii_uppercase.index(letter[1])]
    return None


def one_text(value: Any) -> str:
    """A field that is now a text, now a list of texts."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
