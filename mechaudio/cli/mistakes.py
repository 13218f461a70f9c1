"""What the verbs share: a user's mistake, told in one message, and opening a model without noise."""

import argparse
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

#: What the library raises where the user's input is at fault; anything else is our own mistake and shows its traceback.
MISTAKES = (ValueError, TypeError, KeyError, OSError)

#: Files that hold a tokenizer's vocabulary; a folder needs one of them.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")


class UserMistakeError(Exception):
    """Something that only the user can put right; the message says what and how."""


def opened(name: str, *, prove: bool = True, ask: bool = True) -> "AudioLM":
    """Open a model, or say why it cannot be opened.

    Args:
        name: `tiny`, `toy`, a hub id or a local folder.
        prove: whether to prove its hook points.
        ask: whether it will be asked questions, for which it needs a tokenizer.

    Raises:
        UserMistakeError: it cannot be opened, or not be asked.
    """
    if ask:
        _refuse_without_tokenizer(Path(name))
    from mechaudio.tracing.load import load

    _quiet()
    with telling(f"cannot open model {name!r}: "):
        return load(name, prove=prove)


def _refuse_without_tokenizer(folder: Path) -> None:
    """Say it before the weights are loaded: transformers makes an empty tokenizer of a folder that holds none."""
    if (folder / "config.json").exists() and not any((folder / name).exists() for name in TOKENIZERS):
        raise UserMistakeError(
            f"cannot ask model {str(folder)!r}: the folder holds no tokenizer (none of {', '.join(TOKENIZERS)}), so "
            "no question can be written out for it. Save the processor that belongs to it into the folder: "
            "AutoProcessor.from_pretrained(HUB_ID).save_pretrained(FOLDER)"
        )


@contextmanager
def telling(about: str = "") -> Iterator[None]:
    """Tell what goes wrong with a model as a mistake: beside `MISTAKES` a missing package, weights or hook points.

    Args:
        about: What the message opens with.

    Raises:
        UserMistakeError: Something went wrong.
    """
    from safetensors import SafetensorError

    from mechaudio.tracing.sites import HookPointError, NoSuchHookPoint

    try:
        yield
    except SafetensorError as error:
        raise UserMistakeError(
            f"{about}its weights cannot be read ({error}). Was the file cut off? Fetch or save it again"
        ) from error
    except (*MISTAKES, ImportError, HookPointError, NoSuchHookPoint) as error:
        raise UserMistakeError(f"{about}{words(error)}") from error


@contextmanager
def warnings_as_messages() -> Iterator[None]:
    """Print warnings as their message alone, without the line of code that they come from."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"{message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _quiet() -> None:
    """Leave stderr to our own messages and progress: transformers' bars and advice are not about the user's task."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def writable(folder: Path) -> None:
    """Make the folder that a page goes to, before the work is done that would be lost without it."""
    if folder.is_file():
        raise UserMistakeError(
            f"cannot write to --out {folder}: it is a file, and a page goes into a folder. Give a folder, such as "
            f"--out {folder.with_suffix('')}-page"
        )
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


def in_options(message: str, arguments: argparse.Namespace) -> str:
    """A message of the library in the words of the command line.

    Options are named as the library's arguments are: `out=` is `--out`, `mapping='numbered'` is `--mapping numbered`,
    `allow_cut=True` is `--allow-cut`. What a verb has no option for is not advised.

    Args:
        message: of an error.
        arguments: of the verb.
    """
    options = vars(arguments)
    if "allow_cut" not in options:
        message = message.replace(", or pass allow_cut=True to drop the end", "")
    names = "|".join(map(re.escape, options))
    value = r"\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[\w.-]*\w"
    return re.sub(rf"\w+\((?:[^()]|\([^()]*\))*\)|(?<![\w./-])(?P<name>{names})=(?P<value>{value})?", _option, message)


def _option(found: re.Match[str]) -> str:
    """One argument as an option; a call, such as `AudioClip(...)`, stays as it is."""
    if found["name"] is None:
        return found[0]
    option = f"--{found['name'].replace('_', '-')}"
    value = re.sub(r"[\[\],'\"]", "", found["value"] or "")
    return option if value in ("", "True") else f"{option} {value}"


def at_least(lowest: int) -> Callable[[str], int]:
    """What reads a whole number from the command line, `lowest` or more."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be at least {lowest}, got {value}")
        return value

    return number
