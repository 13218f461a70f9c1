"""`mechaudio check`: the proofs that opening a model rests on, made on one's own checkpoint and told."""

import argparse

from mechaudio.cli.mistakes import opened, telling


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb."""
    verb = verbs.add_parser("check", help="prove every hook point of a checkpoint and print what holds")
    verb.add_argument("model", metavar="NAME_OR_PATH", help="tiny, toy, a hub id or a local folder")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Open a model without proof, then print each proof; the exit code is 1 if one fails."""
    from mechaudio.tracing.check import measure_hook_points, reading_is_exact

    model = opened(arguments.model, prove=False, ask=False)
    print(model)
    if model.checkpoint != "toy":  # the others were refused if they were not
        print(f"ok   weights: all {len(model.network.state_dict())} tensors accounted for")
    with telling(f"nothing can be proven about {arguments.model!r}: "):
        moved = measure_hook_points(model)
    width = max(map(len, moved))
    for address, change in moved.items():
        print(
            f"{'ok  ' if change > 0 else 'FAIL'} {address.ljust(width)}  overwritten, moves the logits by {change:.3g}"
        )
    print("ok   attn_out and mlp_out are what is added to the residual stream, wherever there are such")
    exact = reading_is_exact(model)
    print(f"{_verdict(exact)} reading every hook point leaves the logits as they were, to the last bit")
    return 0 if exact and all(change > 0 for change in moved.values()) else 1


def _verdict(holds: bool) -> str:
    return "ok  " if holds else "FAIL"
