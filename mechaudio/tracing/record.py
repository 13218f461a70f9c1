"""Turning what a caller wants kept or changed into the exchange's keeps and edits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mechaudio.arguments import check_fields
from mechaudio.showing import Shown
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.effects import Effect
from mechaudio.tracing.hook_points import MADE_POINTS, HookPoint
from mechaudio.tracing.row_plan import AskedRows, Part, RowPlan
from mechaudio.tracing.rows import row_positions
from mechaudio.tracing.score_edit import BoundScoreEdit, ScoreEdit, Way
from mechaudio.tracing.sites import Site

if TYPE_CHECKING:
    from mechaudio.models.prompt import PromptBatch
    from mechaudio.tracing.audio_lm import AudioLM


@dataclass(frozen=True)
class Edit(Shown):
    """A change at one hook point; the simplest intervention, and what every other one is made of.

    ```python
    louder = ma.Edit(ma.HookPoint("resid_post", layers=[4]), lambda resid: 2 * resid)
    ma.run(model, batch, interventions=[louder])
    ```

    Attributes:
        point: Where: one hook point, with its layers, and with query rows if only those are to be changed.
        change: The tensor there (whole, or its chosen rows) -> what it shall be; a new tensor, the old one is left
            alone.
        every_step: While generating, whether to change it at every new token too, or in the prompt only. Where rows
            are chosen, a new token is changed if the last position is among them, and is then given alone. Keys and
            values are kept for later tokens as they were before any edit: `k` and `v` are changed for the token that is
            being computed.
        by_position: Whether what becomes of a position of a prompt depends on nothing but that position. Then prompts
            may have unequally many chosen rows (the function is given the last one of a prompt several times), and
            `ma.sweep` may give the function some of the prompts only.
    """

    point: HookPoint
    change: Callable[[Tensor], Tensor]
    every_step: bool = True
    by_position: bool = False

    def __post_init__(self) -> None:
        """Check what was given.

        Raises:
            TypeError: A point that is no hook point, a change that is no function, or flags that are not True or False.
        """
        check_fields(self)

    def __str__(self) -> str:
        """What it does, as a sentence."""
        layers = "" if self.point.layers is None else f" in layers {', '.join(map(str, self.point.layers))}"
        name = getattr(self.change, "__name__", None) or repr(self.change)
        return f"Replaces {self.point.name}{layers} by what {name} makes of it"

    def edits(self, model: AudioLM, batch: PromptBatch) -> tuple[Edit]:  # noqa: ARG002 - the same for all
        """Itself: the same change for every model and every prompt."""
        return (self,)

    def of_rows(self, rows: Sequence[int]) -> Edit:
        """The same for some prompts of a batch."""
        return replace(self, point=self.point.of_rows(rows))


@runtime_checkable
class Intervention(Protocol):
    """A frozen value that says what to change, and where."""

    def edits(self, model: AudioLM, batch: PromptBatch) -> Iterable[Edit | ScoreEdit]:
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


def _is_intervention(value: object) -> bool:
    """As `isinstance(value, Intervention)`, which takes ten times as long."""
    return callable(getattr(value, "edits", None))


def edits_of(
    model: AudioLM, batch: PromptBatch, interventions: Iterable[Intervention]
) -> list[tuple[Edit | ScoreEdit, int, Intervention]]:
    """Every change that the interventions make, in their order, and the number of the one that makes it, and that one.

    Raises:
        TypeError: Something else than interventions.
        ValueError: A change of what is measured only.
    """
    if _is_intervention(interventions):
        raise TypeError(f"interventions= takes a list, got {interventions!r}; write [...] around it")
    edits = []
    for number, intervention in enumerate(interventions):
        if not _is_intervention(intervention):
            raise TypeError(f"interventions= takes values such as ma.Edit(hook_point, function), got {intervention!r}")
        edits += [(edit, number, intervention) for edit in intervention.edits(model, batch)]
    for edit, _, _ in edits:
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


def sites_to_change(model: AudioLM, point: HookPoint) -> list[Site]:
    """Every site that a hook point names.

    Raises:
        ValueError: A layer that is named twice.
    """
    sites = model.site_map.find(point)
    if len({site.location for site in sites}) < len(sites):
        raise ValueError(f"layers={list(point.layers)} names a layer twice, and would change it twice")
    return sites


def register(
    model: AudioLM,
    batch: PromptBatch,
    points: Sequence[HookPoint],
    interventions: Iterable[Intervention],
    cache_now: Callable[[], Cache],
    *,
    stop_after_last: bool = False,
) -> list[tuple[Intervention, list[Effect]]]:
    """Have the exchange apply these interventions, in the order given, and keep these hook points after all of them.

    Args:
        model: The opened model.
        batch: The prompts.
        points: What to keep.
        interventions: What to change.
        cache_now: Gives the cache to keep it in, at the time it is kept.
        stop_after_last: End the forward pass once everything is kept.

    Returns:
        The interventions on attention, each with what it did: the lists fill as the model runs.

    Raises:
        ValueError: A mass on a stretch that no clip has, or a hook point of the tower in prompts without sound.
    """
    exchange = model.exchange
    changes = edits_of(model, batch, interventions)
    kept = sites_of(model, points)
    _refuse_unheard(model, batch, [*points, *(edit.point for edit, _, _ in changes)])
    effects = {number: (one, []) for edit, number, one in changes if isinstance(edit, ScoreEdit)}
    wanted: list[tuple[Site, AskedRows | None]] = []
    appliers: list[Callable[[RowPlan], None]] = []
    by_rows: set[str] = set()  # attention modules some of whose scores or patterns are edited explicitly
    for edit, number, _ in changes:
        sites = sites_to_change(model, edit.point)
        bound = None if isinstance(edit, Edit) else BoundScoreEdit.of(edit, batch, model.n_heads)
        for site in sites:
            base = site.location.rpartition(".")[0]
            if bound is not None and edit.formula.is_noop:
                continue
            if bound is None:
                if edit.point.point in MADE_POINTS:
                    by_rows.add(base)
                    wanted.append((site, _rows(batch, edit.point, fill=edit.by_position)))
                appliers.append(partial(_apply_edit, model, edit, site))
                continue
            did = effects[number][1]
            if edit.fuses and base not in by_rows:
                exchange.score_edits.setdefault(base, []).append((bound, _reporter(did, bound, site)))
            else:
                by_rows.add(base)
                wanted.append((site, bound.rows))
                appliers.append(partial(_apply_score_edit, model, bound, site, did))
    wanted += [(site, _rows(batch, point)) for point, site in kept if point.point in MADE_POINTS]
    plan = RowPlan(exchange, batch, wanted)
    for apply in appliers:
        apply(plan)
    parts = [plan.kept(point, site) for point, site in kept]
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
            for span, any_key in zip(point.keys, groups.flatten(0, 1).any(0).tolist(), strict=True):
                if "[" in span and not any_key:
                    raise ValueError(
                        f"keys={span!r} of 'mass' is no part of any clip of these prompts: there is no key"
                    )
            exchange.groups[site.location.rsplit(".", 1)[0]] = groups
        exchange.keeps.setdefault(part.site.location, []).append(keeper(part))
    return list(effects.values())


def refuse_unkept(model: AudioLM, points: Sequence[HookPoint], kept: Cache) -> None:
    """Refuse a pass of prompts that did not compute some of what was to be kept of it.

    Raises:
        ValueError: A position that it leaves out; the message says how to have it computed.
    """
    for point, site in sites_of(model, points):
        if (site.name, site.layer) not in kept:
            raise ValueError(
                f"{site.address} is computed at the last position of a prompt alone in this pass, and {point!r} is to "
                "be kept of others: ma.run(model, batch, record=[...], logits='all') computes them all; a generation, "
                "and logits='last', keep it at \"last\""
            )


def _refuse_unheard(model: AudioLM, batch: PromptBatch, points: Iterable[HookPoint]) -> None:
    """Refuse hook points of the sound on its way in prompts without any, where they are never computed."""
    silent = batch.inputs.get(model.adapter.features) is None
    if silent and (point := next((point for point in points if point.part == "encoder"), None)) is not None:
        raise ValueError(
            f"these prompts hold no sound (condition={batch.condition!r}), so that {point.name!r} is never computed: "
            "give them sound, or leave this hook point out"
        )


def _rows(batch: PromptBatch, point: HookPoint, *, fill: bool = False) -> AskedRows | None:
    chosen = point.positions if point.queries is None else point.queries
    return None if chosen is None else row_positions(batch, chosen, fill=fill).tolist()


def _apply_edit(model: AudioLM, edit: Edit, site: Site, plan: RowPlan) -> None:
    part = plan.part(edit.point, site, fill=edit.by_position)
    model.exchange.edits.setdefault(part.site.location, []).append(_editor(model, edit, part))


def _apply_score_edit(model: AudioLM, bound: BoundScoreEdit, site: Site, did: list[Effect], plan: RowPlan) -> None:
    exchange = model.exchange
    served, rows = plan.served(site)
    active, newest = bound.active(rows, plan.batch.n_positions), bound.newest(plan.batch.n_positions)
    way: Way = "whole" if rows is None else "rows"

    def apply(scores: Tensor) -> Tensor:
        if exchange.step > 0:
            return bound.apply(scores, newest & bound.edit.every_step, exchange.step)
        # Layers that share keys and values compute no other position of a prompt that a generation begins with.
        here = active if scores.shape[2] == active.shape[1] else newest
        edited = bound.apply(scores, here, exchange.step)
        own = slice(-1, None) if bound.rows is None else slice(None)
        did.append(Effect.measure(site.layer, way, scores[:, :, own], edited[:, :, own], bound.chosen, here[:, own]))
        return edited

    exchange.edits.setdefault(served.location, []).append(apply)


def _reporter(did: list[Effect], bound: BoundScoreEdit, site: Site) -> Callable[[Way, Tensor, Tensor], None]:
    def report(way: Way, before: Tensor, after: Tensor) -> None:
        did.append(Effect.measure(site.layer, way, before, after, bound.chosen, torch.ones_like(bound.chosen[:, :1])))

    return report


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
        return site.swap(served, part.put(whole, changed.to(current), exchange.step))

    return apply
