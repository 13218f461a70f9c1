"""`mechaudio assemble`: one folder from the published parts of a network that transformers does not have, made once."""

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from mechaudio.arguments import n_of
from mechaudio.cli.mistakes import telling
from mechaudio.cli.options import DTYPES, add_verb, folder, path
from mechaudio.cli.outcome import Outcome

ABOUT = (
    "Where to get the parts: [SALMONN and TimeAudio](salmonn.md), [DeSTA2.5-Audio](desta.md), [Kimi-Audio](kimi.md). "
    "Pickled files are read without running code from them, every tensor is accounted for, and the folder appears when "
    "it is whole."
)
#: What each family is made of, and the settings that no file of its holds.
_PARTS = {
    "salmonn": ("llama", "whisper", "beats", "checkpoint"),
    "timeaudio": ("llama", "whisper", "beats", "checkpoint"),
    "desta": ("llama", "whisper", "checkpoint"),
    "kimi": ("checkpoint", "speech_tokenizer"),
}
_SETTINGS = {
    "salmonn": ("lora_alpha", "qformer_heads"),
    "timeaudio": ("lora_alpha", "qformer_heads"),
    "desta": ("qformer_heads",),
    "kimi": ("whisper", "audio_branch"),
}


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb."""
    verb = add_verb(
        verbs,
        "assemble",
        does="put the published parts of SALMONN, TimeAudio, DeSTA2.5-Audio or Kimi-Audio together, once",
        leaves="It leaves one folder, which ma.load opens, and prints what it left out.",
        examples=(
            "mechaudio assemble salmonn --llama vicuna-7b-v1.5 --whisper whisper-large-v2 "
            "--beats BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt --checkpoint salmonn_7b_v0.pth --out salmonn-7b",
            "mechaudio assemble desta --llama Llama-3.1-8B-Instruct --whisper whisper-large-v3 "
            "--checkpoint DeSTA2.5-Audio-Llama-3.1-8B --out desta-8b",
            "mechaudio assemble kimi --checkpoint Kimi-Audio-7B-Instruct --speech-tokenizer glm-4-voice-tokenizer "
            "--out kimi-7b",
        ),
    )
    verb.add_argument("family", choices=tuple(_PARTS), help="which network")
    verb.add_argument("--llama", type=path, metavar="FOLDER", help="the decoder: Vicuna, for DeSTA Llama 3.1")
    verb.add_argument("--whisper", type=path, metavar="FOLDER", help="whisper-large-v2, for DeSTA v3; Kimi holds it")
    verb.add_argument("--beats", type=path, metavar="FILE", help="BEATs' .pt file")
    verb.add_argument("--checkpoint", type=path, metavar="PATH", help="the release's .pth file, or its folder")
    verb.add_argument("--speech-tokenizer", type=path, metavar="FOLDER", help="glm-4-voice-tokenizer, for Kimi")
    verb.add_argument("--audio-branch", action="store_true", default=None, help="keep the branch of Kimi that speaks")
    verb.add_argument("--out", type=folder, required=True, metavar="FOLDER", help="a new folder")
    verb.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="type of the weights (default: auto, the decoder's)"
    )
    verb.add_argument("--lora-alpha", type=int, metavar="N", help="the release's setting (default: 32)")
    verb.add_argument("--qformer-heads", type=int, metavar="N", help="heads of the Q-Former (default: the release's)")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Put the parts together and say what was left out."""
    dtype = None if arguments.dtype == "auto" else arguments.dtype
    with telling():
        made = _assembler(arguments.family)(**_given(arguments), out=arguments.out, dtype=dtype)
    output = [f"{made.folder}: {n_of(made.n_tensors, 'tensor')}, all from the parts"]
    output += [
        f"  left out of {part}, as they have no use here: {n_of(len(names), 'tensor')}, such as {names[0]}"
        for part, names in made.left_out.items()
        if names
    ]
    output.append(f"open it with ma.load({str(made.folder)!r}), prove it with: mechaudio check {made.folder}")
    rows = [{"part": part, "left_out": names} for part, names in made.left_out.items()]
    numbers = {"folder": made.folder, "n_tensors": made.n_tensors}
    return Outcome("\n".join(output), rows=rows, numbers=numbers)


def _assembler(family: Any) -> Callable[..., Any]:
    """The function that puts a family together; that of SALMONN puts TimeAudio together, too."""
    of_salmonn = family in ("salmonn", "timeaudio")
    assemble = import_module(f"mechaudio.models.{'salmonn' if of_salmonn else family}.assemble").assemble
    return partial(assemble, family) if of_salmonn else assemble


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The parts and settings that were given.

    Raises:
        ValueError: A part of the family is missing, or something was given that is none of its.
    """
    family = arguments.family
    every = dict.fromkeys(name for names in (*_PARTS.values(), *_SETTINGS.values()) for name in names)
    given = {name: getattr(arguments, name) for name in every if getattr(arguments, name) is not None}
    missing = [name for name in _PARTS[family] if name not in given]
    strange = [name for name in given if name not in (*_PARTS[family], *_SETTINGS[family])]
    if missing or strange:
        lacks, has = (", ".join(f"--{name.replace('_', '-')}" for name in names) for names in (missing, strange))
        wrong = [*([f"it lacks {lacks}"] if missing else []), *([f"it has no {has}"] if strange else [])]
        parts = " ".join(f"--{name.replace('_', '-')}" for name in _PARTS[family])
        raise ValueError(f"assemble {family} takes {parts}: {', and '.join(wrong)}")
    return given
