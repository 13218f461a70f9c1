"""Many variants of one forward pass for the price of one: what they have in common is computed once.

The prompts run once, and the rows of the first variants ride along behind them: from the layer of its first edit on, a
variant is a few more rows in every product of matrices, and below that layer it is the clean run. If not all variants
fit into memory at once, the keys and values of the clean run are kept, and the others go through the layers on their
own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechaudio.models.key_value_cache import with_cache
from mechaudio.tracing.sites import HookPointError
from mechaudio.tracing.suffixes import Past, Suffixes
from mechaudio.tracing.unembedding import unembed

if TYPE_CHECKING:
    from transformers import Cache

    from mechaudio.models.batch import PromptBatch
    from mechaudio.tracing.attention_call import Call
    from mechaudio.tracing.audio_lm import AudioLM

#: Where transformers' own forward hooks come from, which only note hidden states.
_NOTING = "transformers.utils.output_capturing"
#: What layers are called with, and the axis of it along which positions run.
_POSITION_AXES = {"position_embeddings": -2, "position_ids": -1, "cache_position": -1}
#: What rows on their own are called with instead, besides another cache: their masks are kept.
_ON_THEIR_OWN = {"attention_mask": None, "use_cache": False}


@dataclass(eq=False)
class Prefix:
    """What the clean run of the prompts leaves behind for variants that go through the layers later.

    Attributes:
        batch: The prompts.
        n_rows: How many positions at the end of the prompts can be changed.
        keeps: Whether there are such variants; otherwise nothing is left behind.
        resid: Per layer, the residual stream before it at these positions; after the last layer at the end.
        kwargs: Per layer, what it was called with, at these positions.
        past: Per attention module, what rows attend to.
    """

    batch: PromptBatch
    n_rows: int
    keeps: bool
    resid: list[Float[Tensor, "batch row d_model"]] = field(default_factory=list)
    kwargs: list[dict[str, Any]] = field(default_factory=list)
    past: dict[str, Past] = field(default_factory=dict)
    _masks: dict[int, tuple[Tensor | None, Tensor]] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """How much memory the keys and values take."""
        return sum(part.untyped_storage().nbytes() for past in self.past.values() for part in (past.keys, past.values))

    def keep_layer(self, last: Float[Tensor, "batch row d_model"], kwargs: Mapping[str, Any]) -> None:
        """Keep what the next layer is called with, at the last rows."""
        self.resid.append(last.clone())
        own = {name: _ON_THEIR_OWN.get(name, value) for name, value in kwargs.items()}
        self.kwargs.append(_Positions(self.n_rows, 1).only(own, 1))

    def rows_attend_to(self, location: str, call: Call, key: Tensor, value: Tensor) -> Past:
        """What the last rows of the prompts may attend to in one layer."""
        if id(call.mask) not in self._masks:  # layers of one kind have one mask
            n = self.batch.n_positions
            rows = torch.arange(n - self.n_rows, n, device=key.device).expand(self.batch.n_rows, -1)
            allowed, bias = call.allowed(rows, n, n), call.bias(rows, n)
            mask = torch.zeros_like(allowed, dtype=key.dtype) if bias is None else bias.to(key.dtype)
            self._masks[id(call.mask)] = call.mask, mask.masked_fill(~allowed, -torch.inf)
        past = Past(key, value, self._masks[id(call.mask)][1].to(key.device), call.scaling)
        if self.keeps:
            self.past[location] = past
        return past


class Ride:
    """The clean run of some prompts, with the rows of variants behind it.

    Attributes:
        chunks: The variants: the first ones ride along, the others shall run later. Known once the run is under way.
        prefix: What the others need.
    """

    chunks: Sequence[Suffixes] | None = None
    prefix: Prefix

    def __init__(
        self,
        model: AudioLM,
        batch: PromptBatch,
        prepare: Callable[[], Sequence[Suffixes]],
        rows_later: Callable[[], int] = lambda: 0,
    ):
        """Set out.

        Args:
            model: The opened model.
            batch: The prompts.
            prepare: Gives the variants. It is called once the audio tower is under way, so that a GPU need not wait.
            rows_later: Gives how many rows variants have at most that are made when the run is through. It is called
                after `prepare`.
        """
        self.model, self.batch, self.prepare, self.n = model, batch, prepare, batch.n_positions
        self.rows_later = rows_later

    def run(self) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "batch variant vocab"]]:
        """Logits at the last position, of the clean run and of the variants that ride along."""
        model, exchange = self.model, self.model.exchange
        stack = model.adapter.decoder
        with torch.no_grad(), exchange.prepared(self.batch):
            exchange.on_output(model.adapter.projector, self._begin)
            exchange.on_input(model.adapter.decoder_module, self._begin)  # prompts without sound have no tower
            for layer in range(model.n_layers):
                exchange.on_input(stack.path(layer), partial(self._join, layer))
            exchange.on_input(stack.norm, self._only_last)
            logits = self._logits()
        return logits[:, 0], logits[:, 1:]

    def _logits(self) -> Float[Tensor, "batch row vocab"]:
        """Run the prompts: logits of what the final norm is given."""
        return self.model.interleave("__call__", **self.batch.inputs, use_cache=False).logits

    def _begin(self, served: Any) -> Any:
        if self.chunks is not None:
            return served
        self.chunks = self.prepare()
        self.riders = self.chunks[0] if self.chunks else Suffixes(self.batch, (), self.model.network.dtype, riding=True)
        later = self.rows_later()
        n_rows = max([1, later, *(chunk.n_rows for chunk in self.chunks)])
        self.prefix = Prefix(self.batch, n_rows, keeps=later > 0 or len(self.chunks) > 1)
        self.positions = _Positions(self.riders.n_rows, len(self.riders.variants))
        if not self.riders.changes_in(self.model.n_layers - 1, ("mlp_post",)):
            _end_with_rows(self.model, slice(self.n - (n_rows if self.prefix.keeps else 1), None))
        for location, change in self.riders.edits.items():
            self.model.exchange.change(location, change)
        for sites in self.model.site_map.layers["decoder"]:
            location = sites["z"].location.rpartition(".")[0]
            if self.riders.variants:
                self.model.exchange.replace_attention(location, partial(self._attend, location))
            elif self.prefix.keeps:  # attention is the network's own
                self.model.exchange.watch_attention(location, partial(self._keep_call, location))
        return served

    def _keep_call(self, location: str, call: Call, _query: Tensor, key: Tensor, value: Tensor) -> None:
        self.prefix.rows_attend_to(location, call, key, value)

    def _join(self, layer: int, served: Any) -> Any:
        args, kwargs = served
        hidden = args[0] if args else kwargs["hidden_states"]
        last = hidden[:, self.n - self.prefix.n_rows : self.n]
        if self.prefix.keeps:
            self.prefix.keep_layer(last, kwargs)
        if joining := self.riders.joining(layer):
            hidden = torch.cat([hidden, last[:, -self.riders.n_rows :].repeat(1, joining, 1)], dim=1)
        kwargs = kwargs | self.positions.behind(kwargs, self.riders.joined)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    def _attend(self, location: str, call: Call, *parts: Tensor) -> Tensor:
        clean, own = ([part[:, :, cut] for part in parts] for cut in (slice(self.n), slice(self.n, None)))
        past = self.prefix.rows_attend_to(location, call, clean[1], clean[2])
        if not self.riders.joined:
            return call.fused(*clean)
        return torch.cat([call.fused(*clean), self.riders.attend(location, past, *own)], dim=1)

    def _only_last(self, served: Any) -> Any:
        """Of every prompt the last row, and of every variant: the final norm and the unembedding see no others."""
        (hidden, *args), kwargs = served
        last, rows = hidden[:, self.n - self.prefix.n_rows : self.n], self.riders.n_rows
        if self.prefix.keeps:
            self.prefix.keep_layer(last, {})
        joining = self.riders.joining(self.model.n_layers)
        own = torch.cat([hidden[:, self.n :], last[:, -rows:].repeat(1, joining, 1)], dim=1)
        return (torch.cat([last[:, -1:], own[:, rows - 1 :: rows]], dim=1), *args), kwargs


def why_not_shared(model: AudioLM) -> str | None:
    """Why variants cannot share what comes before their first edit; `None` where they can.

    A hook of the user's would meet rows that are not there when a variant runs alone.
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


