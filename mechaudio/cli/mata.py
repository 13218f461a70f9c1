"""`mechaudio mata`: the study of MATA, as tables, figures and a page."""

import argparse
from typing import Any

from mechaudio.cli.mistakes import UserMistakeError
from mechaudio.cli.options import add_batch_size, add_workers, at_least
from mechaudio.cli.studies import StudyVerb, add_queries, add_split_seed

ABOUT = "The study of [MATA](mata.md)."
MAX_NEW_TOKENS = 16
MAPPINGS = ("proportional", "numbered")


class MataVerb(StudyVerb):
    """The study of MATA."""

    name = "mata"
    does = "study whether more attention to audio in the middle layers helps"
    examples = ("mechaudio mata --no-generate --n 300",)
    makes = "MataStudy"
    title = "MATA in {model}, asked about {data}"
    said = ("queries", "mapping", "split_seed", "no_generate", "max_new_tokens")

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add layers, written answers, rows and the split."""
        verb.add_argument(
            "--mapping",
            default="proportional",
            choices=MAPPINGS,
            help="where the published layers, 10 to 20 of 28, are in another model: in the same part of its depth, or "
            "at the same numbers (default: proportional)",
        )
        verb.add_argument("--no-generate", action="store_true", help="leave out written answers, which take longest")
        verb.add_argument(
            "--max-new-tokens", type=at_least(1), metavar="N", help=f"of a written answer (default: {MAX_NEW_TOKENS})"
        )
        add_queries(verb, "change")
        add_split_seed(verb)
        add_batch_size(verb)
        add_workers(verb)

    def settings(self, arguments: argparse.Namespace) -> Any:
        """Make the study's settings.

        Raises:
            UserMistakeError: Written answers are left out, and have a length.
        """
        from mechaudio.experiments.mata_arms import MataSettings

        if arguments.no_generate and arguments.max_new_tokens is not None:
            raise UserMistakeError(
                "--max-new-tokens is of written answers, and --no-generate leaves them out: give one"
            )
        if not arguments.no_generate:
            arguments.max_new_tokens = arguments.max_new_tokens or MAX_NEW_TOKENS
        return MataSettings(
            mapping=arguments.mapping,
            queries=arguments.queries,
            generate=not arguments.no_generate,
            max_new_tokens=arguments.max_new_tokens or MAX_NEW_TOKENS,
            seed=arguments.split_seed,
        )


add = MataVerb().add
