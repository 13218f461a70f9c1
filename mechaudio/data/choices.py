"""Choices and answers of a benchmark's rows, in the shapes in which people write them, as texts.

Choices come as a list of texts or numbers, as the text of a list or one to a line, as `{"A": "dog", "B": "cat"}`,
`{"text": [...], "label": [...]}` or a list of `{"text", "label"}`, with or without `(A)` or `1.` before each, and
filled up with blanks. An answer is a text, a number, or the letter alone, with or without brackets. What could be read
in two ways is refused.
"""

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from mechaudio.data.corpus import brief, finite
from mechaudio.question import FEWEST_CHOICES, MOST_CHOICES

MARKED = (
    re.compile(
        r"[(\[（]([A-Za-z])[)\]）]\s*(.*)|([A-Z])[).:）．：、]\s*(.*)|([a-z])[).:）．：、](?:\s+(.*)|$)", re.DOTALL
    ),
    re.compile(r"[(\[（](\d{1,2})[)\]）]\s*(.*)|(\d{1,2})[).）．、](?:\s+(.*)|$)", re.DOTALL),
)
"""A letter or a number before a choice: the mark and the text, in one of the pairs of groups."""
DOUBTFUL = re.compile(r"\W{0,3}([A-Za-z])(?:[)\]>}.:*）】．：、]|\s+[-–—]\s)")
"""Characters of a letter before a choice, or of its text."""
LABEL = re.compile(r"(?:(?:choice|option|answer|opt)[\s_:-]*)?[(\[（]?([a-z]|\d{1,2})[)\].:）．：、]?", re.IGNORECASE)
TEXT_KEYS = ("text", "texts", "choices", "options", "choice", "option", "value", "values", "content")
LABEL_KEYS = ("label", "labels", "letter", "letters", "key", "keys", "id", "ids", "index", "option")
TRUTH_KEYS = ("is_correct", "correct", "is_answer", "is_right", "right")
WITHHELD = ("", "none", "null", "n/a", "hidden", "withheld")


@dataclass(frozen=True)
class Choices:
    """The choices of a row.

    Attributes:
        texts: Each in one line, without its letter; blank ones are left out.
        written: The same as the row has them.
        labels: The letter or number by which an answer may name each, in small letters.
        places: Where in the row each was, from 0.
        named: Whether the row itself says the labels.
        repairs: What was done to them.
    """

    texts: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    named: bool = False
    repairs: tuple[str, ...] = ()


def read_choices(value: Any) -> Choices:
    """The choices of a row, whatever their shape; none at all for a value that holds none.

    Raises:
        ValueError: For a shape that could be read in more than one way, or in none.
    """
    pairs = _pairs(plain(value))
    labels = [None if label is None else _label(label) for label, _ in pairs]
    named = any(label is not None for label in labels)
    if named and (None in labels or len(set(labels)) < len(labels)):
        raise ValueError(f"the labels of the choices are not one letter or number each: {brief(value)}")
    written = [_text(choice) for _, choice in pairs]
    marks, bare = _without_marks(written)
    if named and marks and marks != labels:
        raise ValueError(f"choices of the labels {brief(labels)} begin with other ones: {brief(written)}")
    called = labels if named else marks or _usual_letters(written)
    kept = [place for place, text in enumerate(bare) if text]
    n_blank = len(bare) - len(kept)
    broken = {place for place in kept if len(bare[place].splitlines()) > 1}
    repairs = [f"{n_blank} of the {len(bare)} choices are blank, and left out"] if n_blank else []
    repairs += [f"a line break in {len(broken)} of the choices became a space"] if broken else []
    return Choices(
        texts=tuple(" ".join(bare[place].split()) if place in broken else bare[place] for place in kept),
        written=tuple(written[place] for place in kept),
        labels=tuple(str(called[place]) for place in kept),
        places=tuple(kept),
        named=named or bool(marks),
        repairs=tuple(repairs),
    )


def _usual_letters(written: Sequence[str]) -> list[str]:
    """The letters by places; none where one may stand before a choice of another place."""
    letters = [*ascii_lowercase[: len(written)], *[""] * (len(written) - MOST_CHOICES)]
    doubtful = [DOUBTFUL.match(choice) for choice in written]
    is_other = any(mark and mark[1].casefold() != letter for mark, letter in zip(doubtful, letters, strict=True))
    return [""] * len(written) if is_other else letters


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """A label, None where the row has none, and a choice, for each."""
    if is_missing(value):
        return []
    if isinstance(value, str):
        read = _literal(value.strip())
        if read is not None:
            return _pairs(read)
        lines = [line for line in value.splitlines() if line.strip()]
        return [(None, line) for line in lines] if len(lines) >= FEWEST_CHOICES else []
    if isinstance(value, Mapping):
        return _pairs_of_mapping(value)
    if isinstance(value, (list, tuple)):
        return [_pair(choice) for choice in value]
    raise ValueError(f"choices are a list of texts, or a mapping of letters to texts, got {brief(value)}")


