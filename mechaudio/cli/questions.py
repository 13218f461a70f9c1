"""Questions named by `--data`: made ones, a corpus, or the folder of a temporal benchmark."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mechaudio.cli.mistakes import UserMistakeError
from mechaudio.cli.options import LARGEST_SEED, add_model, at_least, path
from mechaudio.cli.outcome import tell
from mechaudio.data import QUESTIONS as CORPORA
from mechaudio.question import AudioQuestion

#: Name -> the module that makes question `i` of a seed.
MADE = {"soundscapes": "mechaudio.data.soundscapes", "toy": "mechaudio.data.toy_questions"}
DATA_HELP = (
    f"{', '.join(MADE)}; {', '.join(CORPORA)}, from the hub or, as in mmau:FILE, from what was downloaded; or the "
    "folder of a temporal benchmark"
)
N_MADE = 150
KEPT = 64
"""Questions that are made, and kept: at most 41 MB of soundscapes."""


@dataclass(frozen=True)
class Source:
    """A source of questions: one of `MADE` or `CORPORA`, or `temporal`, and what it is loaded from.

    That is blank for what the loader of a corpus takes by itself.
    """

    name: str
    where: str = ""

    def __str__(self) -> str:
        """As `--data` takes it."""
        if self.name == "temporal":
            return self.where
        return f"{self.name}:{self.where}" if self.where else self.name


#: What is asked where no `--data` says it: the toy hears voices of its own only.
USUAL, OF_THE_TOY = Source("soundscapes"), Source("toy")


class _ModelWithQuestions(argparse.Action):
    """`--model`: the name, and the questions that are usual for it where no others were given."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option_string: str | None = None):  # noqa: ARG002
        """Keep the name, and choose its questions."""
        setattr(namespace, self.dest, values)
        # by identity: what `--data` gave stays, be it equal to a default
        if namespace.data is USUAL or namespace.data is OF_THE_TOY:
            namespace.data = OF_THE_TOY if values == "toy" else USUAL


def source(text: str) -> Source:
    """Read `--data`."""
    name, _, where = text.partition(":")
    if name in CORPORA or (name in MADE and not where):
        return Source(name, where)
    if (path(text) / "manifest.json").is_file():
        return Source("temporal", text)
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {DATA_HELP})")


def add_source(verb: argparse.ArgumentParser, *, fewest: int, n: int | None = None, n_made: int = N_MADE) -> None:
    """The options that say who is asked, and which questions.

    Where no number is given, `n` are taken; without it all, and `n_made` of those that are made.
    """
    add_model(verb, action=_ModelWithQuestions)
    verb.add_argument(
        "--data",
        type=source,
        default=USUAL,
        metavar="NAME",
        help=f"which questions: {DATA_HELP} (default: soundscapes; of the toy, toy)",
    )
    verb.add_argument("--audio", type=path, metavar="DIR", help="the folder of a corpus's recordings")
    usual = f"{n_made} of those that are made, or all" if n is None else n
    verb.add_argument("--n", type=at_least(fewest), default=n, help=f"how many, the first ones (default: {usual})")
    verb.add_argument(
        "--seed", type=at_least(0, LARGEST_SEED), default=7, help="of questions that are made (default: 7)"
    )


class _Made(Sequence[AudioQuestion]):
    """Questions that are made when they are asked for, so that not all of their sounds are in memory.

    A study asks for each of them at every step: the last `KEPT` are not made anew.
    """

    def __init__(self, n: int, make: Callable[[int], AudioQuestion]):
        self._n, self._make = n, lru_cache(KEPT)(make)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        return self._make(range(self._n)[index])


def refuse_recordings(data: Source, audio: Path | None) -> None:
    """Refuse a folder of recordings for questions that bring their own sound.

    Raises:
        UserMistakeError: They bring their own.
    """
    if audio is not None and data.name not in CORPORA:
        raise UserMistakeError(f"--audio is for the recordings of {', '.join(CORPORA)}; {data} brings its own sound")


def questions(data: Source, n: int | None, seed: int, audio: Path | None) -> Sequence[AudioQuestion]:
    """The questions, and on stderr what of a corpus could not be used.

    By default they are all of a corpus, and `N_MADE` of those that are made.

    Raises:
        UserMistakeError: `audio` is given for questions that bring their own sound.
    """
    refuse_recordings(data, audio)
    if data.name in MADE:
        make = import_module(MADE[data.name]).question
        return _Made(N_MADE if n is None else n, lambda index: make(index, seed))
    if data.name == "temporal":
        from mechaudio.temporal.benchmark import load

        return load(data.where)[:n]
    from datasets import disable_progress_bars

    disable_progress_bars()
    given = {} if audio is None else {"audio": audio}
    corpus = import_module(f"mechaudio.data.{data.name}").load(*([data.where] if data.where else []), **given)
    for kind, many in corpus.problem_counts().items():
        tell(f"{corpus.name}: {many} x {kind}")
    return corpus[:n]
