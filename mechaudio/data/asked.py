"""Rows of a multiple-choice benchmark into questions: what cannot be asked is left out and listed.

What is kept of a choice is its text alone (`mechaudio.data.choices`). Choices may repeat: the answer is a text, so that
either letter is right. An answer may be withheld.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechaudio.arguments import n_of
from mechaudio.audio.clip import AudioClip, is_samples_and_rate
from mechaudio.audio.stored import StoredClip
from mechaudio.data.choices import is_missing, is_number, plain, read_choices, right_choice, says_itself, withheld
from mechaudio.data.corpus import Problems, brief
from mechaudio.data.recordings import Recordings
from mechaudio.question import FEWEST_CHOICES, MOST_CHOICES, AudioQuestion


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
    caption: Any = None,
    first_index: int | None = None,
) -> AudioQuestion | None:
    """The question of one row, None where it cannot be asked, which is listed.

    Args:
        item: Its id.
        audio: A path below the recordings' folder, a `StoredClip`, anything else that `AudioClip.load` takes, or a list
            of exactly one of them.
        text: The question.
        choices: In any of the shapes above.
        answer: The right choice's text, number or letter; None or blank where it is withheld.
        meta: Kept with the question.
        recordings: Where paths are looked up.
        problems: Where problems are listed.
        caption: The recording in words, if it is text.
        first_index: Where answers are the places of choices, that of the first one.
    """
    if not isinstance(text, str) or not text.strip():
        problems.add("blank question", item, f"the question is {brief(text)}; left out")
        return None
    try:
        options = read_choices(choices)
    except ValueError as error:
        problems.add("malformed choices", item, f"{error}; left out", error)
        return None
    if not FEWEST_CHOICES <= len(options.texts) <= MOST_CHOICES:
        why = (
            n_of(len(options.texts), "choice")
            if options.texts
            else f"an open question, with the choices {brief(choices)}"
        )
        problems.add("no choices", item, f"{why}, and {FEWEST_CHOICES} to {MOST_CHOICES} can be asked; left out")
        return None
    right = right_choice(answer, options, first_index)
    if right is None and not withheld(answer):
        advice = ", as it may count from 0 or 1: give first_index=" if is_number(answer) and first_index is None else ""
        why = f"answer {brief(answer)} is none of {brief(options.texts)}{advice}; left out"
        problems.add("answer is no choice", item, why)
        return None
    if right is None and (key := says_itself(choices)) is not None:
        why = f"its choices say by {key!r} which is right, and the answer is {brief(answer)}: give it as the answer"
        problems.add("answer is no choice", item, f"{why}; left out")
        return None
    recording = _recording(item, audio, recordings, problems)
    if recording is None:
        return None
    for repair in options.repairs:
        problems.add("blank choice" if "blank" in repair else "line break", item, f"{repair}; the question is kept")
    caption = text_or_none(caption)
    return AudioQuestion(recording, text.strip(), options.texts, right, caption=caption, id=item, meta=meta)


def check_first_index(first_index: int | None) -> None:
    """Raise for a number that no count begins with.

    Raises:
        ValueError: Unless it is 0, 1 or None.
    """
    if first_index is not None and (isinstance(first_index, bool) or first_index not in (0, 1)):
        raise ValueError(f"first_index is the number of the first choice, 0 or 1, or None; got {first_index!r}")


def _recording(
    item: str, audio: Any, recordings: Recordings, problems: Problems
) -> AudioClip | StoredClip | Path | None:
    given = list(audio) if isinstance(audio, (list, tuple)) and not is_samples_and_rate(audio) else [audio]
    if len(given) != 1:
        problems.add(
            "not one recording",
            item,
            f"{n_of(len(given), 'recording')}, and a question is about one: {brief(given)}; left out",
        )
        return None
    sound = given[0]
    if isinstance(sound, Mapping) and sound.get("bytes") is None and sound.get("array") is None:
        sound = sound.get("path")
    if isinstance(sound, str) and sound.strip():
        kept = recordings.find(item, sound.strip().removeprefix("./"))
    elif isinstance(sound, bytes):
        kept = recordings.measured(item, StoredClip(lambda: sound, f"the recording of {item}"))
    elif is_missing(sound) or isinstance(sound, str):
        problems.add("missing recording", item, f"the recording is {brief(audio)}; left out")
        return None
    else:
        kept = recordings.measured(item, sound)
    return None if kept is None else kept[0]


def one_text(value: Any) -> str:
    """A field that is now a text, now a list of texts."""
    return ", ".join(texts_of(value))


def text_or_none(value: Any) -> str | None:
    """A text with something in it; None for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def texts_of(value: Any) -> tuple[str, ...]:
    """A field that is a list of texts, or one of them."""
    value = plain(value)
    if is_missing(value):
        return ()
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)


def id_of(value: Any, otherwise: str) -> str:
    """The id of a row, if it is a text or a number."""
    name = "" if isinstance(value, bool) or is_missing(value) else value
    return (str(name).strip() if isinstance(name, (str, int, float)) else "") or otherwise
