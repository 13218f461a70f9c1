"""`mechaudio listen`: the main job on anyone's recording."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mechaudio.audio.sounds import CLASSES
from mechaudio.cli.changes import add_where, attention_changes, refuse_unplaced
from mechaudio.cli.mistakes import UserMistakeError, opened, writable
from mechaudio.cli.options import EachOnce, add_model, add_verb, at_least, finite, model_words
from mechaudio.cli.outcome import Outcome, tell
from mechaudio.cli.studies import add_out, keep, option_words
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

ABOUT = (
    "A recording that is longer than the model hears is cut, and a message says by how much. A model that cannot read "
    "a word of the question, or was never trained to tell a choice, is not asked, for its answer would be noise; "
    "nor is tiny a question that it was not trained on.\n\n"
    "Without `--model`, small is asked where it is installed and knows the words, and else a message names models that "
    "do. tiny cannot tell a sound that it does not know from one that it does: with every answer it says what it knows."
)
AT_LARGE = ("Qwen/Qwen2-Audio-7B-Instruct", "mistralai/Voxtral-Mini-3B-2507")
"""Models for any words; the second is the smaller."""
TINY_HEARS = (
    f"tiny knows {len(CLASSES)} synthetic sounds ({', '.join(CLASSES)}) and was never trained on a recording. "
    "Its answer about any other sound is noise."
)
NUMBERS = (
    "choice", "silence_choice", "unchanged_choice", "correct", "cut", "unreadable", "guesses", "interventions"
)  # fmt: skip


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "listen",
        does="ask a model about a recording and write a page about where it looked",
        leaves="It leaves a folder with index.html, which shows the recording, the answers with it and with silence, "
        "where the last position looks, and an explorer of every word, layer and head, and results/.",
        examples=(
            'mechaudio listen clip.wav --question "Which sound has the earliest onset?" --choices dog car rain',
            'mechaudio listen clip.wav --question "Is there a dog?" --choices yes no --model '
            "Qwen/Qwen2-Audio-7B-Instruct",
            'mechaudio listen clip.wav --question "What do you hear?" --scale 1.5 --layers 2 3',
        ),
    )
    verb.add_argument("clip", metavar="CLIP", help="the recording: wav, flac, mp3, ogg, m4a, webm ...")
    verb.add_argument("--question", required=True, metavar="TEXT", help="what to ask")
    verb.add_argument(
        "--choices",
        nargs="+",
        action=EachOnce,
        default=(),
        metavar="CHOICE",
        help="the options, two or more (default: none, the model answers in its own words)",
    )
    verb.add_argument("--answer", default=None, metavar="TEXT", help="the right one of them, or any text, if known")
    verb.add_argument("--scale", type=finite, metavar="FACTOR", help="scale attention scores of audio while it answers")
    verb.add_argument("--upweight", type=finite, metavar="BIAS", help="add so much to them")
    add_where(verb)
    verb.add_argument(
        "--max-new-tokens", type=at_least(1), metavar="N", help="of what it writes without choices (default: 32)"
    )
    add_model(verb, default=None, in_words="tiny, or small for words that tiny does not know")
    add_out(verb, "listen", "the page goes")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Ask a model about a recording, trace where it looks and write a page about it."""
    refuse_unplaced(arguments)
    if arguments.max_new_tokens is not None and arguments.choices:
        raise UserMistakeError("--max-new-tokens is of written answers: leave out --choices too")
    if arguments.queries == "listening":
        raise UserMistakeError(
            "--queries listening are rows that are found over many questions: `mechaudio listens` finds them for a "
            "model; give these, such as --queries keyword+last"
        )
    question = _question(arguments)
    writable(arguments.out, "Listening")
    from mechaudio.experiments.listen import listen as experiment
    from mechaudio.report.page import write_page

    model = _one_that_knows(arguments, question)
    listening = experiment(
        model,
        question,
        interventions=attention_changes(arguments, model),
        max_new_tokens=arguments.max_new_tokens or 32,
        allow_cut=True,
    )
    if listening.cut:
        tell(f"The model does not hear the last {listening.cut:.1f} s of {arguments.clip}.")
    keep(listening, arguments)
    page = write_page(
        [listening],
        arguments.out / "index.html",
        title=f"What {arguments.model} listens to in {Path(arguments.clip).name}",
        command=_command(arguments),
    )
    lines, unchanged = [], listening.unchanged_probabilities
    for place, (letter, choice) in enumerate(zip(listening.letters, listening.choices, strict=True)):
        mark = "→" if choice == listening.choice else " "
        others = f"with silence {listening.silence_probabilities[place]:6.1%}"
        others += "" if unchanged is None else f", unchanged {unchanged[place]:6.1%}"
        lines.append(f"{mark} {letter}  {listening.probabilities[place]:6.1%}  ({others})  {choice}")
    if not listening.choices:
        others = f"with silence: {listening.silence_choice}"
        others += "" if unchanged is None else f"; unchanged: {listening.unchanged_choice}"
        lines.append(f"→ {listening.choice}  ({others})")
    numbers = {name: getattr(listening, name) for name in NUMBERS}
    return Outcome("\n".join([*lines, str(page)]), result=listening, page=page, numbers=numbers)


