"""The command line: one sub-command per verb. Parse, call one function, write the result.

A user's mistake (a missing file, an unknown name, too few choices) ends in one message on stderr and exit code 2.
"""

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechaudio.experiments.evaluate import Evaluation
    from mechaudio.question import AudioQuestion
    from mechaudio.tracing.audio_lm import AudioLM

CONDITIONS = ("audio", "caption", "audio+caption", "silence")
DATA = ("soundscapes",)

#: What the library raises where the user's input is at fault; anything else is our own mistake and shows its traceback.
MISTAKES = (ValueError, TypeError, KeyError, OSError)


class UserMistakeError(Exception):
    """Something that only the user can put right; the message says what and how."""


def demo(arguments: argparse.Namespace) -> int:
    """Trace the shipped model on soundscapes made for it and write a page about it."""
    from mechaudio.experiments.demo import demo as experiment
    from mechaudio.report.page import write_page

    _writable(arguments.out)
    print("Opening the shipped model and proving its hook points.", file=sys.stderr)
    model = _opened("tiny")
    found = experiment(model, seed=arguments.seed, n=arguments.n, progress=True)
    page = write_page(
        found.listenings,
        arguments.out / "index.html",
        title="What a small audio model listens to",
        command=shlex.join(["mechaudio", "demo", "--seed", str(arguments.seed), "--n", str(arguments.n)]),
        demo=found,
    )
    found.save(arguments.out / "results")
    print(page)
    return 0


def listen(arguments: argparse.Namespace) -> int:
    """Ask a model about a recording, trace where it looks and write a page about it."""
    question = _question(arguments)
    _writable(arguments.out)
    from mechaudio.experiments.listen import listen as experiment
    from mechaudio.report.page import write_page

    model = _opened(arguments.model)
    try:
        found = experiment(model, question, allow_cut=True)
    except MISTAKES as error:
        raise UserMistakeError(_words(error)) from error
    if found.cut:
        print(f"The model does not hear the last {found.cut:.1f} s of {arguments.clip}.", file=sys.stderr)
    page = write_page(
        [found],
        arguments.out / "index.html",
        title=f"What {arguments.model} listens to in {Path(arguments.clip).name}",
        command=_listen_command(arguments),
    )
    found.save(arguments.out / "results")
    for letter, choice, heard, deaf in zip(
        found.letters, found.choices, found.probabilities, found.silence_probabilities, strict=True
    ):
        print(f"{'→' if choice == found.choice else ' '} {letter}  {heard:6.1%}  (with silence {deaf:6.1%})  {choice}")
    print(page)
    return 0


def models(_arguments: argparse.Namespace) -> int:
    """List the classes that mechaudio opens."""
    from mechaudio.models.registry import ADAPTERS

    rows = [("class", "ms per token", "window", "longer clips", "encoder layout", "checkpoints")]
    for adapter in ADAPTERS:
        timing = adapter.timing
        for index, checkpoint in enumerate(adapter.checkpoints):
            facts = (
                adapter.network_class,
                f"{adapter.milliseconds:.4g}",
                f"{timing.window / adapter.sampling_rate:g} s",
                timing.long_clips,
                adapter.encoder.layout,
            )
            rows.append((*(facts if index == 0 else [""] * len(facts)), checkpoint))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\n'tiny' is a small Qwen2AudioForConditionalGeneration that travels with mechaudio: mechaudio demo")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Ask a model many questions and count the right answers."""
    from mechaudio.data.soundscapes import questions
    from mechaudio.experiments.evaluate import evaluate as experiment

    model = _opened(arguments.model)
    asked = questions(arguments.n, seed=arguments.seed)
    try:
        found = experiment(model, asked, arguments.condition, progress=True)
    except MISTAKES as error:
        raise UserMistakeError(_words(error)) from error
    print(json.dumps(_numbers(arguments, found)) if arguments.json else _in_words(arguments, found))
    return 0


def _numbers(arguments: argparse.Namespace, found: "Evaluation") -> dict[str, object]:
    overall = found.overall
    return {
        "model": arguments.model,
        "data": arguments.data,
        "seed": arguments.seed,
        "condition": found.condition,
        "n": overall.n,
        "right": overall.right,
        "accuracy": overall.accuracy,
        "interval": [overall.low, overall.high],
        "tasks": {task: asdict(score) for task, score in found.by_task().items()},
    }


