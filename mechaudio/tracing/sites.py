"""Hook points of a given network: their locations, and how to take the tensor out of what nnsight serves there.

A location serves what a module received, `(args, kwargs)`, or returned, a tensor or a tuple. `take` gives the tensor in
it, as a view wherever the axes are ours and not the module's, so that editing it in place edits the forward pass; `put`
gives what belongs in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NoReturn

import torch
from einops import rearrange
from torch import Tensor

from mechaudio.kinds import MaybeNone
from mechaudio.models.adapter import Adapter, End, Stack
from mechaudio.models.depth import absent, which_layers
from mechaudio.tracing.hook_points import ATTENTION_POINTS, MODEL_POINTS, HookPoint, address, prefix_of

#: The name under which nnsight serves the network itself; every location starts with it.
ROOT = "model"


class HookPointError(RuntimeError):
    """The network is not built as its adapter says."""


class NoSuchHookPoint(LookupError):
    """The class, or one of its layers, does not have this hook point."""


class Sites(dict):
    """Hook points by name; asking for one that does not exist says why.

    Attributes:
        absent: Full name of a hook point that does not exist here -> what to tell who asks for it.
    """

    def __init__(self, sites: Mapping[str, Site], absent: Mapping[str, str]):
        super().__init__(sites)
        self.absent = dict(absent)

    def __missing__(self, point: str) -> NoReturn:
        if point in self.absent:
            raise NoSuchHookPoint(self.absent[point])
        raise KeyError(point)

    def only(self, points: Iterable[str]) -> Sites:
        """Some of them, with what is told about the others."""
        wanted = [point for point in points if point in self]
        return Sites({point: self[point] for point in wanted}, self.absent)


@dataclass(frozen=True)
class Site:
    """One hook point in one layer of one network.

    Attributes:
        name: Short name of the hook point.
        layer: Its layer, `None` for a hook point of the model.
        location: Where nnsight serves it.
        take: What is served there -> the tensor, in our axes.
        put: What is served there, and a tensor in our axes -> what to serve instead.
        in_place: Whether the tensor must be overwritten rather than replaced, because more than one branch reads it.
        in_chunks: Whether it is served chunk after chunk of a long clip, in one forward pass.
        rows: In a trace block, the query rows that `at()` chose; whole scores and patterns are served before them.
    """

    name: str
    layer: int | MaybeNone
    location: str
    take: Callable[[Any], Tensor]
    put: Callable[[Any, Tensor], Any]
    in_place: bool = False
    in_chunks: bool = False
    rows: str = ""

    @property
    def address(self) -> str:
        """The hook point as one would write it in a trace block."""
        written = address(self.name, self.layer)
        block, _, point = written.rpartition(".")
        return f"{block}.at({self.rows.removeprefix('rows_')}).{point}" if self.rows else written

    @property
    def module(self) -> str:
        """The location of the attention module, or output projection, that it is inside of."""
        return self.location.rpartition(".")[0]

    def swap(self, served: Any, value: Tensor) -> Any:
        """Return what to serve so that every later reader of this hook point sees `value`."""
        if not self.in_place:
            return self.put(served, value)
        current = self.take(served)
        if current is not value:
            current.copy_(value)
        return served


def _first(served: Any) -> Tensor:
    return served[0] if isinstance(served, tuple) else served


def _with_first(served: Any, value: Tensor) -> Any:
    return (value, *served[1:]) if isinstance(served, tuple) else value


def _argument(served: Any) -> Tensor:
    args, kwargs = served
    return args[0] if args else kwargs["hidden_states"]


def _with_argument(served: Any, value: Tensor) -> Any:
    args, kwargs = served
    return ((value, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": value})


def _embeds(served: Any) -> Tensor:
    return served[1]["inputs_embeds"]


def _with_embeds(served: Any, value: Tensor) -> Any:
    return served[0], {**served[1], "inputs_embeds": value}


def _with_logits(served: Any, value: Tensor) -> Any:
    changed = served.copy()
    changed["logits"] = value
    return changed


def _turned(heads: Tensor) -> Tensor:
    """Heads before positions or behind them, the other way round."""
    return rearrange(heads, "batch head position d_head -> batch position head d_head")


def _with_turned(_served: Tensor, value: Tensor) -> Tensor:
    return _turned(value)


def _as_is(served: Tensor) -> Tensor:
    return served


def _instead(_served: Any, value: Tensor) -> Tensor:
    return value


def _packed(take: Callable[[Any], Tensor], put: Callable[[Any, Tensor], Any]) -> tuple[Callable, Callable]:
    """All clips of a batch lie behind one another: seen from outside, a batch of one."""
    return (lambda served: take(served)[None]), (lambda served, value: put(served, value[0]))


def _channels_first(take: Callable[[Any], Tensor], put: Callable[[Any, Tensor], Any]) -> tuple[Callable, Callable]:
    """Convolutions pass on `[batch, d_model, position]`: a view with the axes in our order, and back."""
    return (
        lambda served: rearrange(take(served), "batch d_model position -> batch position d_model"),
        lambda served, value: put(served, rearrange(value, "batch position d_model -> batch d_model position")),
    )


def _first_stream(take: Callable, put: Callable) -> tuple[Callable, Callable]:
    """The first of several residual streams that lie behind one another, as a view; the others stay as they are."""

    def with_stream(served: Any, value: Tensor) -> Any:
        return put(served, torch.cat([value[None], take(served)[1:]]))

    return (lambda served: take(served)[0]), with_stream


def attention_location(stack: Stack, layer: int) -> str:
    """The location under which the attention function serves the insides of one layer's attention."""
    return f"{ROOT}.{stack.path(layer)}.{stack.attention}.mechaudio"


