"""The changes of all variants of a chunk, sorted by the place where they are made; those that are alike at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mechaudio.models.batch import PromptBatch
from mechaudio.tracing.bind import Change, where_of
from mechaudio.tracing.edit import Add
from mechaudio.tracing.effects import Shares
from mechaudio.tracing.formulas import Block, apply_to_chosen
from mechaudio.tracing.hook_points import ROW_POINTS
from mechaudio.tracing.requests import Change as Apply
from mechaudio.variants.attend import Changes, WeightChange
from mechaudio.variants.plan import Chunk


class Stacked:
    """A chunk with its changes, worked out before the model runs, so that nothing waits for a GPU in between.

    Attributes:
        batch: The prompts.
        chunk: The variants.
        behind: How many positions come before theirs: those of the prompts, where they run along; otherwise none.
        edits: Location -> what to change there.
        shares: The share of attention on the keys whose scores each variant changes, before and after.
    """

    def __init__(self, batch: PromptBatch, chunk: Chunk, dtype: torch.dtype, behind: int, known: dict[Hashable, Any]):
        """Sort the changes of all variants.

        `dtype` is that of the network; `known` holds what was worked out for these prompts, for chunks to share.
        """
        self.batch, self.chunk, self.behind, self._known = batch, chunk, behind, known
        device = batch.inputs["input_ids"].device
        self.shares = Shares(batch.n_rows, len(chunk.variants), device)
        # Each change comes with the place of its variant; of weights, those that can be made together lie together.
        of_positions: dict[str, list[tuple[int, Any, Change]]] = defaultdict(list)
        of_weights: dict[tuple[Any, ...], list[tuple[int, Change]]] = defaultdict(list)
        for place, variant in enumerate(chunk.variants):
            turns = Counter[str]()
            for change in variant.changes:
                location, edit = change.site.location, change.scores and change.scores.edit
                if change.site.name in ROW_POINTS:
                    turns[location] += 1
                    alike = (place,) if edit is None else (type(edit.formula), *where_of(edit))
                    of_weights[(turns[location], location, *alike)].append((place, change))
                else:
                    of_positions[location].append((place, self._index(place, change), change))
        self.edits = {location: _changer(made, batch.n_rows, device) for location, made in of_positions.items()}
        formulas = [
            [change.scores and change.scores.edit.formula for _, change in alike] for alike in of_weights.values()
        ]
        self._careful = any(formula is None or isinstance(formula, Block) for formula, *_ in formulas)
        exact = torch.promote_types(dtype, torch.float32)  # a factor is not to be rounded before it is used
        numbers = [0.0 if formula is None else formula.strength for alike in formulas for formula in alike]
        strengths = torch.tensor(numbers, dtype=exact).to(device, non_blocking=True).split(list(map(len, formulas)))
        self._weights: dict[str, list[WeightChange]] = defaultdict(list)
        # changes that a variant makes in one place come after one another
        by_turn = sorted(zip(of_weights.items(), strengths, strict=True), key=lambda alike: alike[0][0][0])
        for ((_, location, *_), alike), strength in by_turn:
            self._weights[location].append(self._together(alike, strength))

    def changes_at(self, attention: str) -> Changes:
        """The changes of scores and of patterns in an attention module."""
        scores, pattern = (self._weights.get(f"{attention}.{point}", ()) for point in ("scores", "pattern"))
        return Changes(scores, pattern, self._careful)

    def changes_in(self, layer: int, points: Collection[str]) -> bool:
        """Return whether any variant changes one of these hook points of a layer."""
        sites = (change.site for variant in self.chunk.variants for change in variant.changes)
        return any(site.layer == layer and site.name in points for site in sites)

    def _index(self, place: int, change: Change) -> tuple[Any, Any]:
        """Index a variant's positions among all: slices, if they are the same in every prompt."""
        if change.site.name == "final_norm":  # only the last position of each variant gets there
            place += self.behind > 0
            return slice(None), slice(place, place + 1)
        moved = self.behind + (place + 1) * self.chunk.n_positions - self.batch.n_positions
        rows = change.positions_in(self.batch.n_rows, self.batch.n_positions)
        positions = [[position + moved for position in row] for row in rows]
        first, last = positions[0][0], positions[0][-1]
        if all(row == list(range(first, last + 1)) for row in positions):
            return slice(None), slice(first, last + 1)
        return torch.arange(len(positions))[:, None], torch.tensor(positions)

    def _together(self, members: Sequence[tuple[int, Change]], strength: Tensor) -> WeightChange:
        """Make one change of those that variants make alike in one place."""
        places, change = [place for place, _ in members], members[0][1]
        n, n_positions, bound = self.chunk.n_positions, self.batch.n_positions, change.scores
        first = n_positions - n
        if bound is None:
            rows = change.positions_in(self.batch.n_rows, n_positions)
            return _by_function(change, places[0], torch.tensor([list(row) for row in rows]) - first)
        known, where = self._known, (n, where_of(bound.edit))
        if where not in known:
            active = bound.active([range(first, n_positions)] * self.batch.n_rows, n_positions)
            measured = active[:, None, None, :, None] & bound.heads[:, None, None, None]
            chosen = measured & bound.chosen[:, None, None, None]
            if bound.rows is None:  # attention is measured at the last query then
                measured = measured & (torch.arange(n, device=measured.device) == n - 1)[:, None]
            known[where] = chosen, (chosen & measured) / measured.sum((1, 2, 3, 4), keepdim=True)
        index = slice(places[0], places[-1] + 1) if len(places) == places[-1] + 1 - places[0] else torch.tensor(places)
        formula, strength = bound.edit.formula, strength[:, None, None]
        blind = n > 1 or isinstance(formula, Block)

        def change_scores(scores: Tensor) -> None:
            chosen, share = (part.to(scores.device) for part in known[where])
            before = scores[:, :, index]
            after = apply_to_chosen(replace(formula, strength=strength.to(scores.device)), before, chosen)
            self.shares.add(places, index, torch.stack([before, after]), share, blind=blind)
            scores[:, :, index] = after

        return change_scores


