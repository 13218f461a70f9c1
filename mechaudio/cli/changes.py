"""Changes of attention on the command line: how strong, and where."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechaudio.cli.mistakes import UserMistakeError
from mechaudio.cli.options import EachOnce

if TYPE_CHECKING:
    from mechaudio.interventions.selecting import AttentionIntervention


def add_where(verb: argparse.ArgumentParser, *, listening: bool = False) -> None:
    """Add the options that say where attention is changed."""
    listeners = "; listening: those that are found to listen" if listening else ""
    verb.add_argument(
        "--layers", type=int, nargs="+", action=EachOnce, metavar="L", help="in these layers alone, together"
    )
    verb.add_argument(
        "--queries",
        default="last",
        metavar="SPANS",
        help=f"in these query rows, such as keyword+last{listeners} (default: last)",
    )


def refuse_unplaced(arguments: argparse.Namespace) -> None:
    """Refuse a place without a change.

    Raises:
        UserMistakeError: `--layers` or `--queries` without `--scale` or `--upweight`.
    """
    strengths = _several(arguments.scale) or _several(arguments.upweight)
    if not strengths and (arguments.layers or arguments.queries != "last"):
        raise UserMistakeError("--layers and --queries say where to scale or to upweight: give --scale or --upweight")


def attention_changes(arguments: argparse.Namespace, model: Any) -> "list[AttentionIntervention]":
    """The interventions of `--scale` and `--upweight`, one per strength.

    Raises:
        UserMistakeError: A layer that the model does not have.
    """
    from mechaudio.interventions.scale import ScaleAttention
    from mechaudio.interventions.upweight import UpweightAttention

    beyond = [layer for layer in arguments.layers or () if not -model.n_layers <= layer < model.n_layers]
    if beyond:
        raise UserMistakeError(f"--layers {beyond[0]}: {arguments.model} has layers 0 to {model.n_layers - 1}")
    return [
        kind(strength, layers=arguments.layers, queries=arguments.queries)
        for kind, strengths in ((ScaleAttention, arguments.scale), (UpweightAttention, arguments.upweight))
        for strength in _several(strengths)
    ]


def _several(strengths: float | Sequence[float] | None) -> Sequence[float]:
    """Strengths as a list: some verbs take one, others compare several."""
    if strengths is None:
        return ()
    return strengths if isinstance(strengths, Sequence) else (strengths,)
