"""What the verbs of studies share: where a study goes, what is written of it, and the command that makes it again."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mechaudio.cli.mistakes import UserMistakeError, in_options
from mechaudio.cli.options import LARGEST_SEED, at_least, folder, model_words
from mechaudio.cli.questions import MADE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechaudio.experiments.evaluation import Failure
    from mechaudio.report.tables import Table
    from mechaudio.results import Result

Kept = TypeVar("Kept")

STUDY_LEAVES = (
    "It leaves a folder with a page (index.html), tables/, figures/ and results/, which ma.Result.load reads; what it "
    "found is printed."
)


def add_out(verb: argparse.ArgumentParser, name: str, *, resumes: bool = False) -> None:
    """The option that says where to write.

    Args:
        verb: a sub-command.
        name: of the study.
        resumes: whether the same command takes up a study that was stopped.
    """
    usual = Path("reports") / name
    more = "; the same command takes up a study that was stopped" if resumes else ""
    verb.add_argument(
        "--out",
        type=folder,
        default=usual,
        metavar="DIR",
        help=f"where page, tables, figures and results go{more} (default: {usual.as_posix()})",
    )
    verb.set_defaults(resumes=resumes)


def add_split_seed(
    verb: argparse.ArgumentParser, *, default: int | None = 0, of: str = "the split into halves"
) -> None:
    """The option that says which half of the questions chooses.

    Args:
        verb: a sub-command.
        default: the seed, `None` to take that of `--seed`.
        of: what is drawn with it.
    """
    usual = "that of --seed" if default is None else default
    verb.add_argument(
        "--split-seed",
        type=at_least(0, LARGEST_SEED),
        default=default,
        metavar="SEED",
        help=f"of {of} (default: {usual})",
    )


def with_source(found: Kept, arguments: argparse.Namespace) -> Kept:
    """The result with its questions among its settings: `data`, and `data_seed` of those that are made.

    Args:
        found: a kept result.
        arguments: of a verb with the options of `add_source`.
    """
    made = {"data_seed": arguments.seed} if arguments.data.name in MADE else {}
    settings = {**found.provenance.settings, "data": str(arguments.data), **made}
    return replace(found, provenance=replace(found.provenance, settings=settings))


def keep(found: "Result", arguments: argparse.Namespace) -> None:
    """Save a result among what a verb writes; it is not lost where that folder takes it no longer.

    Raises:
        UserMistakeError: It was saved elsewhere, and the message says where and why.
    """
    place = arguments.out / "results"
    try:
        found.save(place)
    except OSError as error:
        elsewhere = tempfile.mkdtemp(prefix="mechaudio-result-")
        found.save(elsewhere)
        raise UserMistakeError(
            f"cannot write to {place} ({error.strerror or error}), so the result is kept in {elsewhere}: "
            "ma.Result.load reads it, and ma.report makes its tables and page"
        ) from error
    arguments.kept = place


def write(folder: Path, tables: Sequence["Table"], figures: Mapping[str, "go.Figure"]) -> None:
    """Write the tables and figures of a study, and on stderr why there are no pictures, if there are none."""
    from mechaudio.report.figures import write_figures
    from mechaudio.report.tables import write_tables

    write_tables(tables, folder / "tables")
    no_png = write_figures(figures, folder / "figures")
    if no_png:
        print(f"Figures are HTML only, PNG is left out: {no_png}.", file=sys.stderr)


def tell_left_out(arguments: argparse.Namespace, failures: Sequence["Failure"]) -> None:
    """Say on stderr how many questions could not be asked, and what kept the first of them from it."""
    if failures:
        print(left_out(arguments, failures), file=sys.stderr)


def left_out(arguments: argparse.Namespace, failures: Sequence["Failure"]) -> str:
    """How many questions could not be asked, and what kept the first of them from it."""
    why = in_options(failures[0].error, arguments)
    return f"{len(failures)} could not be asked; the first is {failures[0].id!r}: {why}"


def command(arguments: argparse.Namespace, *more: str) -> str:
    """The command line that makes a study again.

    Args:
        arguments: of a verb with the options of `add_source`.
        *more: words of its own options.
    """
    words = ["mechaudio", arguments.verb, *model_words(arguments), "--data", str(arguments.data)]
    words += [] if arguments.audio is None else ["--audio", str(arguments.audio)]
    words += [] if arguments.n is None else ["--n", str(arguments.n)]
    words += ["--seed", str(arguments.seed)] if arguments.data.name in MADE else []
    return shlex.join([*words, *more])