def run_alone(
    model: AudioLM, prefix: Prefix, suffixes: Suffixes, past: Cache | None = None
) -> Float[Tensor, "batch variant vocab"]:
    """Send the rows of variants through the layers on their own, after the clean run.

    Args:
        model: The opened model.
        prefix: What the clean run left behind.
        suffixes: The variants, of at most as many rows.
        past: An empty cache that takes the keys and values of these rows, if they are needed later.

    Returns:
        Logits at the last position.
    """
    stack, rows = model.adapter.decoder, suffixes.n_rows
    layers = model.network.get_submodule(stack.layers)
    positions = _Positions(rows, len(suffixes.variants))

    def through_the_layers() -> Float[Tensor, "batch variant vocab"]:
        hidden = None
        for layer in range(len(layers) + 1):
            joining = suffixes.entering(layer, prefix.resid[layer])
            hidden = joining if hidden is None else torch.cat([hidden.to(joining.device), joining], dim=1)
            if suffixes.joined and layer < len(layers):
                kwargs = positions.only(prefix.kwargs[layer], suffixes.joined)
                out = layers[layer](hidden, **with_cache(kwargs, past))
                hidden = out[0] if isinstance(out, tuple) else out
        return unembed(model, model.network.get_submodule(stack.norm)(hidden[:, rows - 1 :: rows]))

    def attend(location: str) -> Callable[..., Tensor]:
        return lambda _call, *parts: suffixes.attend(location, prefix.past[location], *parts)

    with torch.no_grad(), model.exchange.prepared(prefix.batch):
        if not suffixes.changes_in(len(layers) - 1, ("mlp_post", "mlp_out", "resid_post")):
            _end_with_rows(model, slice(rows - 1, None, rows))
        for location, change in suffixes.edits.items():
            model.exchange.change(location, change)
        for location in prefix.past:
            model.exchange.replace_attention(location, attend(location))
        return model.interleave(through_the_layers)


