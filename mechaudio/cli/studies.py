"""The verb of a study: opens a model, asks it questions, and leaves the result with its tables, figures and page."""

import argparse
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mechaudio.cli.mistakes import UserMistakeError, in_options, opened, writable
from mechaudio.cli.options import LARGEST_SEED, add_verb, at_least, folder, model_words
from mechaudio.cli.outcome import Outcome, tell
from mechaudio.cli.questions import MADE, N_MADE, add_source
from mechaudio.cli.questions import questions as load_questions
from mechaudio.processes import launch
from mechaudio.question import AudioQuestion
from mechaudio.results import Result

if TYPE_CHECKING:
    from mechaudio.experiments.evaluation import Failure
    from mechaudio.report.study_page import Report
    from mechaudio.tracing.audio_lm import AudioLM

Kept = TypeVar("Kept", bound=Result)


class StudyVerb:
    """A verb that asks a model questions and leaves a folder of what came out.

    A subclass says what the study is called and what is its own: its options, the settings that they make, the study,
    and what is told of the result. A module that has one is a verb: `add = MyVerb().add`, and its name in
    `mechaudio.cli.VERBS`. What only the study needs is imported in its methods, so that `--help` loads no torch.

    Attributes:
        name: Name of the verb, and of its folder below `reports`.
        does: What it does, in a sentence without its end.
        examples: Whole command lines.
        makes: Class of its result.
        title: Title of the page; `{model}` and `{data}` stand for what was given.
        fewest: How many questions it needs at least.
        n: How many it asks where none is given; None for all, and `n_made` of those that are made.
        resumes: Whether the same command takes up a study that was stopped.
        said: The options that stand in the command of the page, by their names in the namespace, in this order.
    """

    name: ClassVar[str]
    does: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    makes: ClassVar[str]
    title: ClassVar[str]
    fewest: ClassVar[int] = 2
    n: ClassVar[int | None] = None
    n_made: ClassVar[int] = N_MADE
    resumes: ClassVar[bool] = True
    said: ClassVar[tuple[str, ...]] = ()

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add the options of this study alone."""

    def settings(self, arguments: argparse.Namespace) -> Any:  # noqa: ARG002 - a study may have none
        """Make settings of the options, before anything is loaded, so that mistakes are told at once."""
        return None

    def questions(self, arguments: argparse.Namespace) -> "Sequence[AudioQuestion]":
        """Return the questions that the options of `add_source` name."""
        return load_questions(arguments.data, arguments.n, arguments.seed, arguments.audio)

    def study(
        self, arguments: argparse.Namespace, settings: Any, model: "AudioLM", questions: "Sequence[AudioQuestion]"
    ) -> Result:
        """Run the study: by default the function of `mechaudio.experiments` that is named after the verb.

        Args:
            arguments: Arguments of the verb; `arguments.out / "results"` is where a study that is taken up keeps its
                answers.
            settings: What `settings` made.
            model: The opened model.
            questions: What it is asked.
        """
        name, running = f"{self.name}_study", given(arguments, "batch_size", "workers")
        function = getattr(import_module(f"mechaudio.experiments.{name}"), name)
        return function(model, questions, settings=settings, out=arguments.out / "results", **running)

    def report(self, result: Any, questions: "Sequence[AudioQuestion]") -> "Report":  # noqa: ARG002 - most need none
        """Say what is told of the result."""
        from mechaudio.report.study_page import report_of

        return report_of(result)

    def remarks(self, result: Any, arguments: argparse.Namespace) -> Sequence[str]:
        """Say what is told on stderr: of questions that could not be asked."""
        failures = getattr(result, "failures", ())
        return [left_out(arguments, failures)] if failures else []

    def numbers(self, result: Any) -> Mapping[str, Any]:  # noqa: ARG002 - most have none
        """Return what `--json` adds to the keys that every verb has."""
        return {}

    def words(self, arguments: argparse.Namespace) -> list[str]:
        """Return the study's own options as words of a command line that makes the page again."""
        return option_words(arguments, *self.said)

    def add(self, verbs: argparse._SubParsersAction) -> None:
        """Add the verb and all its options to the command line."""
        verb = add_verb(verbs, self.name, does=self.does, leaves=STUDY_LEAVES, examples=self.examples)
        add_source(verb, fewest=self.fewest, n=self.n, n_made=self.n_made)
        self.options(verb)
        add_out(verb, self.name, resumes=self.resumes)
        verb.set_defaults(run=self.run)

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Run the study and write its result, tables, figures and page."""
        settings = self.settings(arguments)
        writable(arguments.out, self.makes)
        from mechaudio.report import figures, study_page, tables

        questions = self.questions(arguments)
        result = with_source(self.study(arguments, settings, opened(arguments), questions), arguments)
        keep(result, arguments)
        if launch().rank > 0:  # the first of several processes tells what was found
            return Outcome("")
        report = self.report(result, questions)
        tables.write_tables((*report.tables, *report.published), arguments.out / "tables")
        if no_png := figures.write_figures(report.figures, arguments.out / "figures"):
            tell(f"Figures are HTML only, PNG is left out: {no_png}.")
        page = study_page.write_study_page(
            report,
            arguments.out / "index.html",
            title=self.title.format(model=arguments.model, data=arguments.data),
            command=command(arguments, *self.words(arguments)),
        )
        for remark in self.remarks(result, arguments):
            tell(remark)
        return Outcome(
            "\n".join([*report.findings, str(page)]),
            result=result,
            tables=report.tables,
            page=page,
            numbers=self.numbers(result),
        )


STUDY_LEAVES = (
    "It leaves a folder with a page (index.html), tables/, figures/ and results/, which ma.Result.load reads; what it "
    "found is printed."
)


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return options by name, for a function that takes arguments of these names."""
    return {name: getattr(arguments, name) for name in names}


