"""`mechaudio assemble`: one folder from the published parts of SALMONN or TimeAudio, made once."""

import argparse
from pathlib import Path

from mechaudio.cli.mistakes import telling
from mechaudio.cli.options import add_verb
from mechaudio.cli.outcome import Outcome


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb."""
    verb = add_verb(
        verbs,
        "assemble",
        does="put the published parts of SALMONN or TimeAudio together, once",
        leaves="It leaves one folder, which ma.load opens, and prints what it left out.",
        examples=(
            "mechaudio assemble salmonn --llama vicuna-7b-v1.5 --whisper whisper-large-v2 "
            "--beats BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt --checkpoint salmonn_7b_v0.pth --out salmonn-7b",
        ),
    )
    verb.add_argument("family", choices=("salmonn", "timeaudio"), help="which network")
    verb.add_argument("--llama", type=Path, required=True, metavar="FOLDER", help="the decoder: Vicuna")
    verb.add_argument("--whisper", type=Path, required=True, metavar="FOLDER", help="whisper-large-v2")
    verb.add_argument("--beats", type=Path, required=True, metavar="FILE", help="BEATs' .pt file")
    verb.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="the release's .pth file")
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    verb.add_argument("--dtype", metavar="TYPE", help="type of the weights, by default the decoder's")
    verb.add_argument("--lora-alpha", type=int, default=32, metavar="N", help="the release's setting (default 32)")
    verb.add_argument(
        "--qformer-heads", type=int, metavar="N", help="heads of the Q-Former, by default one per 64 of its width"
    )
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Put the parts together and say what was left out."""
    with telling():
        from mechaudio.models.salmonn.assemble import assemble

        made = assemble(
            arguments.family,
            llama=arguments.llama,
            whisper=arguments.whisper,
            beats=arguments.beats,
            checkpoint=arguments.checkpoint,
            out=arguments.out,
            dtype=arguments.dtype,
            lora_alpha=arguments.lora_alpha,
            qformer_heads=arguments.qformer_heads,
        )
    told = [f"{made.folder}: {made.n_tensors} tensors, all from the parts"]
    told += [
        f"  left out of {part}, as they have no use here: {len(names)} tensors, such as {names[0]}"
        for part, names in made.left_out.items()
        if names
    ]
    told.append(f"open it with ma.load({str(made.folder)!r}), prove it with: mechaudio check {made.folder}")
    rows = [{"part": part, "left_out": names} for part, names in made.left_out.items()]
    numbers = {"folder": made.folder, "n_tensors": made.n_tensors}
    return Outcome("\n".join(told), rows=rows, numbers=numbers)
