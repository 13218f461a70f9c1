"""`mechaudio patch`: activation patching over questions, as a map, tables and a page."""

import argparse
from importlib import import_module

from mechaudio.cli.mistakes import UserMistakeError, opened, writable
from mechaudio.cli.options import add_verb, finite
from mechaudio.cli.outcome import Outcome
from mechaudio.cli.questions import MADE, add_source, questions
from mechaudio.cli.studies import STUDY_LEAVES, add_out, command, keep, with_source, write

N = 24
OTHERS = ("events", "clip")
"""Corruptions that make another question of one that was made."""
AXES = ("layer", "head", "position", "role", "second", "event")
METRICS = ("logit_difference", "margin", "probability", "answer")


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "patch",
        does="find the layers, heads, roles or seconds of sound that carry the answer",
        leaves=STUDY_LEAVES,
        examples=("mechaudio patch --over layer,head --corrupted events",),
    )
    add_source(verb, fewest=2, n=N)
    verb.add_argument(
        "--over",
        type=_axes,
        default=("layer", "second"),
        metavar="AXES",
        help=f"axes of the map: layer, alone or with one of {', '.join(AXES[1:])}; a --hook-point that exists once in "
        "the model, such as embed, takes no layer (default: layer,second)",
    )
    verb.add_argument(
        "--corrupted",
        choices=("silence", *OTHERS),
        default="silence",
        help="what the clip is set against: silence; of questions that are made also the same clip with events moved "
        "in time, or another clip (default: silence)",
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
        "--metric", choices=METRICS, default=METRICS[0], help=f"what is read off the answers (default: {METRICS[0]})"
    )
    verb.add_argument("--positions", metavar="SPAN", help="patch these positions only, such as last or audio+last")
    verb.add_argument("--window", type=finite, default=1.0, help="length of a window of seconds (default: 1)")
    add_out(verb, "patch", resumes=True)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Patch every place, and write the map, its tables, figures and page."""
    if arguments.corrupted in OTHERS and arguments.data.name not in MADE:
        raise UserMistakeError(
            f"--corrupted {arguments.corrupted} makes a clip anew, so it takes questions that are made: --data "
            f"{' or '.join(MADE)}; for {arguments.data} use --corrupted silence"
        )
    writable(arguments.out)
    from mechaudio.analyses.patching.activation_patching import activation_patching
    from mechaudio.report.patching_page import patching_figures, patching_findings, write_patching_page
    from mechaudio.report.patching_tables import patching_tables

    asked = list(questions(arguments.data, arguments.n, arguments.seed, arguments.audio))
    model = opened(arguments)
    found = activation_patching(
        model,
        asked,
        corrupted=_corrupted(arguments, asked),
        over=arguments.over,
        hook_point=arguments.hook_point,
        direction=arguments.direction,
        metric=arguments.metric,
        positions=arguments.positions,
        window=arguments.window,
        out=arguments.out,
        progress=True,
    )
    found = with_source(found, arguments)
    keep(found, arguments)
    tables = patching_tables(found)
    write(arguments.out, tables, patching_figures(found, asked))
    page = write_patching_page(
        found,
        asked,
        arguments.out / "index.html",
        title=f"What carries the answers of {arguments.model} to {arguments.data}",
        command=_command(arguments),
    )
    return Outcome("\n".join([*patching_findings(found), str(page)]), result=found, tables=tables, page=page)


def _axes(text: str) -> tuple[str, ...]:
    """Read `--over`."""
    over = tuple(text.replace(" ", "").split(","))
    unknown = [axis for axis in over if axis not in AXES]
    if unknown or len(over) > 2:
        raise argparse.ArgumentTypeError(f"takes one axis or two of {', '.join(AXES)}, got {text!r}")
    return over


def _corrupted(arguments: argparse.Namespace, asked: list) -> object:
    if arguments.corrupted == "silence":
        return "silence"
    return import_module(MADE[arguments.data.name]).counterparts(asked, arguments.corrupted)


def _command(arguments: argparse.Namespace) -> str:
    words = ["--over", ",".join(arguments.over), "--corrupted", arguments.corrupted]
    words += ["--direction", arguments.direction]
    words += [] if arguments.hook_point is None else ["--hook-point", arguments.hook_point]
    words += [] if arguments.positions is None else ["--positions", arguments.positions]
    return command(arguments, *words, "--metric", arguments.metric, "--window", f"{arguments.window:g}")
