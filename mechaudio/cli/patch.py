"""`mechaudio patch`: activation patching over questions, as a map, tables and a page."""

import argparse
from importlib import import_module
from typing import Any

from mechaudio.cli.mistakes import UserMistakeError
from mechaudio.cli.options import add_batch_size, add_target, finite
from mechaudio.cli.questions import MADE
from mechaudio.cli.studies import StudyVerb, given, option_words

ABOUT = "A map of [activation patching](patching.md)."
OTHERS = ("events", "clip")
"""Corruptions that make another question of one that was made."""
AXES = ("layer", "head", "position", "role", "second", "event")
METRICS = ("logit_difference", "margin", "probability", "answer")


class PatchVerb(StudyVerb):
    """Activation patching over questions."""

    name = "patch"
    does = "find the layers, heads, roles or seconds of sound that carry the answer"
    examples = (
        "mechaudio patch --over layer,head --corrupted events",
        'mechaudio patch --model small --over layer,role --target "a dog" --foil "a cat"',
    )
    makes = "PatchingMap"
    title = "What carries the answers of {model} to {data}"
    n = 24

    def options(self, verb: argparse.ArgumentParser) -> None:
        """Add the axes of the map, what is patched, and what is read off."""
        verb.add_argument(
            "--over",
            type=_axes,
            default=("layer", "second"),
            metavar="AXES",
            help=f"axes of the map: layer, alone or with one of {', '.join(AXES[1:])}; a --hook-point that exists once "
            "in the model, such as embed, takes no layer (default: layer,second)",
        )
        verb.add_argument(
            "--corrupted",
            choices=("silence", *OTHERS),
            default="silence",
            help="what the clip is set against: silence; of questions that are made also the same clip with events "
            "moved in time, or another clip (default: silence)",
        )
        verb.add_argument(
            "--hook-point",
            metavar="NAME",
            help="what is patched (default: z if the map goes over heads, otherwise resid_pre)",
        )
        verb.add_argument(
            "--direction",
            choices=("denoising", "noising"),
            default="denoising",
            help="denoising puts clean activations into the corrupted run, noising the other way round "
            "(default: denoising)",
        )
        verb.add_argument(
            "--metric",
            choices=METRICS,
            default=METRICS[0],
            help=f"what is read off the answers (default: {METRICS[0]})",
        )
        verb.add_argument("--positions", metavar="SPAN", help="patch these positions only, such as last or audio+last")
        verb.add_argument(
            "--window-seconds", type=finite, default=1.0, metavar="S", help="length of a window (default: 1)"
        )
        add_target(verb)
        add_batch_size(verb)

    def settings(self, arguments: argparse.Namespace) -> None:
        """Refuse another clip in the place of one that cannot be made anew.

        Raises:
            UserMistakeError: `--corrupted` needs questions that are made.
        """
        if arguments.corrupted in OTHERS and arguments.data.name not in MADE:
            raise UserMistakeError(
                f"--corrupted {arguments.corrupted} makes a clip anew, so it takes questions that are made: --data "
                f"{' or '.join(MADE)}; for {arguments.data} use --corrupted silence"
            )

    def study(self, arguments: argparse.Namespace, settings: Any, model: Any, questions: Any) -> Any:  # noqa: ARG002
        """Patch every place."""
        from mechaudio.analyses.patching.activation_patching import activation_patching

        questions = list(questions)
        corrupted = arguments.corrupted
        if corrupted != "silence":
            corrupted = import_module(MADE[arguments.data.name]).counterparts(questions, corrupted)
        places = given(arguments, "over", "hook_point", "direction", "metric", "positions", "window_seconds")
        measured = given(arguments, "target", "foil", "whole", "batch_size", "out")
        return activation_patching(model, questions, corrupted=corrupted, **places, **measured)

    def report(self, result: Any, questions: Any) -> Any:
        """Say what is told of the map; one pair is drawn under the sound of its question."""
        from mechaudio.report.study_page import report_of

        return report_of(result, questions=list(questions))

    def words(self, arguments: argparse.Namespace) -> list[str]:
        """Return the options, axes joined as they are given and the window as short as it can be written."""
        names = ("corrupted", "direction", "hook_point", "positions", "metric", "target", "foil", "whole")
        window = ["--window-seconds", f"{arguments.window_seconds:g}"]
        return ["--over", ",".join(arguments.over), *option_words(arguments, *names), *window]


def _axes(text: str) -> tuple[str, ...]:
    """Read `--over`."""
    over = tuple(text.replace(" ", "").split(","))
    unknown = [axis for axis in over if axis not in AXES]
    if unknown or len(over) > 2:
        raise argparse.ArgumentTypeError(f"takes one axis or two of {', '.join(AXES)}, got {text!r}")
    return over


add = PatchVerb().add
