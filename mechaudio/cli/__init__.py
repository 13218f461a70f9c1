"""The command line: one sub-command per verb, one file each. Parse, call one function, write the result.

A user's mistake (a missing file, an unknown name, too few choices) ends in one message on stderr and exit code 2;
Ctrl-C ends in "stopped" and exit code 130.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from mechaudio.cli import check, demo, evaluate, listen, mata, models, patch, specialists, temporal
from mechaudio.cli.mistakes import UserMistakeError, in_options, warnings_as_messages

#: What shells report of a command that Ctrl-C ended, and of one whose reader, such as `head`, has seen enough.
STOPPED, UNREAD = 130, 141


def parser() -> argparse.ArgumentParser:
    """The sub-commands and their options."""
    top = argparse.ArgumentParser(prog="mechaudio", description="See where an audio language model listens.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for verb in (demo, listen, models, check, evaluate, temporal, specialists, mata, patch):
        verb.add(verbs)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: its words; by default those of the command line.

    Returns:
        The exit code: 0; 1 if `check` found a proof that fails; 2 for a user's mistake; 130 if it was stopped by
        Ctrl-C; 141 if nobody reads what it prints.
    """
    arguments = parser().parse_args(argv)
    try:
        with warnings_as_messages():
            code = arguments.run(arguments)
            sys.stdout.flush()
            return code
    except UserMistakeError as mistake:
        print(f"mechaudio {arguments.verb}: {in_options(str(mistake), arguments)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nmechaudio {arguments.verb}: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return UNREAD
