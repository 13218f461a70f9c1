"""One pass of some prompts, and of many variants of them from their first change on: what they share is computed once.

The prompts run once, and the positions of the first variants run along behind theirs: from its first layer on, a
variant is a few more positions in every product of matrices, and below that layer it is the clean run. If not all
variants fit into memory at once, the keys and values of the clean run are kept, and the others go through the layers
behind it, on their own.

Variants that are made from what the clean run gives, such as steering along what this very question said, come after
it: they continue from the keys and values that a `clean_run` left behind, and the prompts do not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from mechaudio.arguments import check, checks_arguments
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups
from mechaudio.models.keywords import with_cache
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.question import AudioQuestion
from mechaudio.showing import Shown
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.bind import Change
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.decoding import greedy
from mechaudio.tracing.hook_points import LAYER_POINTS, ROW_POINTS, HookPoint
from mechaudio.tracing.record import hook_points, install, register
from mechaudio.tracing.replay import Replay
from mechaudio.tracing.run import run
from mechaudio.tracing.sites import ROOT, HookPointError
from mechaudio.tracing.unembedding import norm_of, unembed
from mechaudio.variants.attend import Shared, Stacked, attend
from mechaudio.variants.plan import Chunk, Sizes, Variant, extent

#: Where transformers' own forward hooks come from, which only note hidden states.
_NOTING = "transformers.utils.output_capturing"
#: What layers are called with, and the axis of it along which positions run.
_POSITION_AXES = {"position_embeddings": -2, "position_ids": -1, "cache_position": -1}
#: What variants on their own are called with instead, besides another cache: their masks are kept.
_ON_THEIR_OWN = {"attention_mask": None, "use_cache": False}


@dataclass(eq=False)
class Prefix:
    """The states that the clean run leaves behind for variants that go through the layers later.

    Attributes:
        n_positions: How many positions at the end of the prompts can be changed.
        keeps: Whether there are such variants; otherwise nothing is kept.
        resid: Per layer, the residual stream before it at these positions; after the last layer at the end.
        arguments: Per layer, what it was called with.
        shared: Per attention module, what variants attend to.
    """

    batch: PromptBatch
    n_positions: int
    keeps: bool
    resid: list[Float[Tensor, "batch position d_model"]] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    shared: dict[str, Shared] = field(default_factory=dict)
    _masks: dict[int, tuple[Tensor | None, Tensor]] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """The memory that keys and values take, in bytes."""
        each = (part for shared in self.shared.values() for part in (shared.keys, shared.values))
        return sum(part.untyped_storage().nbytes() for part in each)

    def last(self, hidden: Float[Tensor, "batch position d_model"]) -> Tensor:
        """Give the residual stream at these positions, and keep it."""
        n = self.batch.n_positions
        last = hidden[:, n - self.n_positions : n]
        if self.keeps:
            self.resid.append(last.clone())
        return last

    def shared_at(self, attention: str, call: Call, _query: Tensor, key: Tensor, value: Tensor) -> Shared:
        """Return the keys and values that these positions attend to in one layer, and keep them."""
        if id(call.mask) not in self._masks:  # layers of one kind have one mask
            n = self.batch.n_positions
            queries = torch.arange(n - self.n_positions, n, device=key.device).expand(self.batch.n_rows, -1)
            view = call.view(queries, n, n)
            bias = torch.zeros_like(view.hidden, dtype=key.dtype) if view.bias is None else view.bias.to(key.dtype)
            self._masks[id(call.mask)] = call.mask, bias.masked_fill(view.hidden, -torch.inf)
        if self.keeps:  # without the memory of the variants that run along
            key, value = (
                part.clone() if part.untyped_storage().nbytes() > part.nbytes else part for part in (key, value)
            )
        shared = Shared(key, value, self._masks[id(call.mask)][1].to(key.device), call.scaling)
        if self.keeps:
            self.shared[attention] = shared
        return shared


def first_pass(
    model: AudioLM,
    batch: PromptBatch,
    prepare: Callable[[], tuple[Stacked, Prefix]],
    cache: DynamicCache | None = None,
) -> Float[Tensor, "batch variant vocab"]:
    """Run prompts, with the positions of a chunk of variants behind them, and give their logits at the last position.

    `prepare` gives the chunk, and what is to keep the states of the prompts. It is called once the audio tower is under
    way, so that a GPU does not wait for it. An empty `cache` takes the keys and values, where new tokens shall follow.
    The pass is then the first one of the network's own `generate`, which counts positions and makes masks as it does.
    """
    begun = list[_Pass]()

    def begin(served: Any) -> Any:
        if not begun:
            begun.append(_Pass(model, *prepare(), cache))
        return served

    with torch.no_grad(), model.exchange.prepared(batch):
        model.exchange.on_output(model.adapter.projector, begin)
        model.exchange.on_input(model.adapter.decoder_module, begin)  # prompts without sound have no tower
        if cache is None:
            return model.interleave("__call__", **batch.inputs, use_cache=False).logits
        normed = list[Tensor]()
        model.exchange.watch(f"{ROOT}.{model.adapter.decoder.norm}.output", normed.append)
        model.interleave(model.network.generate, **batch.inputs, max_new_tokens=1, **greedy(model.network))
        return unembed(model, normed[0])


def run_behind(
    model: AudioLM, prefix: Prefix, stacked: Stacked, cache: DynamicCache | None = None
) -> Float[Tensor, "batch variant vocab"]:
    """Send the positions of variants through the layers on their own, after the clean run.

    An empty cache takes their keys and values, if they are needed later. Logits are those at the last position.
    """
    layers = model.network.get_submodule(model.adapter.decoder.layers)

    def through_the_layers() -> Float[Tensor, "batch variant vocab"]:
        hidden = prefix.resid[0][:, :0]
        for layer in range(stacked.chunk.variants[0].layer, len(layers)):
            out = layers[layer](hidden, **with_cache(prefix.arguments[layer], cache))
            hidden = out[0] if isinstance(out, tuple) else out
        return unembed(model, norm_of(model)(hidden))

    with torch.no_grad(), model.exchange.prepared(prefix.batch):
        _Pass(model, stacked, prefix)
        return model.interleave(through_the_layers)


class _Pass:
    """A chunk on its way through the layers: behind the positions of the prompts, or on its own after them."""

    def __init__(self, model: AudioLM, stacked: Stacked, prefix: Prefix, cache: DynamicCache | None = None):
        """Ask for all that has to be done in the decoder; a cache takes the place of the network's own."""
        self.stacked, self.chunk, self.behind = stacked, stacked.chunk, stacked.behind
        self.prefix, self.cache, self._counting = prefix, cache, dict[int, tuple[Tensor, Tensor]]()
        exchange, stack, n_layers = model.exchange, model.adapter.decoder, model.n_layers
        assert stack.norm is not None, "every decoder has a final norm"
        for layer in range(n_layers):
            exchange.on_input(stack.path(layer), partial(self._enter, layer))
        exchange.on_input(stack.norm, partial(self._leave, n_layers))
        if self.behind:
            read, wanted = ("mlp_post",), slice(self.behind - (prefix.n_positions if prefix.keeps else 1), None)
        else:
            n = self.chunk.n_positions
            read, wanted = ("mlp_post", "mlp_out", "resid_post"), slice(n - 1, None, n)
        if not stacked.changes_in(n_layers - 1, read):
            _end_with_positions(model, wanted)
        for location, change in stacked.edits.items():
            exchange.change(location, change)
        for layer, sites in enumerate(model.site_map.layers["decoder"]):
            attention = sites["z"].module
            if self.chunk.joined(layer):
                exchange.replace_attention(attention, partial(self._attend, layer, attention))
            elif self.behind and prefix.keeps:  # attention is the network's own
                exchange.watch_attention(attention, partial(prefix.shared_at, attention))

    def _enter(self, layer: int, served: Any) -> Any:
        """Add the variants that begin in a layer to what it receives."""
        args, kwargs = served
        hidden = self._joined(layer, args[0] if args else kwargs["hidden_states"])
        if self.behind and self.prefix.keeps:
            kept = {name: _ON_THEIR_OWN.get(name, each) for name, each in kwargs.items() if name != "hidden_states"}
            self.prefix.arguments.append(kept)
        kwargs = kwargs | self._counted(kwargs, self.behind + self.chunk.joined(layer) * self.chunk.n_positions)
        kwargs = kwargs if self.cache is None else with_cache(kwargs, self.cache)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    def _leave(self, n_layers: int, served: Any) -> Any:
        """Keep the last position of prompts and variants: the final norm and the unembedding see no others."""
        (hidden, *args), kwargs = served
        hidden, n, behind = self._joined(n_layers, hidden), self.chunk.n_positions, self.behind
        return (torch.cat([hidden[:, behind - 1 : behind], hidden[:, behind + n - 1 :: n]], dim=1), *args), kwargs

    def _joined(self, layer: int, hidden: Float[Tensor, "batch position d_model"]) -> Tensor:
        clean = (self.prefix.last(hidden) if self.behind else self.prefix.resid[layer])[:, -self.chunk.n_positions :]
        joining = [variant.entering(clean) for variant in self.chunk.joining(layer)]
        return torch.cat([hidden.to(clean.device), *joining], dim=1) if joining else hidden.to(clean.device)

    def _attend(self, layer: int, attention: str, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        n, changes, joined = self.behind, self.stacked.changes_at(attention), self.chunk.joined(layer)
        if not n:
            return attend(changes, self.prefix.shared[attention], joined, query, key, value)
        prompts, behind = zip(*(part.split([n, part.shape[2] - n], dim=2) for part in (query, key, value)), strict=True)
        shared = self.prefix.shared_at(attention, call, *prompts)
        clean = call.fused(prompts[0], shared.keys, shared.values)
        return torch.cat([clean, attend(changes, shared, joined, *behind)], dim=1)

    def _counted(self, kwargs: Mapping[str, Any], n_positions: int) -> dict[str, Any]:
        """The arguments of a layer that count positions, for so many; a tensor that is not known here is refused."""
        counting = {}
        for name, value in kwargs.items():
            if name in _POSITION_AXES and value is not None:
                cut = partial(self._cut, _POSITION_AXES[name], n_positions)
                counting[name] = tuple(map(cut, value)) if isinstance(value, tuple) else cut(value)
            elif isinstance(value, Tensor) and name not in (*_ON_THEIR_OWN, "hidden_states"):
                raise HookPointError(f"a layer takes {name!r}, of which it is not known where its positions are")
        return counting

    def _cut(self, axis: int, n_positions: int, part: Tensor) -> Tensor:
        """Extend what counts the positions of prompts to those of all variants, and take so many of these."""
        if id(part) not in self._counting:
            last = part.narrow(axis, part.shape[axis] - self.chunk.n_positions, self.chunk.n_positions)
            every = torch.cat([part] * (self.behind > 0) + [last] * len(self.chunk.variants), dim=axis)
            self._counting[id(part)] = part, every  # layers mostly share it
        return self._counting[id(part)][1].narrow(axis, 0, n_positions)


def why_not_shared(model: AudioLM) -> str | None:
    """Why variants cannot share what comes before their first change; `None` where they can.

    A hook of the user's would meet positions that are not there when a variant runs alone.
    """
    adapter = model.adapter
    if adapter.no_shared_prefix is not None:
        return f"{adapter.network_class}: {adapter.no_shared_prefix}"
    decoder = f"{adapter.decoder_module}."
    for name, module in model.network.named_modules():
        concerned = decoder.startswith(f"{name}.") or name.startswith((decoder, adapter.unembed)) or not name
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        if concerned and any(getattr(hook, "__module__", None) != _NOTING for hook in hooks):
            return f"{name or adapter.network_class} has a forward hook that is not ours"
    return None


def _end_with_positions(model: AudioLM, wanted: slice) -> None:
    """Compute the MLP of the last layer for some positions only: nobody asks for the others."""
    stack = model.adapter.decoder
    inside, shape = f"{stack.path(model.n_layers - 1)}.{stack.mlp}", []

    def cut(served: Any) -> Any:
        args, kwargs = served
        shape[:] = args[0].shape
        return (args[0][:, wanted].contiguous(), *args[1:]), kwargs

    def fill(served: Any) -> Any:
        some = served[0] if isinstance(served, tuple) else served
        whole = some.new_zeros(*shape[:2], some.shape[2])
        whole[:, wanted] = some
        return (whole, *served[1:]) if isinstance(served, tuple) else whole

    model.exchange.on_input(inside, cut)
    model.exchange.on_output(inside, fill)


class TowerReplay(Replay):
    """The run of some prompts as far as the decoder, and as some variants change it.

    A variant starts at its first change, and its run ends where the decoder begins. A patch of the tower's last layer
    costs no layer of the tower, and one of `projector_out` or `embed` none of it at all.

    Attributes:
        clean: The residual stream in front of the decoder's first layer.
    """

    def __init__(self, model: AudioLM, batch: PromptBatch, variants: Sequence[Variant]):
        """Run the prompts, and keep what these variants need."""
        super().__init__(model)
        self.batch, self._sizes = batch, Sizes.of(model, batch)
        with torch.no_grad(), model.exchange.prepared(batch):
            self.record()
            self.clean = self._as_far_as_decoder()
        early = ([change.site for change in variant.early] for variant in variants)
        self.forget_all_but({path for sites in early for path in self.untouched(sites)})

    def embeds(self, changes: Sequence[Change]) -> Float[Tensor, "batch position d_model"]:
        """The residual stream in front of the decoder's first layer, with these changes before it."""
        with torch.no_grad(), self.model.exchange.prepared(self.batch):
            self.give(self.untouched([change.site for change in changes]))
            install(self.model, self.batch, changes)
            return self._as_far_as_decoder()

    def followed(self, variant: Variant, n_kept: int) -> Variant:
        """A variant as it changes the decoder, whose last `n_kept` positions can be changed."""
        embeds = self.embeds(variant.early)
        changed = (embeds != self.clean).any(-1).any(0).nonzero().flatten().tolist()
        start, layer = extent(variant.changes, self._sizes)
        if changed:
            variant = replace(variant, embeds=embeds[:, changed[0] :].clone())
            start, layer = min(start, changed[0]), 0
        why = None
        if start == layer == 0:
            why = "it changes the first position, and begins before the layers, so nothing is left of the clean run"
        elif start < self._sizes.n_positions - n_kept:
            why = "it changes positions in front of those that it edits"
        return replace(variant, start=start, layer=layer, why=why)

    def _as_far_as_decoder(self) -> Float[Tensor, "batch position d_model"]:
        cache = Cache(self.model.site_map.depth)
        first = HookPoint("resid_pre", layers=[0])
        register(self.model, self.batch, [first], (), lambda: cache, stop_after_last=True)
        self.model.interleave("__call__", **self.batch.inputs, use_cache=False)
        return cache["resid_pre", 0]


@dataclass(frozen=True, eq=False)
class CleanRun(Shown):
    """A run without interventions, and what it left behind.

    Attributes:
        model: The model.
        batch: The prompts.
        logits: Next-token logits at the last position.
        cache: The hook points that were recorded.
        prefix: Keys and values, and the residual stream at the last position; None where they cannot be shared.
        why: Why not; None where they can.
    """

    model: AudioLM
    batch: PromptBatch
    logits: Float[Tensor, "batch vocab"]
    cache: Cache
    prefix: Prefix | None
    why: str | None = None

    @property
    def n_bytes(self) -> int:
        """The memory that keys and values take, in bytes."""
        return 0 if self.prefix is None else self.prefix.n_bytes


class KeptRuns(Shown):
    """Clean runs that wait for variants that nobody knows yet, as many as fit into some memory."""

    def __init__(self, memory: float):
        """Args: memory: bytes that keys and values of all of them may take."""
        check("memory", memory, float)
        if memory < 0:
            raise ValueError(f"memory= is a number of bytes, 0 or more, got {memory}")
        self.free = memory
        self._runs: dict[tuple[Hashable, ...], CleanRun] = {}

    def __len__(self) -> int:
        """Count the runs that are kept."""
        return len(self._runs)

    def keep(self, run: CleanRun) -> None:
        """Keep a run, if it can be continued and there is room for it."""
        if run.prefix is not None and run.n_bytes <= self.free:
            self.take(run.batch.questions)
            self._runs[_asked(run.batch.questions)] = run
            self.free -= run.n_bytes

    def take(self, questions: Sequence[AudioQuestion]) -> CleanRun | None:
        """The run of just these questions, which is then no longer kept; None if it is not."""
        run = self._runs.pop(_asked(questions), None)
        self.free += 0 if run is None else run.n_bytes
        return run


def _asked(questions: Sequence[AudioQuestion]) -> tuple[Hashable, ...]:
    return tuple((question.id, question.text, question.choices) for question in questions)


@checks_arguments
def clean_run(model: AudioLM, batch: Inputs, *, record: Sequence[str | HookPoint] = ()) -> CleanRun:
    """Run prompts so that `ma.sweep(model, clean, variants)` can continue from their last position.

    ```python
    clean = ma.variants.clean_run(model, batch, record=[ma.HookPoint("z", positions="last")])
    found = ma.sweep(model, clean, variants_made_from(clean.cache))
    ```

    The keys and values of all prompts are held as long as the run is.

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, or a dict of the network's own inputs.
        record: Hook points to keep, at the last position: those of the decoder's layers, and `final_norm`.

    Raises:
        ValueError: Another hook point, or other positions.
    """
    points = hook_points(record)
    for point in points:
        if point.part != "decoder" or point.point not in (*LAYER_POINTS, "final_norm"):
            raise ValueError(f"a clean run keeps the decoder's final_norm and its layers' points, got {point}")
        axis = "queries" if point.point in ROW_POINTS else "positions"
        if getattr(point, axis) != "last":
            raise ValueError(f'a clean run keeps this hook point at {axis}="last", got {point}')
    prompts = as_prompts(model, batch)
    why = why_not_shared(model)
    if why is None and len(padding_groups(model.adapter, prompts)) > 1:
        why = "padding leaks between clips of different lengths in this class, so prompts run in groups"
    if why is not None:
        out = run(model, prompts, record=points, logits="last")
        return CleanRun(model, prompts, out.logits[:, -1], out.cache, None, why)
    cache, prefix = Cache(model.site_map.depth), Prefix(prompts, 1, keeps=True)  # variants of the last position come

    def prepare() -> tuple[Stacked, Prefix]:
        register(model, prompts, points, (), lambda: cache)
        return Stacked(prompts, Chunk((), 1), model.network.dtype, prompts.n_positions, {}), prefix

    logits = first_pass(model, prompts, prepare)
    return CleanRun(model, prompts, logits[:, 0], cache, prefix)
