"""`mechaudio specialists`: the study of who listens, as tables, figures and a page."""

import argparse
from collections.abc import Sequence
from typing import Any

from mechaudio.arguments import n_of
from mechaudio.cli.options import EachOnce, add_batch_size, add_workers, at_least
from mechaudio.cli.studies import StudyVerb, add_queries, add_split_seed

ABOUT = "The study of [who listens](who_listens.md), with [steering](steering.md)."


class SpecialistsVerb(StudyVerb):
    """The study of who listens."""

    name = "specialists"
    does = "study which heads listen, and whether steering by them helps"
    examples = (
        "mechaudio specialists --n 150",
        "mechaudio specialists --data mmar:MMAR-meta.jsonl --audio recordings/ --out reports/mmar",
    )
    makes = "SpecialistsStudy"
    title = "Who listens in {model}, asked about {data}"
    fewest = 4
    said = ("k", "queries", "split_seed")

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add numbers of heads, rows, the split and how many at once."""
        verb.add_argument(
            "--k",
            type=at_least(1),
            nargs="+",
            action=EachOnce,
            default=[20, 10, 30],
            metavar="K",
            help="numbers of heads, the first one reported in detail (default: 20 10 30)",
        )
        add_queries(verb, "read and to steer")
        add_split_seed(verb)
        add_batch_size(verb)
        add_workers(verb)

    def settings(self, arguments: argparse.Namespace) -> Any:
        """Make the study's settings."""
        from mechaudio.experiments.specialists_result import SpecialistsSettings

        return SpecialistsSettings(ks=tuple(arguments.k), queries=arguments.queries, seed=arguments.split_seed)

    def remarks(self, result: Any, arguments: argparse.Namespace) -> Sequence[str]:
        """Add how many recordings were cut."""
        cut = [
            f"{n_of(result.n_cut, 'recording is', 'recordings are')} longer than the model hears: it "
            "heard the beginnings"
        ]
        return [*super().remarks(result, arguments), *(cut if result.n_cut else [])]


add = SpecialistsVerb().add
