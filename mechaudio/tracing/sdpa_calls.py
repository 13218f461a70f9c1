"""Attention modules that call PyTorch's fused attention themselves: the insides of those calls, served like any others.

They are in none of transformers' tables. While a trace of ours runs, the name `F` in the file that such a module comes
from leads to PyTorch's functions with one exception, `scaled_dot_product_attention`, which serves the call that one of
our modules is about to make and passes on every other. Afterwards the name is what it was.

Conventions: these modules attend within blocks of frames, `[clip * block, head, frame, d_head]`, the last block of a
clip filled up. Seen from outside a clip is whole, `[clip, head, frame, d_head]` without the filling, and its pattern
`[clip, head, query, key]` has the blocks on its diagonal. Queries are served where they are made, because the position
bias is made from them too.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.backends import cuda
from torch.nn import functional

from mechaudio.tracing.attention_call import Call
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.fused_or_rows import Spot, serve, serve_weights
from mechaudio.tracing.turns import changed_for_runs

#: The kernels of fused attention that torch can be kept from, as `torch.backends.cuda` names them; not of GPUs alone.
KERNELS = ("flash", "mem_efficient", "math", "cudnn")


@dataclass(frozen=True, eq=False)
class OwnCall:
    """One attention module that calls fused attention itself.

    Attributes:
        module: The module.
        queries: The module inside it that makes the queries, `[clip, frame, head * d_head]`.
        heads: How many heads there are.
        location: Where its insides are served.
    """

    module: nn.Module
    queries: nn.Module
    heads: int
    location: str


@dataclass
class Pending:
    """A forward pass of such a module that has begun and not called yet: how many clips there are, and how long."""

    module: nn.Module
    spot: Spot
    clips: int
    frames: int


def calls_sdpa(module: nn.Module) -> bool:
    """Return whether the module's class calls `F.scaled_dot_product_attention`, by the names in its forward."""
    forward = inspect.unwrap(type(module).forward)
    return "scaled_dot_product_attention" in forward.__code__.co_names and (
        forward.__globals__.get("F") is functional or isinstance(forward.__globals__.get("F"), _Functions)
    )


@contextmanager
def serving_calls(exchange: Exchange, calls: Sequence[OwnCall]) -> Iterator[None]:
    """Let these modules serve the insides of their calls, and leave everything as it was afterwards."""
    with ExitStack() as stack:
        if calls:
            stack.enter_context(changed_for_runs("kernels", _keep_kernels))
        for key, names in {id(names): names for names in map(_names, calls)}.items():
            stack.enter_context(changed_for_runs(key, partial(_serve_functions, names)))
        for call in calls:
            for handle in _names(call)["F"].watch(call, Spot(exchange, call.location)):
                stack.callback(handle.remove)
        yield


def _keep_kernels() -> Callable[[], None]:
    """Have torch choose from the same kernels when the last run is over as before the first.

    Granite Speech allows one kernel alone for each of its calls, in the whole process, and then what it found. In two
    threads the second finds what the first allows, and would leave the process at that.
    """
    allowed = {name: getattr(cuda, f"{name}_sdp_enabled")() for name in KERNELS}

    def put_back() -> None:
        for name, was_allowed in allowed.items():
            getattr(cuda, f"enable_{name}_sdp")(was_allowed)

    return put_back


def _names(call: OwnCall) -> dict[str, Any]:
    """Resolve the names in the file of a module's class."""
    return inspect.unwrap(type(call.module).forward).__globals__


def _serve_functions(names: dict[str, Any]) -> Callable[[], None]:
    """Have `F` lead to functions that serve; networks of one class that run in several threads share them."""
    functions = names["F"]
    names["F"] = _Functions(functions)
    return partial(names.__setitem__, "F", functions)


class _Thread(threading.local):
    """The module that is about to call in a thread."""

    pending: Pending | None = None