def _one_that_knows(arguments: argparse.Namespace, question: "AudioQuestion") -> "AudioLM":
    """Open the model that was named, or the first of ours that knows the words; `arguments.model` becomes its name.

    Raises:
        UserMistakeError: It would answer noise.
    """
    named = arguments.model
    arguments.model = named or "tiny"
    model = opened(arguments)
    reason = _noise(model, arguments.model, question)
    if reason is None:
        if arguments.model == "tiny":
            tell(f"{TINY_HEARS} {_small_would_do(question)}".strip())
        return model
    if named is None and _small_is_there():
        arguments.model = "small"
        model = opened(arguments)
        small_too = _noise(model, "small", question)
        if small_too is None:
            tell(f"{reason}: small is asked instead.")
            return model
        reason = f"{reason}; {small_too}"
    would_do = "" if arguments.model == "small" else f"{_small_would_do(question)} ".lstrip()
    raise UserMistakeError(
        f"{reason}: the answer would be noise. {would_do}A model that was trained on speech and sounds at "
        f"large knows them: --model {' or --model '.join(AT_LARGE)} (`mechaudio models` lists all that can be opened)"
    )


def _noise(model: "AudioLM", name: str, question: "AudioQuestion") -> str | None:
    """Why a model's answer would be noise; None where it was trained to answer."""
    from mechaudio.experiments.listen import unreadable_words
    from mechaudio.models.hearing import guesses
    from mechaudio.models.tiny.language import asked_in_training, open_questions

    unreadable = unreadable_words(model.processor.tokenizer, " ".join([question.text, *question.choices]))
    if unreadable:
        known = f" (the sounds that it knows are {', '.join(CLASSES)})" if name == "tiny" else ""
        return f"{name} has no token for {', '.join(unreadable)}{known}"
    untrained = guesses(CLASSES if name == "tiny" else model.trained_choices, question.choices)
    if untrained:
        return f"{name} was never trained to hear {', '.join(untrained)}"
    if name == "tiny" and not asked_in_training(question.text, with_choices=not question.is_open):
        trained = (
            "which of its sounds is first, last or longest" if question.choices else ", ".join(open_questions("hum"))
        )
        return f"tiny was never trained to answer {question.text!r} (it was: {trained})"
    return None


def _small_is_there() -> bool:
    """Return whether the parts of small are installed, each whole."""
    from mechaudio.models.small.parts import PARTS, located

    try:
        for part in PARTS:
            located(part)
    except (FileNotFoundError, ValueError):  # absent, or damaged
        return False
    return True


def _small_would_do(question: "AudioQuestion") -> str:
    """Say how to ask small, which has heard recordings, unless a choice is none of those that it was trained on."""
    from mechaudio.models.hearing import guesses
    from mechaudio.models.small.answers import TRAINED

    if guesses(TRAINED, question.choices):
        return ""
    if _small_is_there():
        return "--model small asks one that was trained on recordings."
    return "`mechaudio get small` fetches one that was trained on recordings (174 MB, once)."


def _question(arguments: argparse.Namespace) -> "AudioQuestion":
    from mechaudio.audio.clip import AudioClip
    from mechaudio.question import AudioQuestion

    if len(arguments.choices) == 1:
        raise UserMistakeError(f"--choices needs at least two options, got {arguments.choices}")
    return AudioQuestion(
        audio=AudioClip.load(arguments.clip),
        text=arguments.question,
        choices=tuple(arguments.choices),
        answer=arguments.answer,
        id=Path(arguments.clip).name,
    )


def _command(arguments: argparse.Namespace) -> str:
    names = ("question", "choices", "answer", "scale", "upweight", "max_new_tokens", "layers")
    words = option_words(arguments, *names, *(["queries"] if arguments.queries != "last" else []))
    return shlex.join(["mechaudio", "listen", arguments.clip, *words, *model_words(arguments)])
