"""`mechaudio check`: the proofs that opening a model rests on, made on one's own checkpoint and told."""

import argparse
from typing import Any

from mechaudio.arguments import n_of
from mechaudio.cli.mistakes import opened, telling
from mechaudio.cli.options import add_model, add_verb
from mechaudio.cli.outcome import Outcome

ABOUT = (
    "It counts the tensors, all of which have to come from the checkpoint. It overwrites every hook point in the last "
    "layer of each stack that has it, and prints by how much the logits move. It holds the residual stream to the sum "
    "of what is added and the logits to the last of it, then reads every hook point and compares the logits to the "
    "last bit. Use it after an upgrade of transformers, and on a checkpoint that you trained."
)


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb."""
    verb = add_verb(
        verbs,
        "check",
        does="prove every hook point of a checkpoint and print what holds",
        leaves="It prints a line per proof, ok or FAIL, and writes no file; the exit code is 1 if one fails.",
        examples=("mechaudio check tiny", "mechaudio check runs/my-finetuned-qwen"),
    )
    verb.add_argument("model", metavar="NAME_OR_PATH", help="tiny, toy, small, a hub id or a local folder")
    add_model(verb, name=False)
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Outcome:
    """Open a model without proof, then print each proof; the exit code is 1 if one fails."""
    from mechaudio.tracing.check import measure_hook_points, reading_is_exact
    from mechaudio.tracing.unembedding import has_several_streams

    model = opened(arguments, prove=False, ask=False)
    proofs = []
    if model.checkpoint != "toy":  # the others were refused if they were not
        proofs.append(_proof(f"weights: all {n_of(len(model.network.state_dict()), 'tensor')} accounted for"))
    with telling(f"nothing can be proven about {arguments.model!r}: "):
        moved = measure_hook_points(model)
    proofs += [
        _proof(f"overwritten, moves {what}", change > 0, hook_point=address, change=change)
        for address, (what, change) in moved.items()
    ]
    proofs.append(_proof("attn_out and mlp_out are what is added to the residual stream"))
    read_out = "" if has_several_streams(model) else ", and what lenses read out of the last residual stream"
    proofs.append(_proof(f"the logits are its own{read_out}"))
    exact = reading_is_exact(model)
    proofs.append(_proof("reading every hook point leaves the logits as they were, to the last bit", exact))
    lines = [_line(proof, width=max(map(len, moved))) for proof in proofs]
    failed = sum(not proof["holds"] for proof in proofs)
    proven = n_of(len(proofs), "proof")
    lines.append(f"{failed} of {proven} failed" if failed else f"all {proven} hold")
    holds = not failed
    return Outcome("\n".join([str(model), *lines]), rows=proofs, numbers={"holds": holds}, code=0 if holds else 1)


def _proof(
    proof: str, holds: bool = True, *, hook_point: str | None = None, change: float | None = None
) -> dict[str, Any]:
    """One proof; `change` is by how much it moved what it says."""
    return {"hook_point": hook_point, "proof": proof, "holds": holds, "change": change}


def _line(proof: dict[str, Any], width: int) -> str:
    verdict = "ok  " if proof["holds"] else "FAIL"
    if proof["hook_point"] is None:
        return f"{verdict} {proof['proof']}"
    return f"{verdict} {proof['hook_point'].ljust(width)}  {proof['proof']} by {proof['change']:.3g}"
