"""Turning what a caller wants kept or changed into the exchange's keeps and edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.row_plan import Part, RowPlan
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
    """
    if isinstance(record, (str, HookPoint)):
        raise TypeError(f"record= takes a list of hook points, got {record!r}; write [{record!r}]")
    wrong = [point for point in record if not isinstance(point, (str, HookPoint))]
    if wrong:
        raise TypeError(f"record= takes names and HookPoints, got {wrong[0]!r}")
    return [point if isinstance(point, HookPoint) else HookPoint(point) for point in record]


def edits_of(model: AudioLM, batch: PromptBatch, interventions: Iterable[Intervention]) -> list[Edit]:
    """Every change that the interventions make, in their order.

    Raises:
        TypeError: Something else than interventions.
        ValueError: A change of what is measured only.
    """
    if isinstance(interventions, Intervention):
        raise TypeError(f"interventions= takes a list, got {interventions!r}; write [...] around it")
    edits = []
    for intervention in interventions:
        if not isinstance(intervention, Intervention):
            raise TypeError(f"interventions= takes values such as ma.Edit(hook_point, function), got {intervention!r}")
        edits += intervention.edits(model, batch)
    for edit in edits:
        if edit.point.point == "mass":
            raise ValueError("mass is what attention did, not something it uses: edit scores or pattern instead")
    return edits


def sites_of(model: AudioLM, points: Sequence[HookPoint]) -> list[tuple[HookPoint, Site]]:
    """Every site that the hook points name, each once.

    Raises:
        ValueError: The same hook point twice in one layer, which a cache could not tell apart.
    """
    found = [(point, site) for point in points for site in model.site_map.find(point)]
    seen: set[str] = set()
    for point, site in found:
        if site.location in seen:
            raise ValueError(
                f"{site.address} is recorded twice ({point}); a cache keeps a hook point once per run: use two runs"
            )
        seen.add(site.location)
    return found


def register(
    model: AudioLM,
    batch: PromptBatch,
    points: Sequence[HookPoint],
    interventions: Iterable[Intervention],
    cache_now: Callable[[], Cache],
    *,
    stop_after_last: bool = False,
) -> None:
    """Have the exchange apply these interventions, in the order given, and keep these hook points after all of them.

    Args:
        model: The opened model.
        batch: The prompts.
        points: What to keep.
        interventions: What to change.
        cache_now: Gives the cache to keep it in, at the time it is kept.
        stop_after_last: End the forward pass once everything is kept.
    """
    exchange = model.exchange
    changes = [
        (edit, site) for edit in edits_of(model, batch, interventions) for site in model.site_map.find(edit.point)
    ]
    kept = sites_of(model, points)
    plan = RowPlan(exchange, batch, [*((edit.point, site) for edit, site in changes), *kept])
    for edit, site in changes:
        part = plan.part(edit.point, site)
        exchange.edits.setdefault(part.site.location, []).append(_editor(model, edit, part))
    parts = [plan.part(point, site) for point, site in kept]
    missing = {part.site.location for part in parts}

    def keeper(part: Part) -> Callable[[Any], None]:
        def keep(served: Any) -> None:
            value = part.take(part.site.take(served).detach(), exchange.step)
            if value is None:
                return
            store = cache_now().extend if part.site.in_chunks else cache_now().keep
            store(part.site.name, part.site.layer, value.clone() if part.rows is None else value)
            if part.site.in_chunks:
                return
            missing.discard(part.site.location)
            if stop_after_last and not missing:
                exchange.stop()

        return keep

    for (point, site), part in zip(kept, parts, strict=True):
        if site.in_chunks and part.rows is not None:
            raise ValueError(f"{site.address} is heard chunk after chunk: record it whole, without positions=")
        if point.point == "mass":
            groups = torch.stack([batch.span_mask(span) for span in point.keys], dim=-1)
            exchange.groups[site.location.rsplit(".", 1)[0]] = groups
        exchange.keeps.setdefault(part.site.location, []).append(keeper(part))


def _editor(model: AudioLM, edit: Edit, part: Part) -> Callable[[Any], Any]:
    exchange, site = model.exchange, part.site

    def apply(served: Any) -> Any:
        if exchange.step > 0 and not edit.every_step:
            return served
        whole = site.take(served)
        current = part.take(whole, exchange.step)
        if current is None:
            return served
        changed = edit.change(current)
        if not isinstance(changed, Tensor) or changed.shape != current.shape:
            made = list(changed.shape) if isinstance(changed, Tensor) else changed
            raise ValueError(
                f"an edit of {site.address} made {made} out of {list(current.shape)}: a hook point keeps its shape. "
                "(Rows whose padding would leak run apart, fewer at a time than the batch has.)"
            )
        return site.swap(served, part.put(whole, changed, exchange.step))

    return apply
