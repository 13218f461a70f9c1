"""`mechaudio ground`: when a sound is heard in a recording, as a model says."""

import argparse

from mechaudio.arguments import n_of
from mechaudio.cli.mistakes import UserMistakeError, opened
from mechaudio.cli.options import add_model, add_verb, at_least
from mechaudio.cli.outcome import Outcome

ABOUT = "Explained in [TimeAudio's method](timeaudio.md)."
#: What the shipped model was trained to be asked; it names every sound with its times.
DESCRIBE = "Describe the sound events."
MENDED = {
    "reworded": "written in another form than 1.2 - 3.4",
    "swapped": "turned round, as the end came before the start",
    "clipped": "cut at the end of the clip",
    "beyond": "left out, as it is not within the clip",
    "empty": "left out, as it has no length",
    "melted": "read from several times run together",
    "malformed": "left out, as it is no time",
}
"""Mended faults of a span in words, by the names of `Repairs`."""


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb and its options."""
    verb = add_verb(
        verbs,
        "ground",
        does="ask a model when a sound is heard in a recording",
        leaves="It prints the times that the answer gives, and what had to be mended in reading them.",
        examples=(
            "mechaudio ground clip.wav --query siren",
            'mechaudio ground clip.wav --query "a dog barking" --model timeaudio-folder --json',
        ),
    )
    verb.add_argument("clip", metavar="CLIP", help="the recording: wav, flac, mp3, ogg, m4a, webm ...")
    verb.add_argument("--query", required=True, metavar="TEXT", help='the sound, such as "a dog"')
    verb.add_argument(
        "--instruction",
        metavar="TEXT",
        help="what is asked, with {query} for the sound; without {query}, parts of the answer that name it count "
        "(default: during which seconds it can be heard; of tiny, to describe all sounds)",
    )
    verb.add_argument(
        "--max-new-tokens", type=at_least(1), default=200, metavar="N", help="of the answer (default: 200)"
    )
    add_model(verb)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Ask, and print the times."""
    for name in ("query", "instruction"):
        value = getattr(arguments, name)
        if value is not None and not value.strip():
            raise UserMistakeError(f"--{name} is blank: write it out")
    from mechaudio.audio.clip import AudioClip
    from mechaudio.experiments.grounding import INSTRUCTION, ground

    clip = AudioClip.load(arguments.clip)
    model = opened(arguments)
    usual = DESCRIBE if arguments.model == "tiny" else INSTRUCTION
    result = ground(
        model,
        clip,
        arguments.query,
        instruction=arguments.instruction or usual,
        max_new_tokens=arguments.max_new_tokens,
    )
    repairs = result.repairs.as_dict()
    mended = [f"{n_of(repairs[name], 'span')} {how}" for name, how in MENDED.items() if repairs[name]]
    lines = [str(result)]
    if result.intervals:
        lines.append(f"answer: {result.answer}")
    lines += [f"mended: {'; '.join(mended)}"] if mended else []
    rows = [{"onset": onset, "offset": offset} for onset, offset in result.intervals]
    numbers = {name: value for name, value in result.as_dict().items() if name != "intervals"}
    return Outcome("\n".join(lines), rows=rows, numbers=numbers)