def _by_function(change: Change, place: int, queries: Tensor) -> WeightChange:
    """A function of the user for the scores or the pattern of one variant, at query rows of each prompt."""
    prompts = torch.arange(len(queries))[:, None]

    def change_weights(weights: Tensor) -> None:
        by_query = weights[:, :, place].transpose(1, 2)
        part = by_query[prompts, queries].transpose(1, 2)
        by_query[prompts, queries] = change.on(part.clone()).transpose(1, 2)

    return change_weights


def _changer(changes: Sequence[tuple[int, Any, Change]], n_prompts: int, device: torch.device) -> Apply:
    """Make all changes at one site, each with the place of its variant and its positions.

    Vectors that are added at one position by variants that change nothing else there are added all together; others act
    one by one, in the order given.
    """
    site, per_variant = changes[0][2].site, Counter(place for place, _, _ in changes)
    added = {
        place: (index[1].start, change.adds)
        for place, index, change in changes
        if change.adds is not None and per_variant[place] == 1
        if isinstance(index[1], slice) and index[1].stop - index[1].start == 1
    }
    together = added if len(added) > 1 else {}
    others = [(index, change) for place, index, change in changes if place not in together]
    add_to = _adding(list(together.values()), n_prompts, device) if together else None

    def apply(served: Any) -> Any:
        whole = site.take(served).clone()
        if add_to is not None:
            add_to(whole)
        for index, change in others:
            whole[index] = change.on(whole[index].clone())
        return site.swap(served, whole)

    return apply


def _adding(added: Sequence[tuple[int, Add]], n_prompts: int, device: torch.device) -> Callable[[Tensor], None]:
    """Add vectors of many variants, each at the place that comes with it, to a value in place.

    Variants that differ in strength alone share their vectors. Everything is brought to the device at once.
    """
    parts: dict[Hashable, tuple[int, Tensor]] = {}
    changes, n_vectors = [change for _, change in added], 0
    which, at, numbers = list[int](), list[int](), list[float]()
    for place, change in added:
        vectors, n = change.vectors, len(change.heads or (0,))
        key = (vectors.data_ptr(), vectors.shape, vectors.stride(), n)
        if key not in parts:
            parts[key] = n_vectors, vectors.reshape(-1, n, vectors.shape[-1]).expand(n_prompts, -1, -1)
            n_vectors += n
        which += range(parts[key][0], parts[key][0] + n)
        at += [place] * n
        numbers += [change.strength] * n
    every, strengths = [part for _, part in parts.values()], torch.tensor(numbers, dtype=torch.float64)
    together = device if any(part.device.type != "cpu" for part in every) else torch.device("cpu")
    widest = max(part.shape[-1] for part in every)
    padded = [F.pad(part.to(together), (0, widest - part.shape[-1])) for part in every]
    moved = [_moved(tensor, device) for tensor in (torch.cat(padded, dim=1), torch.tensor(which), torch.tensor(at))]

    def add_to(value: Tensor) -> None:
        exact = torch.promote_types(value.dtype, torch.float32)  # a strength is not to be rounded before it is used
        vectors, which, at = (_moved(tensor, value.device) for tensor in moved)
        picked = vectors.to(value.dtype).index_select(1, which).to(exact)
        added = (picked * _moved(strengths.to(exact), value.device)[:, None]).to(value.dtype)
        if changes[0].heads is None:
            value[:, at] += added
            return
        heads = [head for change in changes for head in change.heads_of(value)]
        value[:, at, _moved(torch.tensor(heads), value.device)] += added[..., : value.shape[-1]]

    return add_to


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; one that goes to a GPU does not wait for what the GPU has to do yet."""
    return values.to(device, non_blocking=device.type == "cuda")
