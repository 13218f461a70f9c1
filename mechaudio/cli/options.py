"""Options that verbs share: which model they open, and values refused where given."""

import argparse
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mechaudio.arguments import followed_home

MOST = 1_000_000
"""Largest number of anything that is counted, such as questions or tokens."""
LARGEST_SEED = 2**63 - 1
DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
HELP_WIDTH = 79


def path(text: str) -> Path:
    """Read a path from the command line, and a `~` that the shell left, as in `--out=~/runs`."""
    return Path(followed_home(text))


def folder(text: str) -> Path:
    """Read a folder to write to from the command line."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: name a folder")
    return path(text)


def at_least(lowest: int, most: int = MOST) -> Callable[[str], int]:
    """Make a reader of whole numbers on the command line, from `lowest` to `most`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text[:40]!r}") from error
        if not lowest <= value <= most:
            bound = f"at least {lowest}" if value < lowest else f"at most {most}"
            raise argparse.ArgumentTypeError(f"must be {bound}, got {text[:40]}")
        return value

    return number


class EachOnce(argparse.Action):
    """Values of which none comes twice: a twin would count twice where tests are corrected, or be right beside it."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option_string: str | None = None):  # noqa: ARG002
        """Keep the values."""
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            raise argparse.ArgumentError(self, f"takes each value once, and {twice[0]} comes twice")
        setattr(namespace, self.dest, values)


def finite(text: str) -> float:
    """Read a number from the command line; NaN and infinity are none."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text[:40]!r}") from error
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got {text[:40]}")
    return value


def add_verb(
    verbs: argparse._SubParsersAction, name: str, *, does: str, leaves: str, examples: Sequence[str]
) -> argparse.ArgumentParser:
    """Add a sub-command that says what it is for.

    `does` is a sentence on what it does, without its end, and `leaves` one on what is there afterwards.
    """
    description = textwrap.fill(f"{does[0].upper()}{does[1:]}. {leaves}", HELP_WIDTH)
    verb = verbs.add_parser(
        name,
        help=does,
        description=description,
        epilog="\n  ".join(["for example:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    return verb


def add_model(
    verb: argparse.ArgumentParser,
    *,
    name: bool = True,
    default: str | None = "tiny",
    in_words: str = "tiny",
    action: type[argparse.Action] | str = "store",
) -> None:
    """Add the options that say which model is opened, and how.

    Without `name`, `--model` is left to the verb; with a default of None it chooses one, which `in_words` names.
    """
    if name:
        verb.add_argument(
            "--model",
            action=action,
            default=default,
            metavar="NAME",
            help=f"tiny, toy, small, a hub id or a local folder (default: {in_words})",
        )
    verb.add_argument(
        "--device",
        metavar="DEVICE",
        help="where it runs, such as cpu or cuda:0 (default: the CPU; of several processes, a GPU each)",
    )
    verb.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="type of its weights (default: auto, the checkpoint's own)"
    )
    verb.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id")


def add_batch_size(verb: argparse.ArgumentParser) -> None:
    """Add the option that says how many questions are asked at once."""
    verb.add_argument("--batch-size", type=at_least(1), metavar="N", help="questions at once (default: as many as fit)")


def add_target(verb: argparse.ArgumentParser) -> None:
    """Add the options that say which words are measured in the place of letters."""
    verb.add_argument(
        "--target",
        metavar="TEXT",
        help="words to measure, of all questions (default: the letter of the right choice; of open questions their "
        "answers)",
    )
    verb.add_argument(
        "--foil",
        metavar="TEXT",
        help="words that the target is held against (default: the other letters; of words, all that could follow)",
    )
    verb.add_argument(
        "--whole",
        action="store_true",
        default=None,
        help="count all tokens of the words (default: the first, and all of words that begin alike)",
    )


def add_workers(verb: argparse.ArgumentParser) -> None:
    """Add the option that says how many processes read clips ahead of the model."""
    verb.add_argument(
        "--workers",
        type=at_least(0),
        default=0,
        metavar="N",
        help="processes that read recordings ahead of the model (default: none)",
    )


def model_words(arguments: argparse.Namespace) -> list[str]:
    """The words of `add_model`'s options, for a command line that opens the same model."""
    words = ["--model", arguments.model]
    words += [] if arguments.device is None else ["--device", arguments.device]
    words += [] if arguments.dtype == "auto" else ["--dtype", arguments.dtype]
    return words + ([] if arguments.revision is None else ["--revision", arguments.revision])
