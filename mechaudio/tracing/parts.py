"""Which query rows each layer's attention serves in a run, so that edits and records of different rows agree.

Rows that only one request names are served by themselves. Where several requests meet in one layer, they share: all
rows, if one of them wants all; else the union of theirs. Each request then sees its part of what is shared, after
everything that came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.hook_points import MADE_POINTS, ROW_POINTS, bare
from mechaudio.tracing.requests import RowRequest
from mechaudio.tracing.sites import Site

#: Per prompt, positions of query rows.
AskedRows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Part:
    """The part of a site that one request sees.

    Attributes:
        site: Where it is served.
        axis: The axis that rows or positions are counted along.
        rows: Which of them, per prompt; `None` for all.
        newest: Per prompt, whether the last position is among them: then the newest one is, while generating.
        n_positions: Positions of the prompts, or served rows of them: where fewer come, the newest alone is computed.
    """

    site: Site
    axis: int = 1
    rows: Int[Tensor, "batch row"] | None = None
    newest: Bool[Tensor, " batch"] | None = None
    n_positions: int = 1

    def take(self, value: Tensor, step: int) -> Tensor | None:
        """This part of what is served; `None` where a later step of a generation has none of it."""
        if self.rows is None:
            return value
        if not self._later(value, step):
            if self._run is not None:
                return value.narrow(self.axis, *self._run).clone()
            return value.gather(self.axis, _index(value, self.rows.to(value.device, non_blocking=True), self.axis))
        if not bool(self.newest.any()):
            return None
        return value.narrow(self.axis, self._newest_place(value, step), 1).clone()  # without all that is cached

    def put(self, value: Tensor, part: Tensor, step: int) -> Tensor:
        """Replace this part of what is served."""
        if self.rows is None:
            return part
        if not self._later(value, step):
            if self._run is not None:
                first, n = self._run
                return value.slice_scatter(part.to(value.dtype), self.axis, first, first + n)
            index = _index(value, self.rows.to(value.device, non_blocking=True), self.axis)
            return value.scatter(self.axis, index, part.to(value.dtype))
        here = self.newest.to(value.device).view(-1, *[1] * (value.ndim - 1))
        newest = self._newest_place(value, step)
        before, now, behind = value.split([newest, 1, value.shape[self.axis] - newest - 1], dim=self.axis)
        return torch.cat([before, torch.where(here, part.to(value.dtype), now), behind], dim=self.axis)

    @cached_property
    def _run(self) -> tuple[int, int] | None:
        """The first row and the number of rows, if they follow one another and are the same in every prompt.

        They need no index, which would have to go to a GPU.
        """
        assert self.rows is not None, "all rows need no index"
        if not self.rows.numel():
            return None
        first, n = int(self.rows[0, 0]), self.rows.shape[1]
        return (first, n) if torch.equal(self.rows, torch.arange(first, first + n).expand_as(self.rows)) else None

    def _newest_place(self, value: Tensor, step: int) -> int:
        """Find the newest position: keys and values are served with all that is cached, empty places behind too."""
        return min(value.shape[self.axis], self.n_positions + step) - 1

    def _later(self, value: Tensor, step: int) -> bool:
        """Return whether only the newest position is served: at a later step, or where nothing else is computed."""
        return step > 0 or value.shape[self.axis] < self.n_positions


class RowPlan:
    """The rows of every layer, worked out from all requests of a run."""

    def __init__(self, exchange: Exchange, batch: PromptBatch, wanted: Sequence[tuple[Site, AskedRows | None]]):
        """Request the rows of every layer from the exchange.

        Args:
            exchange: The model's exchange.
            batch: The prompts.
            wanted: Every `scores`, `pattern` and `result` that is edited or recorded, and per prompt the query rows or
                positions of it, `None` for all.
        """
        self.batch = batch
        self.shared: dict[str, Int[Tensor, "batch row"] | None] = {}
        asked: dict[str, list[AskedRows | None]] = {}
        for site, rows in wanted:
            asked.setdefault(site.module, []).append(rows)
        for base, requests in asked.items():
            rows = [request for request in requests if request is not None]
            self.shared[base] = union(rows, batch.n_positions) if len(rows) == len(requests) else None
            if self.shared[base] is not None:
                last = any(batch.n_positions - 1 in prompt for request in rows for prompt in request)
                exchange.serve_rows(base, RowRequest("rows", self.shared[base], last, batch.n_positions))

    def served(self, site: Site) -> tuple[Site, list[list[int]] | None]:
        """Find where a layer's rows are served, and per prompt which those are, `None` for all."""
        shared = self.shared[site.module]
        if shared is None:
            return site, None
        return replace(site, location=f"{site.module}.rows.{site.name}"), shared.tolist()

    def part(self, site: Site, asked: AskedRows | None) -> Part:
        """Return the part of a site for these query rows or positions, `None` for all."""
        axis = 2 if bare(site.name) in ROW_POINTS else 1
        rows = None if asked is None else torch.tensor(asked)
        newest = None if rows is None else (rows == self.batch.n_positions - 1).any(-1)
        shared = self.shared.get(site.module) if bare(site.name) in MADE_POINTS else None
        if shared is None:
            return Part(site, axis, rows, newest, self.batch.n_positions)
        served, _ = self.served(site)
        if rows is None or torch.equal(rows, shared):
            return Part(served, axis, torch.arange(shared.shape[1]).expand_as(shared), newest, shared.shape[1])
        places = (shared[:, None, :] == rows[:, :, None]).int().argmax(-1)
        return Part(served, axis, places, newest, shared.shape[1])

    def kept(self, site: Site, asked: AskedRows | None) -> Part:
        """Return the part of a site that is recorded: at later steps nothing, unless the newest row is all there is."""
        part = self.part(site, asked)
        if part.newest is None or (part.rows.shape[1] == 1 and bool(part.newest.all())):
            return part
        return replace(part, newest=torch.zeros_like(part.newest))


def union(requests: Sequence[AskedRows], n_positions: int) -> Int[Tensor, "batch _"]:
    """Every row that is asked for, once per prompt; filled up with other rows where a prompt has fewer.

    A single request is kept as it is, in its order, if it names no row twice and as many in every prompt. Single rows
    that are the last one in some prompts only get a second one: where a layer computes nothing but the last position,
    that is then told from what was asked for.
    """
    prompts = range(len(requests[0]))
    distinct = [sorted({row for request in requests for row in request[prompt]}) for prompt in prompts]
    first = [list(rows) for rows in requests[0]]
    alike = all([list(rows) for rows in request] == first for request in requests)
    size = max(len(rows) for rows in distinct)
    if size == 1 and len({rows == [n_positions - 1] for rows in distinct}) > 1:
        size = 2
    if alike and {len(rows) for rows in distinct} | {len(rows) for rows in first} == {size}:
        return torch.tensor(first)
    filled = [rows + [row for row in range(n_positions) if row not in rows][: size - len(rows)] for rows in distinct]
    return torch.tensor([sorted(rows) for rows in filled])


def _index(value: Tensor, rows: Int[Tensor, "batch row"], axis: int) -> Tensor:
    """Rows as an index for `gather` and `scatter` along an axis."""
    shape = [1] * value.ndim
    shape[0], shape[axis] = rows.shape
    size = list(value.shape)
    size[axis] = rows.shape[1]
    return rows.reshape(shape).expand(size)