def result_location(stack: Stack, layer: int) -> str:
    """The location under which the output projection serves what each head gives."""
    return f"{ROOT}.{stack.path(layer)}.{stack.mixing}.mechaudio.result"


def added_location(stack: Stack, layer: int, point: str) -> tuple[str, str]:
    """Two locations of what attention or the MLP adds: the module's output, and that as it is added.

    They are one where it is added as it is.
    """
    module = f"{ROOT}.{stack.path(layer)}.{stack.adds(point)}"
    place, number = {"attn_out": ("attention", stack.attention_times), "mlp_out": ("mlp", stack.mlp_times)}[point]
    multiplied = number != 1 or place in stack.gates
    return f"{module}.output", f"{module}.mechaudio.added" if multiplied else f"{module}.output"


#: The part of a layer that a hook point lives in; the others live in the layer itself.
_PART_OF = {"resid_mid": "mid_norm", "mlp_post": "mlp", "mlp_out": "mlp", "attn_out": "attention"} | dict.fromkeys(
    ATTENTION_POINTS, "attention"
)


def layer_sites(stack: Stack, prefix: str, layer: int, network_class: str) -> Sites:
    """Every hook point inside one layer, and why the others do not exist."""
    inside = f"{ROOT}.{stack.path(layer)}"
    middle = (f"{inside}.{stack.mid_norm}.input", _argument, _with_argument)
    if stack.mid_norm_adds:
        middle = (f"{inside}.{stack.mid_norm}.output", _first, _with_first)
    places: dict[str, tuple[str, Callable, Callable]] = {
        "resid_pre": (f"{inside}.input", _argument, _with_argument),
        "attn_out": (added_location(stack, layer, "attn_out")[1], _first, _with_first),
        "resid_mid": middle,
        "mlp_post": (f"{inside}.{stack.projecting_down}.input", _argument, _with_argument),
        "mlp_out": (added_location(stack, layer, "mlp_out")[1], _first, _with_first),
        "resid_post": (f"{inside}.output", _first, _with_first),
    }
    sites = {}
    for point, (location, take, put) in places.items():
        if stack.layout == "packed":
            take, put = _packed(take, put)
        if stack.layout == "channels" and point in ("resid_pre", "resid_post"):
            take, put = _channels_first(take, put)
        if stack.layout == "streams" and point in ("resid_pre", "resid_post"):
            take, put = _first_stream(take, put)
        in_place = point == "resid_mid" and not stack.mid_norm_adds
        sites[point] = Site(prefix + point, layer, location, take, put, in_place=in_place, in_chunks=stack.in_chunks)
    base = attention_location(stack, layer)
    for point in ATTENTION_POINTS:
        if point == "mass" and prefix:
            continue  # its groups of keys are groups of prompt positions
        turned = point in ("q", "k", "v")
        take, put = (_turned, _with_turned) if turned else (_as_is, _instead)
        location = result_location(stack, layer) if point == "result" else f"{base}.{point}"
        sites[point] = Site(prefix + point, layer, location, take, put)
    parts = _PART_OF if stack.down is not None or "mlp" in stack.absent else {**_PART_OF, "mlp_post": "down"}
    absent = {
        point: f"{address(prefix + point, layer)} does not exist in {network_class}: {stack.absent[part]}"
        for point, part in parts.items()
        if part in stack.absent and not (point == "mass" and prefix)
    }
    return Sites({point: site for point, site in sites.items() if point not in absent}, absent)


