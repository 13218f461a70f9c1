"""Path patching: what one component does to the answer through what another one reads of it, and by no other way.

Wang et al. 2022, *Interpretability in the Wild* (arXiv 2211.00593); Goldowsky-Dill et al. 2023, *Localizing Model
Behavior with Path Patching* (arXiv 2304.05969). In the run of one prompt, the base,

1. the sender is given the value that it has in the run of the other prompt, the source;
2. all attention and MLPs between sender and receiver are kept at what they give in the base run, so that the change
   gets to the receiver by the residual stream alone;
3. what the receiver makes of that (its queries, keys or values, its MLP's output, or the logits) is computed as the
   network computes it and kept;
4. the base run is repeated with this one change in the receiver, and all that follows the receiver is computed anew.

Nothing is linearised. The norm in front of the receiver is computed anew from the changed stream, and so are norms
behind attention and MLPs and the multipliers that some classes have, because `attn_out` and `mlp_out` are kept where
the layers give them. What a class adds beside attention and MLP (Gemma's inputs per layer, its several streams) is
computed anew too, and counts as part of the residual stream's path.

Conventions: noising has the clean run for its base and denoising the corrupted one; positions are those of the sender,
and as nothing between moves information from position to position, the receiver's too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mechaudio.analyses.patching.activation_patching import PatchingMap
from mechaudio.analyses.patching.components import RECEIVERS, SENDERS, Component, Given, kv_head
from mechaudio.analyses.patching.components import receiver as checked_receiver
from mechaudio.analyses.patching.components import sender as checked_sender
from mechaudio.analyses.patching.effect_map import DIRECTIONS
from mechaudio.analyses.patching.joined import PatchedPairs, joined
from mechaudio.analyses.patching.pairs import contrasts, turned
from mechaudio.analyses.patching.patched_places import choice_logits
from mechaudio.analyses.patching.scale import METRICS
from mechaudio.interventions.patch import Patch
from mechaudio.interventions.selecting import check_choice
from mechaudio.interventions.sweep import sweep
from mechaudio.models.batch import PromptBatch
from mechaudio.models.selection import Where, select
from mechaudio.question import AudioQuestion
from mechaudio.results import Provenance
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint, order_of
from mechaudio.tracing.run import Run, run
from mechaudio.tracing.sites import NoSuchHookPoint

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM


def path_patching(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    corrupted: PromptBatch | Iterable[AudioQuestion] | str = "silence",
    *,
    receiver: Given,
    sender: Given | list[Given] = "heads",
    at: Where | Sequence[str] | None = None,
    direction: Literal["noising", "denoising"] = "noising",
    metric: str = "logit_difference",
    mlps: Literal["frozen", "recomputed"] = "frozen",
    batch_size: int = 16,
    progress: bool = False,
) -> PatchingMap:
    """Measure the effect that goes from a sender to a receiver over the residual stream, and on from there.

    ```python
    heads = ma.analyses.path_patching(model, questions, receiver=("mlp", 3))                    # [layer, head]
    seconds = ma.analyses.path_patching(
        model, questions, sender="embed", receiver=("v", 1, 2), at=[f"audio[{s}:{s + 1}]" for s in range(4)]
    )                                                                                           # [span]
    ```

    To the logits, all paths are one sweep. To any other receiver, each sender takes a forward pass up to the receiver,
    and what follows it is one sweep for all of them.

    Args:
        model: The opened model.
        clean: Questions with known answers, or prompts, as `contrast` takes them.
        corrupted: The other side of the pairs, or `silence`.
        receiver: Who reads: `("q", layer, head)`, `("k", ...)`, `("v", ...)`, `("head", layer, head)` for all three,
            `("mlp", layer)`, or `"logits"`.
        sender: Who writes: `("head", layer, head)`, `("attention", layer)`, `("mlp", layer)` or `"embed"`, what enters
            the first layer; a list of these; or all that come before the receiver: `"heads"`, `"attention"`, `"mlp"`.
        at: Positions of the sender: spans (`"last"`, `"audio[1.0:2.0]"`) or numbers, `None` for all; a list of spans
            measures one after the other. The logits are read at the last position, so nothing else gets there directly.
        direction: `noising` puts the sender's corrupted value into the clean run; `denoising` the other way round.
        metric: As in `scale.METRICS`.
        mlps: `frozen` keeps the MLPs between sender and receiver; `recomputed` lets them answer to the change, as Wang
            et al. do: then a path is everything that goes through no other attention.
        batch_size: Pairs at a time.
        progress: Draw a progress bar on stderr.

    Returns:
        The effect of every sender (axes `layer` and `head`, `layer`, or `sender`), at each of several spans (`span`):
        in a noising map 1 where nothing came over the path and 0 where all that tells the prompts apart did.

    Raises:
        ValueError: As `contrast` does; no such component; a sender that does not come before the receiver; positions
            from which nothing gets to the receiver.
        IndexError: A layer or head that the network does not have.
        KeyError: A span that the prompts do not have.
        NoSuchHookPoint: A component that the class does not have, or a layer on the way that cannot be frozen.
    """
    check_choice("direction", direction, DIRECTIONS)
    check_choice("mlps", mlps, ("frozen", "recomputed"))
    check_choice("metric", metric, METRICS)
    to = checked_receiver(model, receiver)
    axes, senders = _senders(model, sender, to)
    several = isinstance(at, (list, tuple)) and bool(at) and isinstance(at[0], str)
    spans = list(at) if several else [at]
    if several:
        axes = {**({} if axes == {"sender": (str(senders[0]),)} else axes), "span": tuple(spans)}
    there = [index for index, one in enumerate(senders) if one is not None]
    known = [senders[index] for index in there]
    parts = []
    for pair in contrasts(model, clean, corrupted, batch_size=batch_size, what="path patching", progress=progress):
        for span in spans:
            _check_span(pair.clean, span, to)
        source, base = pair.sides(direction)
        paths = _Paths.between(model, base, source, known, to, mlps)
        variants = [paths.interventions(one, span) for one, span in product(known, spans)]
        swept = sweep(model, base, variants, progress=False)
        found = swept.logits.double().numpy()
        logits = np.full((len(senders), len(spans), *found.shape[1:]), np.nan)
        logits[there] = found.reshape(len(known), len(spans), *found.shape[1:])
        ours, theirs = (choice_logits(one.batch, one.logits[:, -1]) for one in paths.runs)
        clean, corrupted = turned(direction, theirs, ours)
        parts.append(PatchedPairs(logits, clean, corrupted, pair.right, pair.wrong(corrupted), pair.ids, swept.ways))
    return PatchingMap(
        **joined(parts, metric, axes),
        direction=direction,
        hook_point=f"{sender if isinstance(sender, str) else 'paths'} to {to}",
        provenance=Provenance.collect(
            model,
            settings={
                "sender": [str(one) for one in known],
                "receiver": str(to),
                "at": [str(span) for span in spans],
                "mlps": mlps,
            },
        ),
    )


def path_patches(
    model: AudioLM,
    base: PromptBatch,
    source: PromptBatch,
    *,
    sender: Given,
    receiver: Given,
    at: Where | None = None,
    mlps: Literal["frozen", "recomputed"] = "frozen",
) -> list[Patch]:
    """The interventions on the base prompts that patch one path: for `ma.answer`, `ma.run` or `ma.generate`.

    Args:
        model: The opened model.
        base: The prompts to be run.
        source: The prompts that the sender's value is from, with as many positions.
        sender: Who writes, as in `path_patching`.
        receiver: Who reads.
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
    _, (one,) = _senders(model, [sender], to)
    assert one is not None
    _check_span(base, at, to)
    return _Paths.between(model, base, source, [one], to, mlps).interventions(one, at)


