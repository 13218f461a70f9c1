"""The command line: one sub-command per verb, one file each. Parse, call one function, write the result.

A user's mistake (a missing file, an unknown name, too few choices) ends in one message on stderr and exit code 2, a
mistake of ours in a traceback and exit code 1. Ctrl-C and SIGTERM say how to go on, with exit codes 130 and 143.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from typing import Any

from mechaudio.cli.mistakes import (
    TerminatedError,
    in_options,
    is_mistake,
    remedy,
    resume,
    terminable,
    warnings_as_messages,
    words,
)
from mechaudio.cli.outcome import fitted, tell
from mechaudio.processes import launch
from mechaudio.provenance import version
from mechaudio.rooms import as_room

#: Every verb in the order of `--help`: the module of this name has `add`, and `ABOUT` it for the documentation.
VERBS = (
    "demo",
    "listen",
    "models",
    "check",
    "evaluate",
    "listens",
    "ground",
    "grounding",
    "temporal",
    "specialists",
    "mata",
    "patch",
    "assemble",
    "get",
)
#: What shells report of a command that Ctrl-C ended, that was terminated, and whose reader, such as `head`, has seen
#: enough.
STOPPED, TERMINATED, UNREAD = 130, 143, 141

SHELLS = ("bash", "zsh", "fish")


class _Completion(argparse.Action):
    """Print a script of completion and end."""

    def __init__(self, **options: Any):
        super().__init__(choices=SHELLS, **options)

    def __call__(self, top: argparse.ArgumentParser, _: object, shell: Any, option_string: str | None = None) -> None:  # noqa: ARG002
        """Print the script of a shell."""
        try:
            import shtab
        except ImportError:
            top.error("--completion needs the package shtab: pip install 'mechaudio[completion]'")
        paths = dict.fromkeys(("DIR", "FOLDER", "NAME_OR_PATH"), shtab.DIRECTORY)
        paths |= dict.fromkeys(("CLIP", "FILE", "PATH"), shtab.FILE)
        (verbs,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
        for option in (option for verb in verbs.choices.values() for option in verb._actions):
            if option.metavar in paths:
                option.complete = paths[option.metavar]
        print(shtab.complete(top, shell))
        top.exit()


def parser() -> argparse.ArgumentParser:
    """The sub-commands and their options."""
    top = argparse.ArgumentParser(prog="mechaudio", description="See where an audio language model listens.")
    top.add_argument("--version", action="version", version=f"mechaudio {version('mechaudio')}")
    top.add_argument("--completion", action=_Completion, help="print a script that completes commands in this shell")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name in VERBS:
        import_module(f"mechaudio.cli.{name}").add(verbs)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: Its words; by default those of the command line.

    Returns:
        The exit code: 0; 1 if `check` found a proof that fails; 2 for a user's mistake; 130 if it was stopped by
        Ctrl-C, 143 by SIGTERM; 141 if nobody reads what it prints.
    """
    arguments = parser().parse_args(argv)
    try:
        if not (is_first := launch().rank == 0) and not getattr(arguments, "resumes", False):
            return 0  # nothing is shared in this verb, so that one process is enough
        with warnings_as_messages(), terminable():
            # What others print while a verb runs is not its result.
            with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
                outcome = arguments.run(arguments)
            if is_first:
                text = outcome.to_json(arguments) if arguments.json else fitted(outcome.text, sys.stdout)
                print(text, flush=True)  # or nowhere: `>&-`
            return outcome.code
    except KeyboardInterrupt as stop:
        tell(f"\nmechaudio {arguments.verb}: stopped. To go on, {resume(arguments)}")
        return TERMINATED if isinstance(stop, TerminatedError) else STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return UNREAD
    except Exception as error:
        if not is_mistake(error):
            raise
        said = remedy(error, arguments) if isinstance(error, OSError) else words(error)
        tell(f"mechaudio {arguments.verb}: {in_options(said, arguments)}")
        return 2


as_room(__name__)