def closing_site(stack: Stack, end: End, name: str, layer: int) -> Site:
    """The residual stream right behind what the MLP added, where a layer does more to it before `resid_post`."""
    take, put = _packed(_argument, _with_argument) if stack.layout == "packed" else (_argument, _with_argument)
    return Site(name, layer, f"{ROOT}.{stack.path(layer)}.{end.closing}.input", take, put)


def model_sites(adapter: Adapter) -> Sites:
    """The hook points that exist once, and why the others do not."""

    def clips(path: str | None, packed: bool) -> tuple[str, Callable, Callable]:
        take, put = _packed(_first, _with_first) if packed else (_first, _with_first)
        return f"{ROOT}.{path}.output", take, put

    places = {
        "audio.final_norm": clips(adapter.encoder.norm, adapter.encoder.layout == "packed"),
        "projector_out": clips(adapter.projector, adapter.projector_layout == "packed"),
        "embed": (
            (f"{ROOT}.{adapter.decoder_module}.input", _embeds, _with_embeds)
            if adapter.merged is None
            else (f"{ROOT}.{adapter.merged}.output", _as_is, _instead)
        ),
        "final_norm": (f"{ROOT}.{adapter.decoder.norm}.output", _first, _with_first),
        "logits": (f"{ROOT}.output", itemgetter("logits"), _with_logits),
    }
    absent = {
        name: f"{address(name, None)} does not exist in {adapter.network_class}: {stack.absent['norm']}"
        for name, stack in (("audio.final_norm", adapter.encoder), ("final_norm", adapter.decoder))
        if "norm" in stack.absent
    }
    return Sites({name: Site(name, None, *place) for name, place in places.items() if name not in absent}, absent)


class SiteMap:
    """Every hook point of one network.

    Attributes:
        depth: Number of layers of the `decoder`, of the `encoder` and of further towers by name.
        stacks: The same names to the stack as it is in each layer.
        layers: The same names to, per layer, its hook points; in the order in which the lists run.
        once: The hook points that exist once in the model.
    """

    def __init__(self, adapter: Adapter, stacks: Mapping[str, Sequence[Stack]]):
        """Args: adapter: the facts about the class; stacks: each list of layers, as it is in each layer."""
        self.depth = {name: len(layers) for name, layers in stacks.items()}
        self.stacks = dict(stacks)
        self.layers = {
            name: [
                layer_sites(stack, prefix_of(name), layer, adapter.network_class) for layer, stack in enumerate(layers)
            ]
            for name, layers in stacks.items()
        }
        self.once = model_sites(adapter)

    def __iter__(self) -> Iterator[Site]:
        """All sites, towers first."""
        for layers in self.layers.values():
            for layer in layers:
                yield from layer.values()
        yield from self.once.values()

    def find(self, point: HookPoint) -> list[Site]:
        """The sites that a hook point names: in the layers it gives, or else in every layer that has it.

        Raises:
            IndexError: A layer that the network does not have.
            NoSuchHookPoint: It does not exist in this class, or not in a layer that was named.
        """
        if point.name in MODEL_POINTS:
            return [self.once[point.name]]
        if point.stack not in self.depth:
            there = [prefix_of(name) for name in self.depth if name != "decoder"]
            raise NoSuchHookPoint(f"{point.name!r} is in a tower that this class does not have; its towers are {there}")
        depth = self.depth[point.stack]
        chosen = range(depth) if point.layers is None else point.layers
        if beyond := absent(chosen, depth):
            stack = f"this {'audio tower' if point.stack == 'encoder' else point.stack}"
            raise IndexError(
                f"{point.name!r} was asked for in layer {beyond[0]}, but {which_layers(chosen, depth, stack)}"
            )
        layers = [self.layers[point.stack][layer % depth] for layer in chosen]
        if point.layers is None and any(point.point in sites for sites in layers):
            layers = [sites for sites in layers if point.point in sites]
        return [sites[point.point] for sites in layers]
