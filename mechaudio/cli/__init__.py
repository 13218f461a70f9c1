"""The command line: one sub-command per verb, one file each. Parse, call one function, write the result.

A user's mistake (a missing file, an unknown name, too few choices) ends in one message on stderr and exit code 2;
Ctrl-C ends in "stopped" and exit code 130.
"""

import argparse
import sys
from collections.abc import Sequence

from mechaudio.cli import check, demo, evaluate, listen, mata, models, patch, specialists, temporal
from mechaudio.cli.mistakes import UserMistakeError, in_options, warnings_as_messages

#: What shells report of a command that Ctrl-C ended.
STOPPED = 130


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
        Ctrl-C.
    """
    arguments = parser().parse_args(argv)
    try:
        with warnings_as_messages():
            return arguments.run(arguments)
    except UserMistakeError as mistake:
        print(f"mechaudio {arguments.verb}: {in_options(str(mistake), arguments)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nmechaudio {arguments.verb}: stopped", file=sys.stderr)
        return STOPPED
