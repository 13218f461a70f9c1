"""`mechaudio models`: what can be opened."""

import argparse


def add(verbs: argparse._SubParsersAction) -> None:
    """The verb."""
    verbs.add_parser("models", help="list the classes that mechaudio opens").set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """List the classes that mechaudio opens."""
    from mechaudio.models.registry import ADAPTERS

    rows = [("class", "ms per token", "window", "longer clips", "encoder layout", "checkpoints")]
    for adapter in ADAPTERS:
        timing = adapter.timing
        for index, checkpoint in enumerate(adapter.checkpoints):
            facts = (
                adapter.network_class,
                f"{adapter.milliseconds:.4g}",
                "any" if timing.window is None else f"{timing.window / adapter.sampling_rate:g} s",
                timing.long_clips,
                adapter.encoder.layout,
            )
            rows.append((*(facts if index == 0 else [""] * len(facts)), checkpoint))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\n'tiny' is a small Qwen2AudioForConditionalGeneration that travels with mechaudio: mechaudio demo")
    return 0
