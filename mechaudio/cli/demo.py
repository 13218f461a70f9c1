"""`mechaudio demo`: the main job on a model that travels with the package."""

import argparse
import shlex

from mechaudio.cli.mistakes import opened, writable
from mechaudio.cli.options import LARGEST_SEED, add_model, add_verb, at_least, model_words
from mechaudio.cli.outcome import Outcome, tell
from mechaudio.cli.studies import add_out, keep

ABOUT = "`make demo` does the same from a clone without an environment."


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "demo",
        does="trace the shipped model, or small, on soundscapes and write a page about it",
        leaves="It leaves a folder with index.html, which shows what the model answers with the sound and with silence "
        "and where it looks, and results/.",
        examples=("mechaudio demo", "mechaudio demo --model small --n 12"),
    )
    add_out(verb, "demo", "the page goes")
    verb.add_argument(
        "--seed", type=at_least(0, LARGEST_SEED), default=7, help="of questions that are made (default: 7)"
    )
    verb.add_argument("--n", type=at_least(1), default=60, help="questions counted for the summary (default: 60)")
    verb.add_argument(
        "--model",
        choices=("tiny", "small"),
        default="tiny",
        help="small is made of published files, which `mechaudio get small` fetches (default: tiny)",
    )
    add_model(verb, name=False)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Trace a model on soundscapes made for it and write a page about it."""
    from mechaudio.experiments.demo import demo as experiment
    from mechaudio.report.page import write_page

    writable(arguments.out, "Demo")
    tell(f"Opening {arguments.model} and proving its hook points.")
    model = opened(arguments)
    result = experiment(model, seed=arguments.seed, n=arguments.n)
    keep(result, arguments)
    words = model_words(arguments)
    words = words[2:] if arguments.model == "tiny" else words  # the default
    page = write_page(
        result.listenings,
        arguments.out / "index.html",
        title="What a small audio model listens to",
        command=shlex.join(["mechaudio", "demo", "--seed", str(arguments.seed), "--n", str(arguments.n), *words]),
        demo=result,
    )
    return Outcome(str(page), result=result, page=page)
