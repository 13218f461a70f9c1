"""What the verbs share: a user's mistake, told in one message, and opening a model without noise."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

#: What the library raises where the user's input is at fault; anything else is our own mistake and shows its traceback.
MISTAKES = (ValueError, TypeError, KeyError, OSError)


class UserMistakeError(Exception):
    """Something that only the user can put right; the message says what and how."""


def opened(name: str, *, prove: bool = True) -> "AudioLM":
    """Open a model, or say why it cannot be opened."""
    from mechaudio.tracing.load import load

    _quiet()
    try:
        return load(name, prove=prove)
    except MISTAKES as error:
        raise UserMistakeError(f"cannot open model {name!r}: {words(error)}") from error


def _quiet() -> None:
    """Leave stderr to our own messages and progress: transformers' bars and advice are not about the user's task."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def writable(folder: Path) -> None:
    """Make the folder that a page goes to, before the work is done that would be lost without it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".mechaudio-can-write"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserMistakeError(f"cannot write to --out {folder}: {error.strerror or error}") from error


def words(error: BaseException) -> str:
    """An error's message; a KeyError's `str` is its message in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def at_least_one(text: str) -> int:
    """A whole number from the command line, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