def _pairs_of_mapping(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    text, label = _keys(value)
    if text is not None and isinstance(value[text], (list, tuple)):
        texts, labels = value[text], value[label] if label is not None else None
        if labels is None:
            return [_pair(choice) for choice in texts]
        if not isinstance(labels, (list, tuple)) or len(labels) != len(texts):
            raise ValueError(f"choices need as many labels as texts, got {brief(value)}")
        return list(zip(labels, texts, strict=True))
    if value and all(LABEL.fullmatch(str(key).strip()) for key in value):
        return list(value.items())
    raise ValueError(f"choices in a mapping have letters, or `text` and `label`, for keys; got {brief(value)}")


def _pair(choice: Any) -> tuple[Any, Any]:
    if isinstance(choice, Mapping):
        text, label = _keys(choice)
        if text is not None:
            return (choice[label] if label is not None else None), choice[text]
        if len(choice) == 1:
            return _pairs_of_mapping(choice)[0]
        raise ValueError(f"a choice in a mapping has a `text`, got {brief(choice)}")
    if isinstance(choice, (list, tuple)) and len(choice) == 2 and LABEL.fullmatch(str(choice[0]).strip()):
        return choice[0], choice[1]
    return None, choice


def _keys(value: Mapping[Any, Any]) -> tuple[Any, Any]:
    """The keys of the text and of the label, None where there is none."""
    names = {str(key).strip().casefold(): key for key in value}
    text = next((names[name] for name in TEXT_KEYS if name in names), None)
    return text, next((names[name] for name in LABEL_KEYS if name in names and names[name] != text), None)


def _label(value: Any) -> str:
    match = LABEL.fullmatch(_text(value))
    if match is None:
        raise ValueError(f"a choice is called by a letter or a number, got {brief(value)}")
    return match[1].casefold()


def _text(choice: Any) -> str:
    """One choice as a text; blank for nothing."""
    if is_missing(choice):
        return ""
    if isinstance(choice, (str, int, float)):
        return str(choice).strip()
    raise ValueError(f"a choice is a text or a number, got {brief(choice)}")


def _without_marks(written: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """The letters or numbers before choices, if all that are not blank have one, and no two the same; and the rest."""
    for pattern in MARKED:
        matches = [pattern.fullmatch(choice) for choice in written]
        groups = [[group for group in match.groups() if group is not None] if match else [] for match in matches]
        marks = [group[0].casefold() if group else None for group in groups]
        bare = [group[1].strip() if len(group) > 1 else "" for group in groups]
        usual = [*ascii_lowercase[: len(written)], *(str(number) for number in range(1, len(written) + 1))]
        has_all = all(mark in usual if choice else True for mark, choice in zip(marks, written, strict=True))
        said = [mark for mark in marks if mark is not None]
        if said and has_all and len(set(said)) == len(said) and any(bare):
            return marks, bare
    return [], list(written)


def withheld(answer: Any) -> bool:
    """Return whether an answer is not told."""
    return is_missing(plain(answer)) or (isinstance(answer, str) and answer.strip().casefold() in WITHHELD)


def says_itself(choices: Any) -> str | None:
    """Return the key by which choices say themselves whether they are right; None where they do not."""
    listed = plain(choices)
    keyed = [choice for choice in listed if isinstance(choice, Mapping)] if isinstance(listed, list) else []
    return next((str(key) for choice in keyed for key in choice if str(key).strip().casefold() in TRUTH_KEYS), None)


def right_choice(answer: Any, choices: Choices, first_index: int | None = None) -> str | None:
    """The choice that an answer names.

    With a `first_index`, a whole number names a place. Else the choice of that very text comes first, written with its
    letter or without; then a text that differs in capitals alone; then an equal number; then a letter, or the letter
    and its text. An answer that is the text of one choice and the label that the row gives another names none.

    Args:
        answer: A text or a number, or a list of one; anything else names none.
        choices: Choices of the row.
        first_index: The number of the first choice.

    Returns:
        One of the texts, or None.
    """
    value = plain(answer)
    value = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    if not isinstance(value, (str, int, float)) or is_missing(value):
        return None
    number = finite(value)
    if first_index is not None and number is not None:
        index = number - first_index
        return choices.texts[choices.places.index(int(index))] if index in choices.places else None
    text = str(value).strip()
    by_text, by_label = _by_text(text, number, choices), _by_label(text, number, choices)
    if choices.named and None not in (by_text, by_label) and by_text != by_label:
        return None
    return by_text if by_text is not None else by_label


def _by_text(told: str, number: float | None, choices: Choices) -> str | None:
    for written, text in zip(choices.written, choices.texts, strict=True):
        if told in (written, text):
            return text
    alike = {text for text in choices.texts if text.casefold() == told.casefold()}
    if not alike and number is not None:
        alike = {text for text in choices.texts if finite(text) == number}
    return alike.pop() if len(alike) == 1 else None


def _by_label(told: str, number: float | None, choices: Choices) -> str | None:
    alone = LABEL.fullmatch(told if number is None or number % 1 else str(int(number)))
    texts = dict(zip(choices.labels, choices.texts, strict=True))
    if alone is not None:
        label = alone[1].casefold()
        index = ascii_lowercase.index(label) if label.isalpha() and all(map(str.isdigit, texts)) else None
        return texts.get(label) if index not in choices.places else choices.texts[choices.places.index(index)]
    for match in filter(None, (pattern.fullmatch(told) for pattern in MARKED)):
        mark, rest = [group for group in (*match.groups(), "") if group is not None][:2]
        text = texts.get(mark.casefold())
        if text is not None and text.casefold() == rest.strip().casefold():
            return text
    return None


def is_number(value: Any) -> bool:
    """Return whether a field is a number, or a text that writes one."""
    return isinstance(value, (str, int, float)) and finite(value) is not None


def plain(value: Any) -> Any:
    """Arrays and numbers of numpy as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def is_missing(value: Any) -> bool:
    """Return whether a field holds nothing: None, or the NaN that tables have for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _literal(text: str) -> list[Any] | dict[Any, Any] | None:
    if not text.startswith(("[", "{", "(")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, (list, tuple, dict)):
            return value if isinstance(value, dict) else list(value)
    return None