def _in_words(arguments: argparse.Namespace, found: "Evaluation") -> str:
    lines = [
        f"{arguments.model} on {arguments.data} (seed {arguments.seed}), condition {found.condition}; "
        "in brackets, 95 % intervals (Wilson)"
    ]
    for name, score in (*found.by_task().items(), ("all", found.overall)):
        told = f"{score.right:4d} of {score.n:4d} right"
        lines.append(f"{name.replace('_', ' '):18s}{told}  {score.accuracy:6.1%}  [{score.low:.1%}, {score.high:.1%}]")
    return "\n".join(lines)


def _question(arguments: argparse.Namespace) -> "AudioQuestion":
    from mechaudio.audio.clip import AudioClip
    from mechaudio.question import AudioQuestion

    if len(arguments.choices) < 2:
        raise UserMistakeError(f"--choices needs at least two options, got {arguments.choices}")
    try:
        return AudioQuestion(
            audio=AudioClip.load(arguments.clip),
            text=arguments.question,
            choices=tuple(arguments.choices),
            answer=arguments.answer,
            id=Path(arguments.clip).name,
        )
    except MISTAKES as error:
        raise UserMistakeError(_words(error)) from error


def _opened(name: str) -> "AudioLM":
    from mechaudio.tracing.load import load

    _quiet()
    try:
        return load(name)
    except MISTAKES as error:
        raise UserMistakeError(f"cannot open model {name!r}: {_words(error)}") from error


def _quiet() -> None:
    """Leave stderr to our own messages and progress: transformers' bars and advice are not about the user's task."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _writable(folder: Path) -> None:
    """Make the folder that a page goes to, before the work is done that would be lost without it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".mechaudio-can-write"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserMistakeError(f"cannot write to --out {folder}: {error.strerror or error}") from error


def _words(error: BaseException) -> str:
    """An error's message; a KeyError's `str` is its message in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _listen_command(arguments: argparse.Namespace) -> str:
    words = ["mechaudio", "listen", arguments.clip, "--question", arguments.question, "--choices", *arguments.choices]
    words += [] if arguments.answer is None else ["--answer", arguments.answer]
    return shlex.join([*words, "--model", arguments.model])


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def parser() -> argparse.ArgumentParser:
    """The sub-commands and their options."""
    top = argparse.ArgumentParser(prog="mechaudio", description="See where an audio language model listens.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    verb = verbs.add_parser("demo", help="trace the shipped model on soundscapes and write a page about it")
    verb.add_argument(
        "--out",
        type=Path,
        default=Path("reports/demo"),
        metavar="DIR",
        help="where the page goes (default: reports/demo)",
    )
    verb.add_argument("--seed", type=int, default=0, help="which soundscapes (default: 0)")
    verb.add_argument("--n", type=_at_least_one, default=60, help="questions counted for the summary (default: 60)")
    verb.set_defaults(run=demo)

    verb = verbs.add_parser("listen", help="ask a model about a recording and write a page about where it looked")
    verb.add_argument("clip", metavar="CLIP", help="the recording: wav, flac, mp3 or ogg")
    verb.add_argument("--question", required=True, metavar="TEXT", help="what to ask")
    verb.add_argument("--choices", required=True, nargs="+", metavar="CHOICE", help="the options, two or more")
    verb.add_argument("--answer", default=None, metavar="CHOICE", help="the right one of them, if known")
    verb.add_argument(
        "--model", default="tiny", metavar="NAME", help="tiny, a hub id or a local folder (default: tiny)"
    )
    verb.add_argument(
        "--out",
        type=Path,
        default=Path("reports/listen"),
        metavar="DIR",
        help="where the page goes (default: reports/listen)",
    )
    verb.set_defaults(run=listen)

    verb = verbs.add_parser("models", help="list the classes that mechaudio opens")
    verb.set_defaults(run=models)

    verb = verbs.add_parser("evaluate", help="ask a model many questions and count the right answers")
    verb.add_argument(
        "--model", default="tiny", metavar="NAME", help="tiny, a hub id or a local folder (default: tiny)"
    )
    verb.add_argument("--data", default="soundscapes", choices=DATA, help="which questions (default: soundscapes)")
    verb.add_argument("--n", type=_at_least_one, default=150, help="how many (default: 150)")
    verb.add_argument("--seed", type=int, default=7, help="which questions (default: 7)")
    verb.add_argument(
        "--condition", default="audio", choices=CONDITIONS, help="what the model is given (default: audio)"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.set_defaults(run=evaluate)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: its words; by default those of the command line.

    Returns:
        The exit code: 0, or 2 for a user's mistake.
    """
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UserMistakeError as mistake:
        print(f"mechaudio {arguments.verb}: {mistake}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
