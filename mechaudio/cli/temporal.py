"""`mechaudio temporal`: the study of the temporal benchmark, as tables, figures and a page."""

import argparse
from dataclasses import replace
from typing import Any

from mechaudio.cli.mistakes import UserMistakeError
from mechaudio.cli.options import EachOnce, add_batch_size, add_workers, finite
from mechaudio.cli.studies import StudyVerb, add_split_seed

ABOUT = "The study of [the temporal benchmark](temporal_benchmark.md)."


class TemporalVerb(StudyVerb):
    """The study of the temporal benchmark."""

    name = "temporal"
    does = "study whether a model hears what sounds first, last or longest"
    examples = ("mechaudio temporal --n 300", "mechaudio temporal --model desta-8b --paper")
    makes = "TemporalStudy"
    title = "What {model} hears of time in {data}"
    said = ("factors", "biases", "queries", "paper", "split_seed")

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add strengths, rows, the paper's own and the split."""
        for names, dest, letter, of in (
            (("--scale", "--factors"), "factors", "F", "scaling (default: 0.2 0.5 0.8 1.2 1.5 2)"),
            (("--upweight", "--biases"), "biases", "B", "upweighting (default: 0.5 1 2 4)"),
        ):
            verb.add_argument(
                *names,
                dest=dest,
                type=finite,
                nargs="+",
                action=EachOnce,
                metavar=letter,
                help=f"strengths of {of}",
            )
        verb.add_argument(
            "--queries",
            nargs="+",
            action=EachOnce,
            metavar="SPANS",
            help="query rows to change, the first ones in one layer, too; listening: those that are found to listen, "
            "in one layer wherever they stand (default: last keyword keyword+last)",
        )
        verb.add_argument(
            "--paper",
            action="store_true",
            help="the factor and the query rows that the paper had for this class (Audio Flamingo 3, DeSTA2.5-Audio)",
        )
        add_split_seed(verb, of="the split into halves and of tokens of text that are drawn")
        add_batch_size(verb)
        add_workers(verb)

    def settings(self, arguments: argparse.Namespace) -> Any:
        """Make the study's settings.

        Raises:
            UserMistakeError: `--paper` beside strengths or rows of one's own.
        """
        from mechaudio.experiments.temporal_arms import TemporalSettings

        given = {name: tuple(getattr(arguments, name) or ()) for name in ("factors", "biases", "queries")}
        if arguments.paper and any(given.values()):
            raise UserMistakeError(
                "--paper sets factors and query rows: leave out --scale, --upweight and --queries, or --paper"
            )
        named: dict[str, Any] = {name: values for name, values in given.items() if values}
        if given["queries"]:
            named["targeted"] = "listening" if "listening" in given["queries"] else given["queries"][0]
        return TemporalSettings(seed=arguments.split_seed, **named)

    def study(self, arguments: argparse.Namespace, settings: Any, model: Any, questions: Any) -> Any:
        """Run it, with `--paper` as the paper did with the model's class."""
        settings = as_published(settings, model) if arguments.paper else settings
        return super().study(arguments, settings, model, questions)


def as_published(settings: Any, model: Any) -> Any:
    """Return the paper's settings for the class of a model, with the seed of others.

    Raises:
        ValueError: The paper changed nothing in this class.
    """
    from mechaudio.experiments.published import paper_settings

    return replace(paper_settings(model).settings, seed=settings.seed)


add = TemporalVerb().add
