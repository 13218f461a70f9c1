"""`mechaudio temporal`: the study of the temporal benchmark, as tables, figures and a page."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mechaudio.cli.mistakes import opened, telling, writable
from mechaudio.cli.options import EachOnce, add_verb, finite
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

if TYPE_CHECKING:
    from mechaudio.experiments.temporal_arms import TemporalSettings
    from mechaudio.tracing.audio_lm import AudioLM


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "temporal",
        does="study whether a model hears what sounds first, last or longest",
        leaves=STUDY_LEAVES,
        examples=("mechaudio temporal --n 300", "mechaudio temporal --model desta-8b --paper"),
    )
    add_source(verb, fewest=2)
    verb.add_argument(
        "--scale",
        "--factors",
        dest="factors",
        type=finite,
        nargs="+",
        action=EachOnce,
        metavar="F",
        help="strengths of scaling (default: 0.2 0.5 0.8 1.2 1.5 2)",
    )
    verb.add_argument(
        "--upweight",
        "--biases",
        dest="biases",
        type=finite,
        nargs="+",
        action=EachOnce,
        metavar="B",
        help="strengths of upweighting (default: 0.5 1 2 4)",
    )
    verb.add_argument(
        "--queries",
        nargs="+",
        action=EachOnce,
        metavar="ROWS",
        help="query rows to change; listening: those that are found to listen, in one layer, too (default: last "
        "keyword keyword+last)",
    )
    verb.add_argument(
        "--paper",
        action="store_true",
        help="the factor and the query rows that the paper had for this class (Audio Flamingo 3, DeSTA2.5-Audio)",
    )
    add_split_seed(verb, default=None, of="the split into halves and of tokens of text that are drawn")
    add_out(verb, "temporal", resumes=True)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Run the study and write its results, tables, figures and page."""
    writable(arguments.out)
    from mechaudio.experiments.temporal_study import temporal_study
    from mechaudio.report.temporal_findings import temporal_findings
    from mechaudio.report.temporal_page import temporal_figures, write_temporal_page
    from mechaudio.report.temporal_tables import temporal_published, temporal_tables

    with telling():
        settings = _settings(arguments)
    asked = questions(arguments.data, arguments.n, arguments.seed, arguments.audio)
    model = opened(arguments)
    if arguments.paper:
        with telling():
            settings = _as_published(arguments, model)
    study = temporal_study(model, asked, settings=settings, out=arguments.out / "results", progress=True)
    study = with_source(study, arguments)
    keep(study, arguments)
    tables = temporal_tables(study)
    write(arguments.out, (*tables, *temporal_published()), temporal_figures(study))
    page = write_temporal_page(
        study,
        arguments.out / "index.html",
        title=f"What {arguments.model} hears of time in {arguments.data}",
        command=_command(arguments),
    )
    tell_left_out(arguments, study.compared.clean.failures)
    return Outcome("\n".join([*temporal_findings(study), str(page)]), result=study, tables=tables, page=page)


def _split_seed(arguments: argparse.Namespace) -> int:
    return arguments.seed if arguments.split_seed is None else arguments.split_seed


def _settings(arguments: argparse.Namespace) -> "TemporalSettings":
    from mechaudio.experiments.temporal_arms import TemporalSettings

    given = {name: tuple(getattr(arguments, name) or ()) for name in ("factors", "biases", "queries")}
    if arguments.paper and any(given.values()):
        raise ValueError("--paper sets factors and query rows: leave out --scale, --upweight and --queries, or --paper")
    named: dict[str, Any] = {name: values for name, values in given.items() if values}
    if "listening" in given["queries"]:
        named["targeted"] = "listening"
    return TemporalSettings(seed=_split_seed(arguments), **named)


def _as_published(arguments: argparse.Namespace, model: "AudioLM") -> "TemporalSettings":
    from mechaudio.experiments.published import paper_settings

    return replace(paper_settings(model).settings, seed=_split_seed(arguments))


def _command(arguments: argparse.Namespace) -> str:
    words = []
    for name in ("factors", "biases", "queries"):
        given = getattr(arguments, name)
        words += [f"--{name}", *map(str, given)] if given else []
    words += ["--paper"] if arguments.paper else []
    return command(arguments, *words, "--split-seed", str(_split_seed(arguments)))
