"""Paths from one component to another over the residual stream, and what patches one; `path_patching` says how.

Conventions: positions are those of the sender; what is kept on the way is what the base run gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from mechaudio.analyses.patching.components import RECEIVERS, SENDERS, Component, Given, kv_head
from mechaudio.analyses.patching.components import receiver as checked_receiver
from mechaudio.analyses.patching.components import sender as checked_sender
from mechaudio.arguments import checks_arguments
from mechaudio.interventions.patch import Patch
from mechaudio.interventions.selecting import check_choice
from mechaudio.models.batch import PromptBatch
from mechaudio.models.positions import Where, select
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint, order_of
from mechaudio.tracing.run import run
from mechaudio.tracing.run_result import Run
from mechaudio.tracing.sites import NoSuchHookPoint


@checks_arguments
def path_patches(
    model: AudioLM,
    base: PromptBatch,
    *,
    source: PromptBatch,
    receiver: Given,
    sender: Given,
    at: Where | None = None,
    mlps: Literal["frozen", "recomputed"] = "frozen",
) -> list[Patch]:
    """The interventions on the base prompts that patch one path: for `ma.answer`, `ma.run` or `ma.generate`.

    Args:
        model: The opened model.
        base: The prompts to be run.
        source: The prompts that the sender's value is from, with as many positions.
        receiver: Who reads.
        sender: Who writes, as in `path_patching`.
        at: Positions of the sender, `None` for all.
        mlps: `frozen` or `recomputed`.

    Returns:
        Of a path to the logits, the sender's value and those that keep everything behind it; of any other, the changed
        receiver.

    Raises:
        ValueError: A sender that does not come before the receiver, and as `path_patching`.
    """
    check_choice("mlps", mlps, ("frozen", "recomputed"))
    to = checked_receiver(model, receiver)
    _, (one,) = senders_before(model, [sender], to)
    assert one is not None
    check_span(base, at, to)
    return Paths.between(model, base, source, [one], to, mlps).interventions(one, at)


@dataclass(frozen=True, eq=False)
class Paths:
    """The base run and the source run, with what was recorded of them to patch paths to a receiver."""

    model: AudioLM
    base: PromptBatch
    receiver: Component
    mlps: str
    runs: tuple[Run, Run]

    @classmethod
    def between(
        cls,
        model: AudioLM,
        base: PromptBatch,
        source: PromptBatch,
        senders: Sequence[Component],
        receiver: Component,
        mlps: str,
    ) -> Paths:
        """Run both sides, and record what senders give and what has to be kept."""
        keeps = {key for sender in senders for key in _between(model, sender, receiver, mlps)}
        gives = {(SENDERS[sender.part], sender.layer) for sender in senders}
        siblings = {("z", receiver.layer)} if receiver.part in ("k", "v", "head") else set()
        return cls(
            model,
            base,
            receiver,
            mlps,
            (
                run(model, base, record=_points(keeps | siblings), logits="last"),
                run(model, source, record=_points(gives), logits="last"),
            ),
        )

    def interventions(self, sender: Component, at: Where | None) -> list[Patch]:
        """The change of the receiver in the base run."""
        kept, given = (one.cache for one in self.runs)
        end = "words" if self.base.n_forced else "last"  # up to where logits are read
        at = end if self.receiver.part == "logits" else at
        point = SENDERS[sender.part]
        heads = None if sender.head is None else [sender.head]
        carried = [Patch(point, given[point, sender.layer], sender.layer, heads=heads, positions=at)]
        rest = end if self.receiver.part == "logits" else None
        between = _between(self.model, sender, self.receiver, self.mlps)
        carried += [Patch(name, kept[name, layer], layer, positions=rest) for name, layer in between]
        if self.receiver.part == "logits":
            return carried
        record = [HookPoint(name, [self.receiver.layer]) for name in RECEIVERS[self.receiver.part]]
        read = run(self.model, self.base, record=record, interventions=carried, logits=None).cache
        return self._received(read, kept, at)

    def _received(self, read: Cache, kept: Cache, at: Where | None) -> list[Patch]:
        """Put the receiver's output for its changed input in its place; other heads go on as they were."""
        layer, head = self.receiver.layer, self.receiver.head
        if head is None:
            return [Patch("mlp_out", read["mlp_out", layer], layer, positions=at)]
        patches, shared = [], ()
        for name in RECEIVERS[self.receiver.part]:
            vectors = read[name, layer]
            own, others = (head, ()) if name == "q" else kv_head(self.model, head, vectors.shape[2])
            patches.append(Patch(name, vectors, layer, heads=[own], positions=at))
            shared = shared or others
        if shared:  # they read the same keys and values
            patches.append(Patch("z", kept["z", layer], layer, heads=shared))
        return patches