def _end_with_rows(model: AudioLM, wanted: slice) -> None:
    """Compute the MLP of the last layer for some rows only: nobody asks for the others."""
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


class _Positions:
    """What layers are called with that counts positions, for the rows of variants."""

    def __init__(self, n_rows: int, n_variants: int):
        """Args: n_rows: rows of each variant, the last ones of the prompts; n_variants: how many there will be."""
        self.n_rows, self.n_variants = n_rows, n_variants
        self._whole: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def only(self, kwargs: Mapping[str, Any], n: int) -> dict[str, Any]:
        """All that a layer was called with, for the rows of so many variants."""
        return {name: value for name, value in kwargs.items() if name != "hidden_states"} | self._some(kwargs, n, False)

    def behind(self, kwargs: Mapping[str, Any], n: int) -> dict[str, Any]:
        """What has to change so that the rows of so many variants stand behind those of the prompts."""
        return self._some(kwargs, n, True)

    def _some(self, kwargs: Mapping[str, Any], n: int, behind: bool) -> dict[str, Any]:
        """The arguments that count positions.

        Raises:
            HookPointError: A layer was called with a tensor that is not known here.
        """
        found = {}
        for name, value in kwargs.items():
            if name in _POSITION_AXES and value is not None:
                parts = value if isinstance(value, tuple) else (value,)
                cut = tuple(self._part(part, _POSITION_AXES[name], n, behind) for part in parts)
                found[name] = cut if isinstance(value, tuple) else cut[0]
            elif isinstance(value, Tensor) and name not in (*_ON_THEIR_OWN, "hidden_states"):
                raise HookPointError(f"a layer takes {name!r}, of which it is not known where its positions are")
        return found

    def _part(self, part: Tensor, axis: int, n: int, behind: bool) -> Tensor:
        """One tensor for the rows of so many variants: a part of that for all, which layers mostly share."""
        before = part.shape[axis] if behind else 0
        if (id(part), behind) not in self._whole:
            last = part.narrow(axis, part.shape[axis] - self.n_rows, self.n_rows)
            repeats = [1] * part.ndim
            repeats[axis] = self.n_variants
            rows = last.repeat(repeats)
            self._whole[id(part), behind] = part, torch.cat([part, rows], dim=axis) if behind else rows
        return self._whole[id(part), behind][1].narrow(axis, 0, before + n * self.n_rows)
