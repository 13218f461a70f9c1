"""`mechaudio mata`: the study of MATA, as tables, figures and a page."""

import argparse

from mechaudio.cli.mistakes import UserMistakeError, opened, writable
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

MAX_NEW_TOKENS = 16
MAPPINGS = ("proportional", "numbered")


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "mata",
        does="study whether more attention to audio in the middle layers helps",
        leaves=STUDY_LEAVES,
        examples=("mechaudio mata --no-generate --n 300",),
    )
    add_source(verb, fewest=2)
    verb.add_argument(
        "--mapping",
        default="proportional",
        choices=MAPPINGS,
        help="where the published layers, 10 to 20 of 28, are in another model: in the same part of its depth, or at "
        "the same numbers (default: proportional)",
    )
    verb.add_argument("--no-generate", action="store_true", help="leave out written answers, which take longest")
    verb.add_argument(
        "--max-new-tokens", type=at_least(1), metavar="N", help=f"of a written answer (default: {MAX_NEW_TOKENS})"
    )
    verb.add_argument(
        "--queries",
        default="last",
        metavar="ROWS",
        help="query rows to change, such as choices; listening: those that are found to listen (default: last)",
    )
    add_split_seed(verb)
    add_out(verb, "mata", resumes=True)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Run the study and write its results, tables, figures and page."""
    if arguments.no_generate and arguments.max_new_tokens is not None:
        raise UserMistakeError("--max-new-tokens is of written answers, and --no-generate leaves them out: give one")
    arguments.max_new_tokens = arguments.max_new_tokens or MAX_NEW_TOKENS
    writable(arguments.out)
    from mechaudio.experiments.mata_study import MataSettings, mata_study
    from mechaudio.report.mata_findings import mata_findings
    from mechaudio.report.mata_page import mata_figures, write_mata_page
    from mechaudio.report.mata_tables import mata_published, mata_tables

    settings = MataSettings(
        mapping=arguments.mapping,
        queries=arguments.queries,
        generate=not arguments.no_generate,
        max_new_tokens=arguments.max_new_tokens,
        seed=arguments.split_seed,
    )
    asked = questions(arguments.data, arguments.n, arguments.seed, arguments.audio)
    model = opened(arguments)
    study = mata_study(model, asked, settings=settings, out=arguments.out / "results", progress=True)
    study = with_source(study, arguments)
    keep(study, arguments)
    tables = mata_tables(study)
    write(arguments.out, (*tables, *mata_published()), mata_figures(study))
    page = write_mata_page(
        study,
        arguments.out / "index.html",
        title=f"MATA in {arguments.model}, asked about {arguments.data}",
        command=_command(arguments),
    )
    tell_left_out(arguments, study.compared.clean.failures)
    return Outcome("\n".join([*mata_findings(study), str(page)]), result=study, tables=tables, page=page)


def _command(arguments: argparse.Namespace) -> str:
    words = ["--queries", arguments.queries] if arguments.queries != "last" else []
    words += ["--mapping", arguments.mapping, "--split-seed", str(arguments.split_seed)]
    words += ["--no-generate"] if arguments.no_generate else ["--max-new-tokens", str(arguments.max_new_tokens)]
    return command(arguments, *words)