def _points(keys: Iterable[tuple[str, int | None]]) -> list[HookPoint]:
    """Hook points of names and layers."""
    return [HookPoint(name, None if layer is None else [layer]) for name, layer in sorted(keys, key=str)]


def _between(model: AudioLM, sender: Component, receiver: Component, mlps: str) -> list[tuple[str, int]]:
    """List the additions of attention and MLPs behind a sender and before a receiver, in the order of computation.

    Raises:
        NoSuchHookPoint: A layer between them in which neither can be kept.
    """
    after = order_of("attn_out" if sender.part == "head" else SENDERS[sender.part], sender.layer)
    before = order_of(RECEIVERS[receiver.part][0], receiver.layer)
    kept = []
    for layer, sites in enumerate(model.site_map.layers["decoder"]):
        if not ("attn_out" in sites or "mlp_out" in sites) and after < order_of("attn_out", layer) < before:
            raise NoSuchHookPoint(
                f"layer {layer} lies between sender and receiver and has neither attn_out nor mlp_out, so what it adds "
                f"cannot be kept at the base run's: {sites.absent['mlp_out']}"
            )
        for point in ("attn_out",) if mlps == "recomputed" else ("attn_out", "mlp_out"):
            if point in sites and after < order_of(point, layer) < before:
                kept.append((point, layer))
    return kept


def senders_before(
    model: AudioLM, given: Given | list[Given], receiver: Component
) -> tuple[dict[str, tuple[Any, ...]], list[Component | None]]:
    """The axes of a map and its senders, in their order; `None` for a head in a layer without attention.

    Raises:
        ValueError: None that comes before the receiver.
    """
    kinds = {"heads": "head", "attention": "attention", "mlp": "mlp"}
    if isinstance(given, str) and given in kinds:
        kind = kinds[given]
        layers = [layer for layer in range(model.n_layers) if _reaches(Component(kind, layer), receiver)]
        having = [layer for layer in layers if SENDERS[kind] in model.site_map.layers["decoder"][layer]]
        if not having:
            raise ValueError(f"no {kind} comes before {receiver}: it reads what comes in, so choose a later receiver")
        heads: Sequence[int | None] = range(model.n_heads) if kind == "head" else [None]
        axes = {"layer": tuple(layers)} | ({"head": tuple(heads)} if kind == "head" else {})
        return axes, [
            Component(kind, layer, head) if layer in having else None for layer, head in product(layers, heads)
        ]
    senders = [checked_sender(model, one) for one in (given if isinstance(given, list) else [given])]
    if not senders:
        raise ValueError("sender= is an empty list: name at least one component")
    if len(set(senders)) < len(senders):
        raise ValueError(f"sender= names a component twice: {', '.join(map(str, senders))}")
    for one in senders:
        if not _reaches(one, receiver):
            raise ValueError(f"{one} does not come before {receiver}, so nothing goes from one to the other")
    return {"sender": tuple(str(one) for one in senders)}, list(senders)


def _reaches(sender: Component, receiver: Component) -> bool:
    """Return whether the receiver is computed from a residual stream that the sender has written to."""
    written, read = order_of(SENDERS[sender.part], sender.layer), order_of(RECEIVERS[receiver.part][0], receiver.layer)
    return written < read and (sender.layer is None or sender.layer != receiver.layer or receiver.part == "mlp")


def check_span(batch: PromptBatch, at: Where | None, receiver: Component) -> None:
    """Refuse positions that are not there, or from which nothing gets to the receiver."""
    if at is None:
        return
    for row, positions in enumerate(select(batch, at)):
        if not positions:
            raise ValueError(f"at={at!r} names no position of prompt {row}: choose positions that every prompt has")
        if receiver.part == "logits" and batch.n_positions - 1 not in positions:
            raise ValueError(
                f"at={at!r} leaves out the last position, where the logits are read: nothing else writes to them "
                "directly. Choose a head of a later layer as the receiver to follow other positions"
            )
