"""From what a user calls rows or positions to positions in the padded prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from mechaudio.models.positions import from_the_start, select
from mechaudio.models.prompt import PromptBatch
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.hook_points import Rows, in_tower
from mechaudio.tracing.requests import RowRequest
from mechaudio.tracing.sites import Site


def row_positions(batch: PromptBatch | None, rows: Rows, *, fill: bool = False) -> Int[Tensor, "batch row"]:
    """Positions in the padded prompt.

    Args:
        batch: The prompts; needed for spans and for counting from the end.
        rows: Spans, positions for all prompts, or one equally long list of positions per prompt.
        fill: Whether prompts may have unequally many: in those with fewer, the last one is named again and again.

    Raises:
        KeyError: No such span.
        IndexError: A position outside the prompt.
        ValueError: A prompt has none, or not as many as the others.
    """
    if batch is None:
        raise ValueError(f"rows {rows!r} need to know the prompts: open the trace with ma.trace(model, batch)")
    if isinstance(rows, str):
        span = [list(positions) for positions in select(batch, rows)]
        lengths = [len(positions) for positions in span]
        if fill and 0 not in lengths:
            return torch.tensor(_filled(span))
        if len(set(lengths)) > 1 or 0 in lengths:
            raise ValueError(
                f"span {rows!r} has {lengths} positions in the rows of this batch; rows read together must be equally "
                "many, and at least one: group the questions, or give positions"
            )
        return torch.tensor(span)
    wanted = [rows] if isinstance(rows, int) else list(rows)
    per_prompt = bool(wanted) and not isinstance(wanted[0], int)
    if not per_prompt:
        wanted = [wanted] * batch.n_rows
    elif fill and all(wanted):
        wanted = _filled([list(positions) for positions in wanted])
    if len(wanted) != batch.n_rows or len({len(positions) for positions in wanted}) != 1 or not wanted[0]:
        raise ValueError(
            f"positions are given for all prompts at once, or as one list per prompt ({batch.n_rows} here), equally "
            f"long; got {rows!r}"
        )
    return torch.tensor(from_the_start(batch, wanted))


def _filled(rows: Sequence[list[int]]) -> list[list[int]]:
    longest = max(len(positions) for positions in rows)
    return [positions + positions[-1:] * (longest - len(positions)) for positions in rows]


def request(exchange: Exchange, site: Site, rows: Rows) -> Site:
    """Ask one layer's attention for these query rows in the run under way, and return the site at these rows only."""
    if in_tower(site.name):
        raise ValueError(
            f"at() counts positions of the prompt, and {site.address} has frames of the tower: read it whole and take "
            "the rows you need"
        )
    positions = row_positions(exchange.batch, rows)
    last = bool((positions == exchange.batch.n_positions - 1).all()) and positions.shape[1] == 1
    name = "rows_last" if last else "rows_" + "_".join(str(position) for position in positions.flatten().tolist())
    base, point = site.location.rsplit(".", 1)
    for other in exchange.asked_of(base).queries.values():
        if other.name != name and bool((other.positions[:, :, None] == positions[:, None]).any()):
            raise ValueError(
                f"{site.address} was asked for at rows that overlap ({rows!r} and {other.name}): ask once, for all of "
                "them"
            )
    exchange.serve_rows(base, RowRequest(name, positions, last, exchange.batch.n_positions))
    return replace(site, location=f"{base}.{name}.{point}", rows=name)
