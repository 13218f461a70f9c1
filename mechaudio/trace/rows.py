"""From what a user calls rows or positions to positions in the padded prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from einops import repeat
from jaxtyping import Int
from torch import Tensor

from mechaudio.trace.exchange import Exchange, RowRequest
from mechaudio.trace.hook_points import Rows
from mechaudio.trace.sites import Site

if TYPE_CHECKING:
    from mechaudio.models.prompt import PromptBatch


def row_positions(batch: PromptBatch | None, rows: Rows) -> Int[Tensor, "batch row"]:
    """Positions in the padded prompt.

    Args:
        batch: The prompts; needed for spans and for counting from the end.
        rows: A span's name or positions.

    Raises:
        KeyError: No such span.
        IndexError: A position outside the prompt.
        ValueError: The span is empty, or not equally long in every prompt.
    """
    if batch is None:
        raise ValueError(f"rows {rows!r} need to know the prompts: open the trace with ma.trace(model, batch)")
    if isinstance(rows, str):
        span = [list(positions) for positions in batch.spans[rows]]
        lengths = [len(positions) for positions in span]
        if len(set(lengths)) > 1 or 0 in lengths:
            raise ValueError(
                f"span {rows!r} has {lengths} positions in the rows of this batch; rows read together must be equally many, and at "
                "least one: group the questions, or give positions"
            )
        return torch.tensor(span)
    wanted = [rows] if isinstance(rows, int) else list(rows)
    for position in wanted:
        if not -batch.n_positions <= position < batch.n_positions:
            raise IndexError(f"position {position} is outside the prompts of {batch.n_positions} positions")
    return repeat(torch.tensor([position % batch.n_positions for position in wanted]), "row -> batch row", batch=batch.n_rows)


def request(exchange: Exchange, site: Site, rows: Rows) -> Site:
    """Ask one layer's attention for these query rows in the run under way.

    Args:
        exchange: The model's exchange.
        site: `scores` or `pattern` of the layer.
        rows: A span's name or positions.

    Returns:
        The site at these rows only.
    """
    positions = row_positions(exchange.batch, rows)
    last = rows == "last" or rows == -1 or (not isinstance(rows, (str, int)) and list(rows) == [-1])
    name = "rows_last" if last else "rows_" + "_".join(str(position) for position in positions.flatten().tolist())
    base, point = site.location.rsplit(".", 1)
    exchange.rows.setdefault(base, {})[name] = RowRequest(name, positions, last)
    return replace(site, location=f"{base}.{name}.{point}")
