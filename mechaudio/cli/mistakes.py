"""A user's mistake, told in one message, and opening a model without noise: shared by the verbs."""

import argparse
import dis
import errno
import logging
import os
import re
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechaudio.results import refuse_kept
from mechaudio.writing import refuse_others

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

_PACKAGE = Path(__file__).parents[1]

#: Free bytes that a page with its figures needs.
ROOM = 32 * 2**20

#: Longest message that is told.
LONGEST = 4000

#: Files that hold a tokenizer's vocabulary; a folder needs one of them.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")


class UserMistakeError(Exception):
    """Something that only the user can put right; the message says what and how."""


def opened(arguments: argparse.Namespace, *, prove: bool = True, ask: bool = True) -> "AudioLM":
    """Open a model, or say why it cannot be opened, or not be asked, for which it needs a tokenizer.

    Raises:
        UserMistakeError: It cannot be opened, or not be asked.
    """
    name = arguments.model
    if ask:
        _refuse_without_tokenizer(Path(name))
    from mechaudio.tracing.load import load

    _quiet()
    with telling(f"cannot open model {name!r}: "):
        return load(name, prove=prove, device=arguments.device, dtype=arguments.dtype, revision=arguments.revision)


def _refuse_without_tokenizer(folder: Path) -> None:
    """Say it before the weights are loaded: transformers makes an empty tokenizer of a folder that holds none."""
    if (folder / "config.json").exists() and not any((folder / name).exists() for name in TOKENIZERS):
        raise UserMistakeError(
            f"cannot ask model {str(folder)!r}: the folder holds no tokenizer (none of {', '.join(TOKENIZERS)}), so "
            "no question can be written out for it. Save the processor that belongs to it into the folder: "
            "AutoProcessor.from_pretrained(HUB_ID).save_pretrained(FOLDER)"
        )


def is_mistake(error: BaseException) -> bool:
    """Return whether an error is the user's to put right: the library refused something, or the system did.

    The library refuses by a `raise` of its own. What Python or another package raises inside it (`'NoneType' object is
    not iterable`) is our mistake, whatever its class, and so is a broken `assert`.
    """
    if isinstance(error, OSError) or type(error).__module__.startswith("mechaudio."):
        return True
    if not isinstance(error, Exception) or isinstance(error, (AssertionError, NotImplementedError)):
        return False
    last: Any = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    return code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"] and _is_ours(code.co_filename)


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(_PACKAGE)


@contextmanager
def telling(about: str = "") -> Iterator[None]:
    """Tell what goes wrong with a model as a mistake that opens with `about`, what others make of its files included.

    Raises:
        UserMistakeError: Something went wrong that is not our own mistake.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise UserMistakeError(
            f"{about}its weights cannot be read ({error}). Was the file cut off? Fetch or save it again"
        ) from error
    except Exception as error:
        if is_mistake(error) or isinstance(error, ImportError):  # a package that the checkpoint needs
            raise UserMistakeError(f"{about}{words(error)}") from error
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if _is_ours(frame.f_code.co_filename):
            raise
        said = " ".join(words(error).split())[:500]
        raise UserMistakeError(
            f"{about}its files are not what transformers expects ({type(error).__name__}: {said}). Are they whole, and "
            "all of one checkpoint?"
        ) from error


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


def writable(folder: Path, makes: str) -> None:
    """Make the folder that a page goes to, before the work is done that would be lost without it.

    Raises:
        UserMistakeError: It cannot be made or written to, or its disk has no room for a page.
        ValueError: It holds something else, which would be lost or mistaken for a part of this.
    """
    if not os.fspath(folder).strip() or folder == Path():
        raise UserMistakeError("--out is empty, which is the current folder: name one, such as --out reports/page")
    try:
        if os.path.lexists(folder) and not folder.is_dir():  # a file, a pipe, a device, or a link that leads nowhere
            raise UserMistakeError(
                f"cannot write to --out {folder}: it is no folder, and a page goes into one. Give a folder, such as "
                f"--out {folder.with_suffix('').name}-page"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # of no name, so that nothing of the user's is in its way
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserMistakeError(f"cannot write to --out {folder}: {error.strerror or error}") from error
    if free < ROOM:
        raise UserMistakeError(
            f"cannot write to --out {folder}: its disk has {free / 1e6:.1f} MB free, and a page with its figures takes "
            f"up to {ROOM / 1e6:.0f}. Make room, or give another --out"
        )
    refuse_others(folder, ("index.html",), "a page of mechaudio", known_by=("index.html", 'content="mechaudio"'))
    for inside in (folder, folder / "results"):
        refuse_kept(inside, f"a {makes}", results=(makes,))


def words(error: BaseException) -> str:
    """An error's message; a KeyError's `str` is its message in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def remedy(error: OSError, arguments: argparse.Namespace) -> str:
    """Say what the system refused, with the path and what to do; an error of the library has words of its own."""
    if error.errno is None:
        return words(error)
    out = getattr(arguments, "out", None)
    path = error.filename if error.filename is not None else out
    message = f"{error.strerror or error}" + ("" if path is None else f": {os.fspath(path)!r}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{message}. Make room, and {resume(arguments)}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{message}. Ask for the right to it, or name another place"
    return message


def resume(arguments: argparse.Namespace) -> str:
    """Say how to go on with a command that was stopped, and what is left of it."""
    out, kept = getattr(arguments, "out", None), getattr(arguments, "kept", None)
    if kept is not None:
        return (
            f"give the same command again. The result is kept in {kept}, for ma.Result.load; the rest can be made of it"
        )
    if getattr(arguments, "resumes", False) and out is not None:
        return f"give the same command again: what was done is kept in {out}, and it goes on from there"
    return "give the same command again: it begins anew"


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a command in words, where this is the thread that hears signals.

    What goes wrong while a command that was stopped tidies up, such as a folder that a browser still writes to, is no
    mistake of anybody's: the stop is raised in its place.
    """

    def stop(*_: object) -> None:
        raise TerminatedError

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # in another thread
        yield
        return
    try:
        yield
    except Exception as error:
        stopped: BaseException | None = error
        while stopped is not None and not isinstance(stopped, KeyboardInterrupt):
            stopped = stopped.__context__
        if stopped is not None:
            raise stopped from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def in_options(message: str, arguments: argparse.Namespace) -> str:
    """A message of the library in the words of the command line.

    Options are named as the library's arguments are: `out=` is `--out`, `mapping='numbered'` is `--mapping numbered`,
    `allow_cut=True` is `--allow-cut`. What a verb has no option for is not advised.
    """
    if len(message) > LONGEST:
        message = f"{message[:LONGEST]} ..."
    options = vars(arguments)
    if "allow_cut" not in options:
        message = message.replace(", or pass allow_cut=True to drop the end", "")
    names = "|".join(map(re.escape, options))
    value = r"\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[\w.-]*\w"
    call = r"(?<!\w)\w+\((?:[^()]|\([^()]*\))*\)"
    return re.sub(rf"{call}|(?<![\w./-])(?P<name>{names})=(?P<value>{value})?", _option, message)


def _option(found: re.Match[str]) -> str:
    """One argument as an option; a call, such as `AudioClip(...)`, stays as it is."""
    if found["name"] is None:
        return found[0]
    option = f"--{found['name'].replace('_', '-')}"
    value = re.sub(r"[\[\],'\"]", "", found["value"] or "")
    return option if value in ("", "True") else f"{option} {value}"