@dataclass(frozen=True, eq=False)
class _Paths:
    """All that is needed of two runs to patch paths from one into the other.

    Attributes:
        model: The opened model.
        base: The prompts to be run.
        receiver: Who reads.
        mlps: Whether MLPs on the way are kept.
        runs: The base run and the source run, with what was recorded of them.
    """

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
    ) -> _Paths:
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
        at = "last" if self.receiver.part == "logits" else at
        point = SENDERS[sender.part]
        heads = None if sender.head is None else [sender.head]
        carried = [Patch(point, given[point, sender.layer], sender.layer, heads=heads, positions=at)]
        rest = "last" if self.receiver.part == "logits" else None
        between = _between(self.model, sender, self.receiver, self.mlps)
        carried += [Patch(name, kept[name, layer], layer, positions=rest) for name, layer in between]
        if self.receiver.part == "logits":
            return carried
        record = [HookPoint(name, [self.receiver.layer]) for name in RECEIVERS[self.receiver.part]]
        read = run(self.model, self.base, record=record, interventions=carried, logits=None).cache
        return self._received(read, kept, at)

    def _received(self, read: Cache, kept: Cache, at: Where | None) -> list[Patch]:
        """What the receiver makes of what it reads, in its place; other heads go on as they were."""
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


def _place(point: str, component: Component) -> tuple[int, int, int]:
    return order_of(point, component.layer)


def _between(model: AudioLM, sender: Component, receiver: Component, mlps: str) -> list[tuple[str, int]]:
    """What attention and MLPs add behind a sender and before a receiver, in the order of computation.

    Raises:
        NoSuchHookPoint: A layer between them in which neither can be kept.
    """
    after = _place("attn_out" if sender.part == "head" else SENDERS[sender.part], sender)
    before = _place(RECEIVERS[receiver.part][0], receiver)
    return list(_kept(model, after, before, mlps))


def _kept(
    model: AudioLM, after: tuple[int, int, int], before: tuple[int, int, int], mlps: str
) -> Iterator[tuple[str, int]]:
    for layer, sites in enumerate(model.site_map.layers["decoder"]):
        if not ("attn_out" in sites or "mlp_out" in sites) and after < order_of("attn_out", layer) < before:
            raise NoSuchHookPoint(
                f"layer {layer} lies between sender and receiver and has neither attn_out nor mlp_out, so what it adds "
                f"cannot be kept at the base run's: {sites.absent['mlp_out']}"
            )
        for point in ("attn_out",) if mlps == "recomputed" else ("attn_out", "mlp_out"):
            if point in sites and after < order_of(point, layer) < before:
                yield point, layer


def _senders(
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
    found = [checked_sender(model, one) for one in (given if isinstance(given, list) else [given])]
    if not found:
        raise ValueError("sender= is an empty list: name at least one component")
    if len(set(found)) < len(found):
        raise ValueError(f"sender= names a component twice: {', '.join(map(str, found))}")
    for one in found:
        if not _reaches(one, receiver):
            raise ValueError(f"{one} does not come before {receiver}, so nothing goes from one to the other")
    return {"sender": tuple(str(one) for one in found)}, list(found)


def _reaches(sender: Component, receiver: Component) -> bool:
    """Whether the receiver is computed from a residual stream that the sender has written to."""
    return _place(SENDERS[sender.part], sender) < _place(RECEIVERS[receiver.part][0], receiver) and (
        sender.layer is None or sender.layer != receiver.layer or receiver.part == "mlp"
    )


def _check_span(batch: PromptBatch, at: Where | None, receiver: Component) -> None:
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
