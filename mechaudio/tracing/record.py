"""Turning what a caller wants kept or changed into requests to the exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechaudio.models.prompt import PromptBatch
from mechaudio.tracing.bind import Change, bind
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.edit import Edit, Intervention
from mechaudio.tracing.effects import Effect
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.hook_points import MADE_POINTS, HookPoint
from mechaudio.tracing.mass import KeyGroups
from mechaudio.tracing.parts import AskedRows, Part, RowPlan
from mechaudio.tracing.rows import row_positions
from mechaudio.tracing.score_edit import BoundScoreEdit, Way
from mechaudio.tracing.sites import HookPointError, Site

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

__all__ = ["Edit", "Intervention", "hook_points", "install", "refuse_unkept", "register", "sites_of"]

_ADVICE = ". (Rows whose padding would leak run apart, fewer at a time than the batch has.)"
#: A hook point to keep, its site, and per prompt the positions of it that are kept, `None` for all.
Kept = tuple[HookPoint, Site, AskedRows | None]


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


def sites_of(model: AudioLM, points: Sequence[HookPoint]) -> list[tuple[HookPoint, Site]]:
    """Every site that the hook points name, each once.

    Raises:
        ValueError: The same hook point twice in one layer, which a cache could not tell apart.
    """
    sites = [(point, site) for point in points for site in model.site_map.find(point)]
    seen: set[str] = set()
    for point, site in sites:
        if site.location in seen:
            raise ValueError(
                f"{site.address} is recorded twice ({point}); a cache keeps a hook point once per run: use two runs"
            )
        seen.add(site.location)
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
        HookPointError: While the model runs: a hook point is computed more than once in a pass.
    """
    changes = bind(model, batch, interventions)
    kept = [
        (point, site, None if point.chosen is None else row_positions(batch, point.chosen).tolist())
        for point, site in sites_of(model, points)
    ]
    plan, effects = install(model, batch, changes, kept)
    groups: dict[Sequence[str], KeyGroups] = {}
    keeper = _Keeper(model, cache_now, [plan.kept(site, positions) for _, site, positions in kept], stop_after_last)
    for (point, site, _), part in zip(kept, keeper.parts, strict=True):
        if site.in_chunks and part.rows is not None:
            raise ValueError(f"{site.address} is heard chunk after chunk: record it whole, without positions=")
        if point.point == "mass":
            keys = tuple(point.keys)
            if keys not in groups:
                groups[keys] = _groups(batch, keys)
            model.exchange.measure_mass(site.module, groups[keys])
        model.exchange.watch(part.site.location, partial(keeper.keep, part))
    return effects


def _groups(batch: PromptBatch, keys: Sequence[str]) -> KeyGroups:
    marks = torch.stack([batch.span_mask(span) for span in keys], dim=-1)
    for span, any_key in zip(keys, marks.flatten(0, 1).any(0).tolist(), strict=True):
        if "[" in span and not any_key:
            raise ValueError(f"keys={span!r} of 'mass' is no part of any clip of these prompts: there is no key")
    return KeyGroups(marks)


def install(
    model: AudioLM, batch: PromptBatch, changes: Sequence[Change], kept: Sequence[Kept] = ()
) -> tuple[RowPlan, list[tuple[Intervention, list[Effect]]]]:
    """Have the exchange make changes that were bound to these prompts.

    An edit of scores that fused attention can carry out is left to it, unless an earlier change of this attention
    module needs its scores or patterns.

    Args:
        model: The opened model.
        batch: The prompts.
        changes: The changes.
        kept: What will be kept: it decides which rows of attention are served.

    Returns:
        The rows that are served, and the interventions on attention, each with what it did.

    Raises:
        ValueError: A hook point of the tower in prompts without sound.
    """
    _refuse_unheard(model, batch, [*(point for point, _, _ in kept), *(change.edit.point for change in changes)])
    exchange, by_rows, explicit = model.exchange, set[str](), list[Change]()
    effects: dict[int, tuple[Intervention, list[Effect]]] = {
        change.number: (change.intervention, []) for change in changes if change.scores is not None
    }
    for change in changes:
        if change.idle:
            continue
        module = change.site.module
        if change.scores is not None and change.scores.edit.fuses and module not in by_rows:
            report = partial(_report, change.site.layer, change.scores.chosen, effects[change.number][1])
            exchange.edit_scores(module, change.scores, report)
            continue
        explicit.append(change)
        if change.edit.point.point in MADE_POINTS:
            by_rows.add(module)
    made = [(change.site, change.positions) for change in explicit if change.edit.point.point in MADE_POINTS]
    made += [(site, positions) for point, site, positions in kept if point.point in MADE_POINTS]
    plan = RowPlan(exchange, batch, made)
    for change in explicit:
        if change.scores is None:
            part = plan.part(change.site, change.positions)
            exchange.change(part.site.location, partial(_edit, exchange, change, part))
        else:
            _install_score_edit(model, change.site, change.scores, plan, effects[change.number][1])
    return plan, list(effects.values())


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


def _install_score_edit(model: AudioLM, site: Site, bound: BoundScoreEdit, plan: RowPlan, did: list[Effect]) -> None:
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
        measured = slice(-1, None) if bound.rows is None else slice(None)
        before, after = scores[:, :, measured], edited[:, :, measured]
        did.append(Effect.measure(site.layer, way, before, after, bound.chosen, here[:, measured]))
        return edited

    exchange.change(served.location, apply)


def _report(layer: int, chosen: Tensor, did: list[Effect], way: Way, before: Tensor, after: Tensor) -> None:
    did.append(Effect.measure(layer, way, before, after, chosen, torch.ones_like(chosen[:, :1])))


def _edit(exchange: Exchange, change: Change, part: Part, served: Any) -> Any:
    if exchange.step > 0 and not change.edit.every_step:
        return served
    whole = part.site.take(served)
    current = part.take(whole, exchange.step)
    if current is None:
        return served
    return part.site.swap(served, part.put(whole, change.on(current, _ADVICE), exchange.step))


class _Keeper:
    """Keeps parts of what is served, and ends the forward pass once all of them are kept, if that is wanted."""

    def __init__(self, model: AudioLM, cache_now: Callable[[], Cache], parts: Sequence[Part], stop_after_last: bool):
        self.exchange, self.cache_now, self.parts = model.exchange, cache_now, parts
        self.missing, self.stop_after_last = {part.site.location for part in parts}, stop_after_last

    def keep(self, part: Part, served: Any) -> None:
        """Keep one part of what is served."""
        value = part.take(part.site.take(served).detach(), self.exchange.step)
        if value is None:
            return
        cache, site = self.cache_now(), part.site
        if not site.in_chunks and (site.name, site.layer) in cache:
            raise HookPointError(
                f"{site.address} is computed more than once in a pass of these inputs, as by a tower that hears a "
                "long clip in parts, and one of them would be lost: record it of shorter clips"
            )
        store = cache.extend if site.in_chunks else cache.keep
        store(site.name, site.layer, value.clone() if part.rows is None else value)
        if site.in_chunks:
            return
        self.missing.discard(site.location)
        if self.stop_after_last and not self.missing:
            self.exchange.stop()
