"""`mechaudio listens`: the rows of the prompt over which the sound gets to the answer."""

import argparse

from mechaudio.cli.mistakes import opened, writable
from mechaudio.cli.options import add_verb, at_least
from mechaudio.cli.outcome import Outcome
from mechaudio.cli.questions import add_source, questions
from mechaudio.cli.studies import STUDY_LEAVES, add_out, command, keep, with_source, write

N = 40
CONDITIONS = ("audio", "audio+caption")


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "listens",
        does="find the rows of the prompt over which the sound gets to the answer",
        leaves=STUDY_LEAVES,
        examples=("mechaudio listens --model small --n 24 --each-layer",),
    )
    add_source(verb, fewest=1, n=N)
    verb.add_argument(
        "--condition", default="audio", choices=CONDITIONS, help="what the model is given (default: audio)"
    )
    verb.add_argument(
        "--window", type=at_least(1), metavar="N", help="layers of a window (default: a fifth of the model's)"
    )
    verb.add_argument("--each-layer", action="store_true", help="cut in each layer by itself too, which takes longest")
    verb.add_argument("--batch-size", type=at_least(1), metavar="N", help="questions at once (default: as many as fit)")
    add_out(verb, "listens")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Cut every edge, and write the result, tables, figures and page."""
    writable(arguments.out)
    from mechaudio.analyses.where_it_listens import where_it_listens
    from mechaudio.report.listening_page import listening_figures, listening_findings, write_listening_page
    from mechaudio.report.listening_tables import listening_tables

    asked = questions(arguments.data, arguments.n, arguments.seed, arguments.audio)
    model = opened(arguments)
    found = where_it_listens(
        model,
        asked,
        condition=arguments.condition,
        window=arguments.window,
        each_layer=arguments.each_layer,
        batch_size=arguments.batch_size,
        progress=True,
    )
    found = with_source(found, arguments)
    keep(found, arguments)
    tables = listening_tables(found)
    write(arguments.out, tables, listening_figures(found))
    page = write_listening_page(
        found,
        arguments.out / "index.html",
        title=f"Where {arguments.model} listens, asked about {arguments.data}",
        command=_command(arguments),
    )
    told = "\n".join([*listening_findings(found), str(page)])
    return Outcome(told, result=found, tables=tables, page=page, numbers={"rows_that_listen": list(found.rows)})


def _command(arguments: argparse.Namespace) -> str:
    words = ["--condition", arguments.condition]
    words += [] if arguments.window is None else ["--window", str(arguments.window)]
    return command(arguments, *words, *(["--each-layer"] if arguments.each_layer else []))
