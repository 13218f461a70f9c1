"""`mechaudio specialists`: the study of who listens, as tables, figures and a page."""

import argparse
import sys

from mechaudio.cli.mistakes import opened, writable
from mechaudio.cli.options import add_verb, at_least
from mechaudio.cli.outcome import Outcome
from mechaudio.cli.questions import add_source, questions
from mechaudio.cli.studies import (
    STUDY_LEAVES,
    add_out,
    add_split_seed,
    command,
    keep,
    tell_left_out,
    with_source,
    write,
)


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "specialists",
        does="study which heads listen, and whether steering by them helps",
        leaves=STUDY_LEAVES,
        examples=("mechaudio specialists --data mmar:MMAR-meta.jsonl --audio recordings/ --out reports/mmar",),
    )
    add_source(verb, fewest=4)
    verb.add_argument(
        "--k",
        type=at_least(1),
        nargs="+",
        default=[20, 10, 30],
        metavar="K",
        help="numbers of heads, the first one reported in detail (default: 20 10 30)",
    )
    verb.add_argument(
        "--queries",
        default="last",
        metavar="ROWS",
        help="query rows to read and to steer, such as choices; listening: those that are found to listen (default: "
        "last)",
    )
    add_split_seed(verb)
    verb.add_argument(
        "--batch-size", type=at_least(1), default=8, metavar="N", help="questions per forward pass (default: 8)"
    )
    add_out(verb, "specialists", resumes=True)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Run the study and write its results, tables, figures and page."""
    writable(arguments.out)
    from mechaudio.experiments.specialists_study import SpecialistsSettings, specialists_study
    from mechaudio.report.specialists_findings import specialists_findings
    from mechaudio.report.specialists_page import specialists_figures, write_specialists_page
    from mechaudio.report.specialists_tables import specialists_published, specialists_tables

    settings = SpecialistsSettings(ks=tuple(arguments.k), queries=arguments.queries, seed=arguments.split_seed)
    asked = questions(arguments.data, arguments.n, arguments.seed, arguments.audio)
    model = opened(arguments)
    study = specialists_study(
        model,
        asked,
        settings=settings,
        batch_size=arguments.batch_size,
        out=arguments.out / "results",
        progress=True,
    )
    study = with_source(study, arguments)
    keep(study, arguments)
    tables = specialists_tables(study)
    write(arguments.out, (*tables, *specialists_published()), specialists_figures(study))
    page = write_specialists_page(
        study,
        arguments.out / "index.html",
        title=f"Who listens in {arguments.model}, asked about {arguments.data}",
        command=_command(arguments),
    )
    tell_left_out(arguments, study.failures)
    if study.n_cut:
        print(f"{study.n_cut} recordings are longer than the model hears: it heard the beginnings", file=sys.stderr)
    return Outcome("\n".join([*specialists_findings(study), str(page)]), result=study, tables=tables, page=page)


def _command(arguments: argparse.Namespace) -> str:
    words = ["--queries", arguments.queries] if arguments.queries != "last" else []
    return command(arguments, "--k", *map(str, arguments.k), *words, "--split-seed", str(arguments.split_seed))
