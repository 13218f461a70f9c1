"""Turning what a caller wants kept or changed into the exchange's keeps and edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.rows import request, row_positions
from mechaudio.tracing.sites import Site

if TYPE_CHECKING:
    from mechaudio.models.prompt import PromptBatch
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True)
class Edit:
    """A change at one hook point; the simplest intervention, and what every other one is made of.

    ```python
    louder = ma.Edit(ma.HookPoint("resid_post", layers=[4]), lambda resid: 2 * resid)
    ma.run(model, batch, interventions=[louder])
    ```

    Attributes:
        point: Where: one hook point, with its layers, and with query rows if only those are to be changed.
        change: The tensor there (whole, or its chosen rows) -> what it shall be; a new tensor, the old one is left
            alone.
        every_step: While generating, whether to change it at every new token too, or in the prompt only.
    """

    point: HookPoint
    change: Callable[[Tensor], Tensor]
    every_step: bool = True

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[Edit]:  # noqa: ARG002 - the same for all
        """Itself: the same change for every model and every prompt."""
        return (self,)


@runtime_checkable
class Intervention(Protocol):
    """A frozen value that says what to change, and where."""

    def edits(self, model: AudioLM, batch: PromptBatch) -> Iterable[Edit]:
        """The changes it makes to this model on these prompts."""
        ...


def hook_points(record: Sequence[str | HookPoint]) -> list[HookPoint]:
    """Names and hook points as hook points.

    Raises:
        TypeError: Something else.
        ValueError: The same hook point twice in one layer, which a cache could not tell apart.
    """
    if isinstance(record, (str, HookPoint)):
        raise TypeError(f"record= takes a list of hook points, got {record!r}; write [{record!r}]")
    return [point if isinstance(point, HookPoint) else HookPoint(point) for point in record]


def sites_of(model: AudioLM, points: Sequence[HookPoint]) -> list[tuple[HookPoint, Site]]:
    """Every site that the hook points name, each once."""
    found = [(point, site) for point in points for site in model.site_map.find(point)]
    seen: set[str] = set()
    for point, site in found:
        if site.location in seen:
            raise ValueError(
                f"{site.address} is recorded twice ({point}); a cache keeps a hook point once per run: use two runs"
            )
        seen.add(site.location)
    return found


def register_keeps(
    model: AudioLM,
    batch: PromptBatch,
    points: Sequence[HookPoint],
    cache_now: Callable[[], Cache],
    *,
    stop_after_last: bool = False,
) -> None:
    """Have the exchange keep these hook points in the run to come.

    Args:
        model: The opened model.
        batch: The prompts.
        points: What to keep.
        cache_now: Gives the cache to keep it in, at the time it is kept.
        stop_after_last: End the forward pass once everything is kept.
    """
    exchange = model.exchange
    found = [(point, _placed(model, point, site)) for point, site in sites_of(model, points)]
    missing = {site.location for _, site in found}

    def keeper(site: Site, rows: Tensor | None) -> Callable[[Any], None]:
        def keep(served: Any) -> None:
            value = site.take(served).detach()
            if site.in_chunks:
                cache_now().extend(site.name, site.layer, value.clone())
                return
            cache_now().keep(site.name, site.layer, value.clone() if rows is None else _at(value, rows))
            missing.discard(site.location)
            if stop_after_last and not missing:
                exchange.stop()

        return keep

    for point, site in found:
        rows = None if point.positions is None else row_positions(batch, point.positions)
        if site.in_chunks and rows is not None:
            raise ValueError(f"{site.address} is heard chunk after chunk: record it whole, without positions=")
        if point.point == "mass":
            exchange.groups = torch.stack([batch.span_mask(span) for span in point.keys], dim=-1)
        exchange.keeps.setdefault(site.location, []).append(keeper(site, rows))


def register_edits(model: AudioLM, batch: PromptBatch, interventions: Iterable[Intervention]) -> None:
    """Have the exchange apply these interventions in the run to come, in the order given."""
    exchange = model.exchange

    def editor(site: Site, edit: Edit) -> Callable[[Any], Any]:
        def apply(served: Any) -> Any:
            if exchange.step > 0 and not edit.every_step:
                return served
            current = site.take(served)
            changed = edit.change(current)
            if changed.shape != current.shape:
                raise ValueError(
                    f"an edit of {site.address} made {list(changed.shape)} out of {list(current.shape)}: a hook point "
                    "keeps its shape. (Rows whose padding would leak run apart, fewer at a time than the batch has.)"
                )
            return site.swap(served, changed)

        return apply

    for intervention in interventions:
        for edit in intervention.edits(model, batch):
            if edit.point.point == "mass":
                raise ValueError("mass is what attention did, not something it uses: edit scores or pattern instead")
            for site in model.site_map.find(edit.point):
                placed = _placed(model, edit.point, site)
                exchange.edits.setdefault(placed.location, []).append(editor(placed, edit))


def _placed(model: AudioLM, point: HookPoint, site: Site) -> Site:
    """The site, or the site at the rows that the hook point chooses."""
    return site if point.queries is None else request(model.exchange, site, point.queries)


def _at(value: Float[Tensor, "batch position *rest"], rows: Tensor) -> Float[Tensor, "batch row *rest"]:
    """A copy of `value` at some positions of each row."""
    index = rows.to(value.device).reshape(*rows.shape, *[1] * (value.ndim - 2)).expand(-1, -1, *value.shape[2:])
    return value.gather(1, index)
