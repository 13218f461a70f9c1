"""Attention modules that attend within sliding windows by themselves: their insides, served like any others.

Gemma's audio towers cut a clip into blocks of a dozen frames and let each block see itself and the frames before it.
Nothing of that passes through transformers' attention functions. While a trace of ours runs, such a module's own
methods that cut queries into blocks and keys and values into their surroundings serve what they are given, and the one
softmax that follows serves what goes in and what comes out; PyTorch hands it over (`TorchFunctionMode`). Afterwards the
module is what it was.

Conventions: inside the module scores are `[clip, head, block, frame, context]`. Seen from outside a clip is whole:
`scores` and `pattern` are `[clip, head, query, key]`, a band along the diagonal, and what lies outside a frame's window
is `-inf` and 0. Scores are behind their softcap. A frame of padding sees all of its window alike, and the share that
falls before the clip's first frame or behind its last is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mechaudio.models.network import Network
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.fused_or_rows import Spot, serve

#: What cuts queries into blocks, and what cuts keys, values (in this order) and perhaps a mask into surroundings.
_BLOCKS, _CONTEXTS = "_convert_to_block", "_extract_block_context"
_SIZES = ("num_heads", "chunk_size", "max_past_horizon", "max_future_horizon", "context_size", "softcap")


@dataclass(frozen=True, eq=False)
class LocalAttention:
    """One attention module that attends within sliding windows by itself.

    Attributes:
        module: The module.
        projection: What the outputs of its heads go to next, as `[clip, frame, head * d_head]`.
        location: Where its insides are served.
    """

    module: Network
    projection: Network
    location: str


def attends_locally(module: Network) -> bool:
    """Return whether the module has the methods and sizes that are served here."""
    return all(hasattr(module, name) for name in (_BLOCKS, _CONTEXTS, *_SIZES))


@contextmanager
def serving_windows(exchange: Exchange, modules: Sequence[LocalAttention]) -> Iterator[None]:
    """Let these modules serve their insides, and leave everything as it was afterwards."""
    with ExitStack() as stack:
        for one in modules:
            watch = _Watch(one.module, Spot(exchange, one.location))
            for handle in (
                one.module.register_forward_pre_hook(watch.begin),
                one.module.register_forward_hook(watch.end, always_call=True),
                one.projection.register_forward_pre_hook(watch.heads),
            ):
                stack.callback(handle.remove)
            for name, method in ((_BLOCKS, watch.blocks), (_CONTEXTS, watch.contexts)):
                setattr(one.module, name, method(getattr(one.module, name)))
                stack.callback(delattr, one.module, name)
        yield


class _Watch(TorchFunctionMode):
    """Follows one module through its forward pass, from the queries to the weights."""

    def __init__(self, module: Network, spot: Spot):
        super().__init__()
        self._module, self._spot = module, spot
        self._next: list[str] = []
        self._values: Tensor | None = None
        self._beyond: Tensor | None = None
        self._open = False

    def begin(self, _module: Network, _args: tuple) -> None:
        """A forward pass begins."""
        self._next, self._values, self._beyond = ["k", "v"], None, None
        self.__enter__()
        self._open = True

    def end(self, _module: Network, _args: tuple, _output: Any) -> None:
        """It is over, perhaps with an error."""
        if self._open:
            self._open = False
            self.__exit__(None, None, None)

    def blocks(self, cut: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The method that cuts queries into blocks, with the queries served."""
        return lambda queries: cut(self._give("q", queries))

    def contexts(self, cut: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The method that cuts keys, values and masks into surroundings, with keys and values served."""

        def served(part: Tensor) -> Tensor:
            if part.ndim < 4 or not self._next:
                return cut(part)
            point = self._next.pop(0)
            part = self._give(point, part)
            self._values = part if point == "v" else None
            return cut(part)

        return served

    def _give(self, point: str, part: Float[Tensor, "clip frame head d"]) -> Float[Tensor, "clip frame head d"]:
        served = self._spot.give(point, rearrange(part, "clip frame head d -> clip head frame d"))
        return rearrange(served, "clip head frame d -> clip frame head d")

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every function as it is, but for the one softmax behind the values."""
        kwargs = kwargs or {}
        if func is not functional.softmax or self._values is None or args[0].ndim != 5:
            return func(*args, **kwargs)
        values, self._values = self._values, None
        if not (self._spot.wants("scores") or self._spot.wants("pattern")):
            return func(*args, **kwargs)
        return self._weights(args[0], lambda scores: func(scores, *args[1:], **kwargs).to(values.dtype), values)

    def _weights(
        self,
        scores: Float[Tensor, "clip head block frame context"],
        weigh: Callable[[Tensor], Tensor],
        values: Float[Tensor, "clip key head d"],
    ) -> Float[Tensor, "clip head block frame context"]:
        """Serve scores and pattern; the weights that the module goes on with."""
        band = Band.of(self._module, values.shape[1], scores.device)
        masked = scores < -self._module.softcap
        masked = masked & ~masked.all(-1, keepdim=True)
        if self._spot.wants("scores"):
            visible = scores.masked_fill(masked, -torch.inf)
            served, changed = serve(self._spot, "scores", band.whole(visible, -torch.inf))
            if changed or _in_graph(served):
                scores = band.blocks(served, visible).masked_fill(masked, -torch.inf)
        weights = weigh(scores)
        if self._spot.wants("pattern"):
            served, changed = serve(self._spot, "pattern", band.whole(weights, 0.0))
            if changed:
                outside = served.masked_fill(band.inside, 0.0)
                self._beyond = torch.einsum("chqk,ckhd->cqhd", outside, values) if outside.any() else None
            if changed or _in_graph(served):
                weights = band.blocks(served, weights)
        return weights

    def heads(self, _module: Network, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Serve the heads' outputs, with what an edited pattern takes from frames that the module cannot reach."""
        beyond, self._beyond = self._beyond, None
        z = args[0].unflatten(-1, (int(self._module.num_heads), -1))
        z = z if beyond is None else z + beyond.to(z.dtype)
        return (self._spot.give("z", z).flatten(2), *args[1:])


def _in_graph(served: Tensor) -> bool:
    return torch.is_grad_enabled() and served.requires_grad


@dataclass(frozen=True)
class Band:
    """The places of blocks and their surroundings in a matrix over whole clips.

    Attributes:
        frames: Frames of a clip.
        past: Frames before a block that it sees.
        columns: Per block and place in its surroundings, the frame there, plus `past`.
        real: Per block, frame and place in its surroundings, whether both frames are of the clip.
        size: Frames of a block.
    """

    frames: int
    past: int
    columns: Int[Tensor, "block context"]
    real: Bool[Tensor, "block frame context"]
    size: int

    @classmethod
    def of(cls, module: Network, frames: int, device: torch.device) -> Band:
        """The band of a module, for clips of so many frames."""
        size, past = int(module.chunk_size), int(module.max_past_horizon)
        starts = torch.arange(0, frames, size, device=device)
        columns = starts[:, None] + torch.arange(int(module.context_size), device=device)
        queries = starts[:, None] + torch.arange(size, device=device)
        keys = columns - past
        real = (queries < frames)[:, :, None] & ((keys >= 0) & (keys < frames))[:, None]
        return cls(frames, past, columns, real, size)

    @property
    def _width(self) -> int:
        return int(self.columns[-1, -1]) + 1

    @property
    def inside(self) -> Bool[Tensor, "query key"]:
        """The keys that the windows hold."""
        return self.whole(self.real[None, None].float(), 0.0)[0, 0] > 0

    def whole(
        self, blocks: Float[Tensor, "clip head block frame context"], filler: float
    ) -> Float[Tensor, "clip head query key"]:
        """Blocks and their surroundings in their places; `filler` outside of the windows."""
        index = self.columns[:, None].expand(blocks.shape)
        wide = blocks.new_full((*blocks.shape[:-1], self._width), filler).scatter(-1, index, blocks)
        return wide.flatten(2, 3)[:, :, : self.frames, self.past : self.past + self.frames]

    def blocks(
        self, whole: Float[Tensor, "clip head query key"], own: Float[Tensor, "clip head block frame context"]
    ) -> Float[Tensor, "clip head block frame context"]:
        """The blocks and surroundings of a whole matrix; where it has no entry for them, their own."""
        right = self._width - self.past - self.frames
        wide = functional.pad(whole, (self.past, right, 0, len(self.columns) * self.size - self.frames))
        wide = wide.unflatten(2, (len(self.columns), self.size))
        return torch.where(self.real, wide.gather(-1, self.columns[:, None].expand(own.shape)), own)
