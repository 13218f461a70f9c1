"""One pass of some prompts, and of many variants of them from their first change on: what they share is computed once.

The prompts run once, and the positions of the first variants run along behind theirs: from its first layer on, a
variant is a few more positions in every product of matrices, and below that layer it is the clean run. If not all
variants fit into memory at once, the keys and values of the clean run are kept, and the others go through the layers
behind it, on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache

from mechaudio.models.batch import PromptBatch
from mechaudio.models.keywords import with_cache
from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.decoding import greedy
from mechaudio.tracing.sites import ROOT, HookPointError
from mechaudio.tracing.unembedding import norm_of, unembed
from mechaudio.variants.attend import Shared, attend
from mechaudio.variants.plan import Variant
from mechaudio.variants.stacked import Stacked

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
        batch: The prompts.
        n_positions: How many positions at the end of the prompts can be changed.
        keeps: Whether there are such variants; otherwise nothing is kept.
        resid: Per layer, the residual stream before it at these positions; after the last layer at the end.
        arguments: Per layer, what it was called with, at these positions.
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

    def last(self, hidden: Float[Tensor, "batch position d_model"], arguments: Mapping[str, Any]) -> Tensor:
        """Give the residual stream at these positions, and keep it and what the next layer is called with."""
        n = self.batch.n_positions
        last = hidden[:, n - self.n_positions : n]
        if self.keeps:
            self.resid.append(last.clone())
            kept = {name: _ON_THEIR_OWN.get(name, each) for name, each in arguments.items() if name != "hidden_states"}
            self.arguments.append(kept | _Arguments(self.n_positions, 1, behind=False).of(kept, 1))
        return last

    def shared_at(self, attention: str, call: Call, key: Tensor, value: Tensor) -> Shared:
        """Return the keys and values that these positions attend to in one layer."""
        if id(call.mask) not in self._masks:  # layers of one kind have one mask
            n = self.batch.n_positions
            queries = torch.arange(n - self.n_positions, n, device=key.device).expand(self.batch.n_rows, -1)
            allowed, bias = call.allowed(queries, n, n), call.bias(queries, n)
            mask = torch.zeros_like(allowed, dtype=key.dtype) if bias is None else bias.to(key.dtype)
            self._masks[id(call.mask)] = call.mask, mask.masked_fill(~allowed, -torch.inf)
        if self.keeps:  # without the memory of the variants that run along
            key, value = (
                part.clone() if part.untyped_storage().nbytes() > part.nbytes else part for part in (key, value)
            )
        shared = Shared(key, value, self._masks[id(call.mask)][1].to(key.device), call.scaling)
        if self.keeps:
            self.shared[attention] = shared
        return shared


def first_pass(
    model: AudioLM, batch: PromptBatch, prepare: Callable[[], tuple[list[Stacked], int]], cache: Cache | None = None
) -> tuple[Float[Tensor, "batch variant vocab"], list[Stacked], Prefix]:
    """Run prompts, with the positions of the first chunk of variants behind them.

    Args:
        model: The opened model.
        batch: The prompts.
        prepare: Gives at least one chunk, and how many positions later ones have at most. It is called once the audio
            tower is under way, so that a GPU does not wait for it.
        cache: An empty cache that takes the keys and values, where new tokens shall follow. The pass is then the first
            one of the network's own `generate`, which counts positions and makes masks as it does.

    Returns:
        Next-token logits at the last position, of the prompts and behind them of the first chunk; all chunks; and what
        the others need.
    """
    running: list[_Along] = []

    def begin(served: Any) -> Any:
        if not running:
            running.append(_Along(model, *prepare(), cache))
        return served

    with torch.no_grad(), model.exchange.prepared(batch):
        model.exchange.on_output(model.adapter.projector, begin)
        model.exchange.on_input(model.adapter.decoder_module, begin)  # prompts without sound have no tower
        if cache is None:
            logits = model.interleave("__call__", **batch.inputs, use_cache=False).logits
        else:
            normed = list[Tensor]()
            model.exchange.watch(f"{ROOT}.{model.adapter.decoder.norm}.output", normed.append)
            model.interleave(model.network.generate, **batch.inputs, max_new_tokens=1, **greedy(model.network))
            logits = unembed(model, normed[0])
    return logits, running[0].chunks, running[0].prefix


class _Along:
    """The first of some chunks, whose positions run along behind those of the prompts."""

    def __init__(self, model: AudioLM, chunks: list[Stacked], later: int, cache: Cache | None):
        """Ask for all that has to be done in the decoder."""
        self.chunks, self.first, self.cache, chunk = chunks, chunks[0], cache, chunks[0].chunk
        self.chunk, self.n = chunk, self.first.batch.n_positions
        n_kept = max([later, *(stacked.chunk.n_positions for stacked in chunks)])
        self.prefix = Prefix(self.first.batch, n_kept, keeps=later > 0 or len(chunks) > 1)
        self.arguments = _Arguments(chunk.n_positions, len(chunk.variants), behind=True)
        exchange, stack, n_layers = model.exchange, model.adapter.decoder, model.n_layers
        assert stack.norm is not None, "every decoder has a final norm"
        for layer in range(n_layers):
            exchange.on_input(stack.path(layer), partial(self._join, layer))
        exchange.on_input(stack.norm, partial(self._only_last, n_layers))
        if not self.first.changes_in(n_layers - 1, ("mlp_post",)):
            _end_with_positions(model, slice(self.n - (n_kept if self.prefix.keeps else 1), None))
        for location, change in self.first.edits.items():
            exchange.change(location, change)
        for layer, sites in enumerate(model.site_map.layers["decoder"]):
            if chunk.variants:
                exchange.replace_attention(sites["z"].module, partial(self._attend, layer, sites["z"].module))
            elif self.prefix.keeps:  # attention is the network's own
                exchange.watch_attention(sites["z"].module, partial(self._keep, sites["z"].module))

    def _join(self, layer: int, served: Any) -> Any:
        args, kwargs = served
        hidden = args[0] if args else kwargs["hidden_states"]
        last = self.prefix.last(hidden, kwargs)
        if joining := self.chunk.joining(layer):
            hidden = torch.cat([hidden, entering(joining, last[:, -self.chunk.n_positions :])], dim=1)
        kwargs = kwargs | self.arguments.of(kwargs, self.chunk.joined(layer))
        kwargs = kwargs if self.cache is None else with_cache(kwargs, self.cache)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    def _attend(self, layer: int, attention: str, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        n, joined = self.n, self.chunk.joined(layer)
        shared = self.prefix.shared_at(attention, call, key[:, :, :n], value[:, :, :n])
        clean = call.fused(query[:, :, :n], shared.keys, shared.values)
        if not joined:
            return clean
        behind = (part[:, :, n:] for part in (query, key, value))
        return torch.cat([clean, attend(self.first.changes_at(attention), shared, joined, *behind)], dim=1)

    def _keep(self, attention: str, call: Call, _query: Tensor, key: Tensor, value: Tensor) -> None:
        self.prefix.shared_at(attention, call, key, value)

    def _only_last(self, n_layers: int, served: Any) -> Any:
        """Keep the last position of prompts and variants: the final norm and the unembedding see no others."""
        (hidden, *args), kwargs = served
        last, n = self.prefix.last(hidden, {}), self.chunk.n_positions
        variants = torch.cat([hidden[:, self.n :], entering(self.chunk.joining(n_layers), last[:, -n:])], dim=1)
        return (torch.cat([last[:, -1:], variants[:, n - 1 :: n]], dim=1), *args), kwargs


def run_behind(
    model: AudioLM, prefix: Prefix, stacked: Stacked, cache: Cache | None = None
) -> Float[Tensor, "batch variant vocab"]:
    """Send the positions of variants through the layers on their own, after the clean run.

    An empty cache takes their keys and values, if they are needed later. Logits are those at the last position.
    """
    stack, chunk = model.adapter.decoder, stacked.chunk
    layers, n = model.network.get_submodule(stack.layers), chunk.n_positions
    arguments = _Arguments(n, len(chunk.variants), behind=False)

    def through_the_layers() -> Float[Tensor, "batch variant vocab"]:
        hidden = None
        for layer in range(len(layers) + 1):
            new = entering(chunk.joining(layer), prefix.resid[layer][:, -n:])
            hidden = new if hidden is None else torch.cat([hidden.to(new.device), new], dim=1)
            if chunk.joined(layer) and layer < len(layers):
                kwargs = prefix.arguments[layer]
                kwargs = kwargs | arguments.of(kwargs, chunk.joined(layer))
                out = layers[layer](hidden, **with_cache(kwargs, cache))
                hidden = out[0] if isinstance(out, tuple) else out
        assert hidden is not None, "all variants have joined by the final norm"
        return unembed(model, norm_of(model)(hidden[:, n - 1 :: n]))

    def attend_to(attention: str, layer: int) -> Callable[..., Tensor]:
        changes = stacked.changes_at(attention)
        return lambda _call, *parts: attend(changes, prefix.shared[attention], chunk.joined(layer), *parts)

    with torch.no_grad(), model.exchange.prepared(prefix.batch):
        if not stacked.changes_in(len(layers) - 1, ("mlp_post", "mlp_out", "resid_post")):
            _end_with_positions(model, slice(n - 1, None, n))
        for location, change in stacked.edits.items():
            model.exchange.change(location, change)
        for layer, sites in enumerate(model.site_map.layers["decoder"]):
            model.exchange.replace_attention(sites["z"].module, attend_to(sites["z"].module, layer))
        return model.interleave(through_the_layers)


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


def entering(
    variants: Sequence[Variant], clean: Float[Tensor, "batch position d_model"]
) -> Float[Tensor, "batch positions d_model"]:
    """The positions of variants in front of their first layer, given those of the clean run."""
    if all(variant.embeds is None for variant in variants):
        return clean.repeat(1, len(variants), 1)
    parts = []
    for variant in variants:
        changed = clean[:, clean.shape[1] :] if variant.embeds is None else variant.embeds.to(clean.device)
        parts += [clean[:, : clean.shape[1] - changed.shape[1]], changed]
    return torch.cat(parts, dim=1)


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


class _Arguments:
    """Arguments of layers that count positions, made for the positions of variants."""

    def __init__(self, n_positions: int, n_variants: int, *, behind: bool):
        """Take the last positions of the prompts, for so many variants; `behind` those of the prompts, or alone."""
        self.n_positions, self.n_variants, self.behind = n_positions, n_variants, behind
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, kwargs: Mapping[str, Any], n: int) -> dict[str, Any]:
        """The arguments that count positions, for the first `n` variants.

        Raises:
            HookPointError: A layer was called with a tensor that is not known here.
        """
        counting = {}
        for name, value in kwargs.items():
            if name in _POSITION_AXES and value is not None:
                parts = value if isinstance(value, tuple) else (value,)
                cut = tuple(self._part(part, _POSITION_AXES[name], n) for part in parts)
                counting[name] = cut if isinstance(value, tuple) else cut[0]
            elif isinstance(value, Tensor) and name not in (*_ON_THEIR_OWN, "hidden_states"):
                raise HookPointError(f"a layer takes {name!r}, of which it is not known where its positions are")
        return counting

    def _part(self, part: Tensor, axis: int, n: int) -> Tensor:
        """One tensor for so many variants: a part of that for all, which layers mostly share."""
        if id(part) not in self._made:
            last = part.narrow(axis, part.shape[axis] - self.n_positions, self.n_positions)
            every = torch.cat([part] * self.behind + [last] * self.n_variants, dim=axis)
            self._made[id(part)] = part, every
        return self._made[id(part)][1].narrow(axis, 0, self.behind * part.shape[axis] + n * self.n_positions)