def option_words(arguments: argparse.Namespace, *names: str) -> list[str]:
    """Return options as they are given on a command line; those that were left out, or have no value, are no words."""
    words = []
    for name in names:
        value, option = getattr(arguments, name), f"--{name.replace('_', '-')}"
        if value is None or value is False or value == ():
            continue
        values = () if value is True else value if isinstance(value, (list, tuple)) else (value,)
        words += [option, *map(str, values)]
    return words


def add_out(
    verb: argparse.ArgumentParser,
    name: str,
    goes: str = "page, tables, figures and results go",
    *,
    resumes: bool = False,
) -> None:
    """The option that says where to write."""
    usual = Path("reports") / name
    more = "; the same command takes up a study that was stopped" if resumes else ""
    verb.add_argument(
        "--out",
        type=folder,
        default=usual,
        metavar="DIR",
        help=f"where {goes}{more} (default: {usual.as_posix()})",
    )
    verb.set_defaults(resumes=resumes)


def add_queries(verb: argparse.ArgumentParser, to: str) -> None:
    """The option that says which query rows a study is about."""
    verb.add_argument(
        "--queries",
        default="last",
        metavar="SPANS",
        help=f"query rows to {to}, such as choices; listening: those that are found to listen (default: last)",
    )


def add_split_seed(verb: argparse.ArgumentParser, *, of: str = "the split into halves") -> None:
    """The option that says which half of the questions chooses."""
    verb.add_argument(
        "--split-seed",
        type=at_least(0, LARGEST_SEED),
        default=0,
        metavar="SEED",
        help=f"of {of} (default: 0)",
    )


def with_source(result: Kept, arguments: argparse.Namespace) -> Kept:
    """The result with its questions among its settings: `data`, and `data_seed` of those that are made."""
    made = {"data_seed": arguments.seed} if arguments.data.name in MADE else {}
    settings = {**result.provenance.settings, "data": str(arguments.data), **made}
    return replace(result, provenance=replace(result.provenance, settings=settings))


def keep(result: Result, arguments: argparse.Namespace) -> None:
    """Save a result among what a verb writes; it is not lost where that folder takes it no longer.

    The page of an earlier result goes before it does: a folder with a page is finished.

    Raises:
        UserMistakeError: It was saved elsewhere, and the message says where and why.
    """
    folder = arguments.out / "results"
    if launch().rank == 0:
        (arguments.out / "index.html").unlink(missing_ok=True)  # of an earlier result
    try:
        result.save(folder)
    except OSError as error:
        elsewhere = tempfile.mkdtemp(prefix="mechaudio-result-")
        result.save(elsewhere)
        raise UserMistakeError(
            f"cannot write to {folder} ({error.strerror or error}), so the result is kept in {elsewhere}: "
            "ma.Result.load reads it, and ma.report makes its tables and page"
        ) from error
    arguments.kept = folder


def left_out(arguments: argparse.Namespace, failures: Sequence["Failure"]) -> str:
    """Count the questions that could not be asked, and say what kept the first of them from it."""
    why = in_options(failures[0].error, arguments)
    return f"{len(failures)} could not be asked; the first is {failures[0].id!r}: {why}"


def command(arguments: argparse.Namespace, *more: str) -> str:
    """The command line that makes a study again, with words of its own options."""
    names = ("data", "audio", "n", *(["seed"] if arguments.data.name in MADE else []))
    return shlex.join(["mechaudio", arguments.verb, *model_words(arguments), *option_words(arguments, *names), *more])
