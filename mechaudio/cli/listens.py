"""`mechaudio listens`: the rows of the prompt over which the sound gets to the answer."""

import argparse
from collections.abc import Mapping
from typing import Any

from mechaudio.cli.options import add_batch_size, add_target, at_least
from mechaudio.cli.studies import StudyVerb, given

ABOUT = "Explained in [Where a model listens](where_it_listens.md)."
CONDITIONS = ("audio", "audio+caption")


class ListensVerb(StudyVerb):
    """The rows over which a model listens."""

    name = "listens"
    does = "find the rows of the prompt over which the sound gets to the answer"
    examples = (
        "mechaudio listens --n 24 --each-layer",
        'mechaudio listens --model small --target "a dog" --foil "a cat"',
    )
    makes = "WhereItListens"
    title = "Where {model} listens, asked about {data}"
    fewest, n = 1, 40
    resumes = False
    said = ("condition", "target", "foil", "whole", "window", "each_layer")

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add the condition, what is measured, where is cut, and how many at once."""
        verb.add_argument(
            "--condition", default="audio", choices=CONDITIONS, help="what the model is given (default: audio)"
        )
        verb.add_argument(
            "--window", type=at_least(1), metavar="N", help="layers of a window (default: a fifth of the model's)"
        )
        verb.add_argument(
            "--each-layer", action="store_true", help="cut in each layer by itself too, which takes longest"
        )
        add_target(verb)
        add_batch_size(verb)

    def study(self, arguments: argparse.Namespace, settings: Any, model: Any, questions: Any) -> Any:  # noqa: ARG002
        """Cut every edge."""
        from mechaudio.analyses.where_it_listens import where_it_listens

        return where_it_listens(model, questions, **given(arguments, *self.said, "batch_size"))

    def numbers(self, result: Any) -> Mapping[str, Any]:
        """Return the rows that listen."""
        return {"rows_that_listen": list(result.rows)}


add = ListensVerb().add