class _Functions:
    """`torch.nn.functional`, but that fused attention is served where one of our modules calls it."""

    def __init__(self, functions: Any):
        self.functions = functions
        self._thread = _Thread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.functions, name)

    def watch(self, call: OwnCall, spot: Spot) -> tuple[Any, Any]:
        """Note when the module begins, and serve its queries when they are made."""
        return (
            call.module.register_forward_pre_hook(partial(self._begin, spot), with_kwargs=True),
            call.queries.register_forward_hook(partial(self._serve_queries, spot, call.heads)),
        )

    def _begin(self, spot: Spot, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        self._thread.pending = Pending(module, spot, hidden.shape[0], hidden.shape[1])

    def _serve_queries(
        self, spot: Spot, heads: int, _module: nn.Module, _args: tuple[Any, ...], made: Tensor
    ) -> Tensor | None:
        pending = self._thread.pending
        frames = made.shape[1] if pending is None else pending.frames
        whole = rearrange(made[:, :frames], "clip frame (head d) -> clip head frame d", head=heads)
        query, changed = _serve_part(spot, "q", whole)
        if not changed:
            return None
        flat = rearrange(query, "clip head frame d -> clip frame (head d)")
        return torch.cat([flat, made[:, frames:]], dim=1)

    def scaled_dot_product_attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Fused attention, with its insides served if the call is a watched module's."""
        pending, self._thread.pending = self._thread.pending, None
        fused = self.functions.scaled_dot_product_attention
        if pending is None:
            return fused(query, key, value, attn_mask=attn_mask, **options)
        blocks = (query, key, value)
        whole = [_unblocked(part, pending.clips)[:, :, : pending.frames] for part in blocks]
        keys, changed_keys = _serve_part(pending.spot, "k", whole[1])
        values, changed_values = _serve_part(pending.spot, "v", whole[2])
        served = (whole[0], keys, values)
        scale = options.get("scale")
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        call = BlockCall(
            module=pending.module,
            mask=attn_mask,
            windows=None,
            dropout=options.get("dropout_p", 0.0),
            scaling=scaling,
            causal=False,
            kwargs={**options, "scale": scaling},
            function=fused,
            clips=pending.clips,
            blocks=blocks,
            unchanged=tuple(
                None if changed else part
                for part, changed in zip(served, (False, changed_keys, changed_values), strict=True)
            ),
        )
        out = serve_weights(pending.spot, call, *served)
        return call.blocked(rearrange(out, "clip frame head d -> clip head frame d"))


def _serve_part(
    spot: Spot, point: str, value: Float[Tensor, "clip head frame d_head"]
) -> tuple[Float[Tensor, "clip head frame d_head"], bool]:
    """Serve queries, keys or values; also whether the network has to go on with what came back.

    It has to where they were changed, and where gradients are to arrive at what was read.
    """
    wanted = spot.wants(point)
    served, changed = serve(spot, point, value)
    return served, changed or (wanted and torch.is_grad_enabled() and served.requires_grad)


def _unblocked(part: Tensor, clips: int) -> Float[Tensor, "clip head frame d_head"]:
    return rearrange(part, "(clip block) head frame d -> clip head (block frame) d", clip=clips)


@dataclass(frozen=True)
class BlockCall(Call):
    """A call of attention within blocks, as if it were one over whole clips.

    Attributes:
        function: PyTorch's fused attention.
        clips: How many clips there are.
        blocks: Queries, keys and values as the network made them, `[clip * block, head, frame, d_head]`.
        unchanged: The same as they were served, whole clips; `None` for those that came back changed.
    """

    function: Callable[..., Tensor]
    clips: int
    blocks: tuple[Tensor, Tensor, Tensor]
    unchanged: tuple[Tensor | None, ...]

    @property
    def size(self) -> int:
        """Frames of a block."""
        return self.blocks[0].shape[2]

    def blocked(self, whole: Float[Tensor, "clip head frame d"]) -> Float[Tensor, "block head frame_of_block d"]:
        """Whole clips cut into blocks, the last one filled up with zeros."""
        missing = -whole.shape[2] % self.size
        filled = functional.pad(whole, (0, 0, 0, missing)) if missing else whole
        return rearrange(filled, "clip head (block frame) d -> (clip block) head frame d", frame=self.size)

    def fused(self, query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "clip frame head d_value"]:
        """PyTorch's fused attention on the blocks: on the network's own, wherever nobody changed them."""
        parts = [
            own if given is unchanged else self.blocked(given)
            for given, own, unchanged in zip((query, key, value), self.blocks, self.unchanged, strict=True)
        ]
        out = _unblocked(self.function(*parts, attn_mask=self.mask, **self.kwargs), self.clips)
        return rearrange(out[:, :, : query.shape[2]], "clip head frame d -> clip frame head d")

    def sees(self, n_keys: int) -> tuple[Any, ...]:
        """As of any call, and the size of blocks."""
        return *super().sees(n_keys), self.size, self.clips

    def allowed(
        self,
        rows: Int[Tensor, "batch row"],
        n_keys: int,
        n_queries: int,  # noqa: ARG002 - a block sees itself, whatever its row
    ) -> Bool[Tensor, " batch #head row key"]:
        """Every frame may see the frames of its block."""
        keys = torch.arange(n_keys, device=rows.device)
        return (rows[..., None] // self.size == keys // self.size)[:, None]

    def bias(self, rows: Int[Tensor, "batch row"], n_keys: int) -> Float[Tensor, "batch head row key"] | None:
        """Return the addition to the scores of these query rows: the positions' part, 0 outside the row's block."""
        if self.mask is None:
            return None
        bias = self.mask.unflatten(0, (self.clips, -1))
        clip = torch.arange(self.clips, device=rows.device)[:, None]
        inside = rearrange(bias[clip, rows // self.size, :, rows % self.size], "clip row head key -> clip head row key")
        keys = (rows // self.size * self.size)[..., None] + torch.arange(self.size, device=rows.device)
        whole = inside.new_zeros(*inside.shape[:3], bias.shape[1] * self.size)
        return whole.scatter(3, keys[:, None].expand_as(inside), inside)[..., :n_keys]
