"""Lists of layers, and the names of the parts inside each of them.

Paths are relative to the transformers module and written down, never guessed; they are proven when a model is opened.
Conventions: paths are dotted, `None` says that the class has no such part; layers count from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from mechaudio.models.network import Network, device_of
from mechaudio.showing import Shown

#: What a stack may lack.
PARTS = ("attention", "mid_norm", "mlp", "norm")
#: Where a layer may do more to its residual stream than add attn_out and mlp_out.
Between = Literal["attention", "mlp"]


@dataclass(frozen=True)
class InBlocks(Shown):
    """Attention that calls `F.scaled_dot_product_attention` itself, on blocks of its frames.

    Attributes:
        queries: The module inside attention whose output are the queries, also those that a position bias is made from.
    """

    queries: str


@dataclass(frozen=True)
class End(Shown):
    """More that a layer does to its residual stream, behind what its MLP added.

    Attributes:
        does: A noun phrase for it.
        closing: The module inside a layer whose input is the residual stream right behind what the MLP added. A network
            that has no such module does nothing there but scale.
        scaled_by: The tensor inside a layer that its whole residual stream is multiplied by, `None` for none.
    """

    does: str
    closing: str
    scaled_by: str | None = None


@dataclass(frozen=True)
class Stack(Shown):
    """A list of layers and the names of the parts inside each of them.

    A part that a class does not have is `None`, and `absent` says why: the hook points that live in it do not exist,
    and whoever asks for one is told the reason.

    Attributes:
        layers: Path of the list of layers.
        attention: The attention module inside a layer.
        mid_norm: The module inside a layer whose input is the residual stream right behind what attention added; the
            same as `attention` where that module adds by itself, so that its output is that stream.
        mlp: The MLP inside a layer.
        down: Path inside `mlp` of the down projection, which the neurons go into: `""` where `mlp` is that projection
            itself, `None` where there is none, and `absent` says why. A reason beside a path is that of the layers
            whose MLP does not have it.
        norm: Path of the norm after the last layer.
        config: Attribute of the network's config, dotted, that holds this stack's own config, `""` where it is the
            network's.
        layout: `batch` where layers pass on `[batch, position, d_model]`; `packed` where all clips of a batch lie
            behind one another as `[position, d_model]` and attention is confined to windows; `channels` where layers
            pass on `[batch, d_model, position]`; `streams` where they pass on several residual streams,
            `[stream, batch, position, d_model]`, of which attention and MLP work on the first, which is shown.
        insides: Who computes attention: the function that the config names (`registry`), as in most classes; the
            attention module itself with a softmax of its own, in sliding windows (`windows`); or `InBlocks`.
        overwritten: Hook points whose tensors the network goes on to write into.
        absent: Name of a part that is `None` -> why the class has none; a sentence without its subject and full stop.
        output: Path inside the attention module of the output projection, which mixes the heads' `z`.
        z_times: What each head's `z` is multiplied by in front of the output projection, number by number: a noun
            phrase; `None` where the projection takes it as it is.
        attention_norm: The module inside a layer whose output is added to the residual stream in place of attention's
            own, which it norms; `None` where attention's own is added. Its output is `attn_out`.
        mlp_norm: The same behind the MLP. Its output is `mlp_out`.
        attention_times: What that is multiplied by when it is added, a number or the attribute of this stack's config
            that holds it: `attn_out` is the product.
        mlp_times: The same for `mlp_out`.
        between: Where a layer does more to its residual stream than add (`attention`: before attention adds to it,
            `mlp`: between `resid_mid` and what the MLP adds) -> what it does there, a noun phrase. Elsewhere
            `resid_mid` is the sum of `resid_pre` and `attn_out`, and `resid_post` that of `resid_mid` and `mlp_out`.
        gates: The same places -> the module inside a layer that, called with the stream and what is to be added,
            multiplies each number of both by a weight of its own before it adds them. What is added is then that
            product.
        end: What a layer does to its residual stream behind that, `None` where nothing.
        frames_of: Where frames of a tower follow from its features by other steps than those to audio tokens: so many
            samples, and the frames that hear them together; or why its frames hear no stretch of their own.
    """

    #: True if layers hear a long clip chunk after chunk: recorded chunks are joined, an edit is made in each.
    in_chunks: ClassVar[bool] = False
    #: True if what the last layer passes on is rounded to codes, so that a small change of it moves nothing.
    rounded: ClassVar[bool] = False

    layers: str
    attention: str | None
    mid_norm: str | None
    mlp: str | None
    norm: str | None
    config: str
    layout: Literal["batch", "packed", "channels", "streams"] = "batch"
    insides: Literal["registry", "windows"] | InBlocks = "registry"
    overwritten: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict, hash=False)
    output: str = "o_proj"
    down: str | None = "down_proj"
    z_times: str | None = None
    attention_norm: str | None = None
    mlp_norm: str | None = None
    attention_times: float | str = 1.0
    mlp_times: float | str = 1.0
    between: Mapping[Between, str] = field(default_factory=dict, hash=False)
    gates: Mapping[Between, str] = field(default_factory=dict, hash=False)
    end: End | None = None
    frames_of: tuple[int, int] | str | None = None

    def __post_init__(self) -> None:
        """Refuse a missing part without a reason, a reason for a part that is there, and a gap that nobody knows."""
        unknown = set(self.between) - set(get_args(Between))
        if unknown:
            raise ValueError(f"{self.layers}: between= knows {list(get_args(Between))}, got {sorted(unknown)}")
        if set(self.gates) - set(self.between):
            raise ValueError(f"{self.layers}: between= has to say what the gates {sorted(self.gates)} do to the stream")
        missing = {part for part in PARTS if getattr(self, part) is None}
        if missing != set(self.absent) - {"down"}:
            raise ValueError(f"{self.layers}: the parts {sorted(missing)} are None, reasons are {sorted(self.absent)}")
        if self.down is None and self.mlp is not None and "down" not in self.absent:
            raise ValueError(f"{self.layers}: down is None, and absent= does not say why")

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of its lists of layers, in the order in which layers are counted."""
        return (self.layers,)

    def list_at(self, path: str, first: int) -> Stack:  # noqa: ARG002 - there is one list
        """One of the lists as a stack of its own."""
        return self

    @property
    def mid_norm_adds(self) -> bool:
        """True if the output, not the input, of `mid_norm` is the residual stream behind attention."""
        return self.mid_norm is not None and self.mid_norm == self.attention

    def path(self, layer: int) -> str:
        """Return the path of a layer of this list."""
        return f"{self.layers}.{layer}"

    def own_config(self, config: Any) -> Any:
        """This stack's config inside a network's.

        Raises:
            AttributeError: The network's config has none where the adapter says.
        """
        try:
            return attrgetter(self.config)(config) if self.config else config
        except AttributeError as error:
            raise AttributeError(
                f"the adapter says that the config of {self.layers} is {self.config!r} of the network's, and "
                f"{type(config).__name__} has no such attribute"
            ) from error

    def setting(self, config: Any, name: str) -> Any:
        """Read a setting of this stack's config; of one that says it layer by layer, that of all layers but exceptions.

        Raises:
            AttributeError: The network's config has no config of this stack.
        """
        settings = self.own_config(config)
        return vars(settings)[name] if getattr(settings, "is_heterogeneous", False) else getattr(settings, name)

    def times(self, point: str, network: Network, layer: int) -> float | Tensor:
        """Return the number that `attn_out` or `mlp_out` is multiplied by when it is added; at a gate, `[d_model]`."""
        place: Between = "attention" if point == "attn_out" else "mlp"
        if place in self.gates:
            return self._through_gate(place, network, layer, stream=0.0, added=1.0)
        number = {"attention": self.attention_times, "mlp": self.mlp_times}[place]
        return float(getattr(self.own_config(network.config), number) if isinstance(number, str) else number)

    def keeps(self, place: Between, network: Network, layer: int) -> float | Tensor:
        """Return what a gate multiplies the stream by before it adds to it, `[d_model]`; 1 without a gate."""
        return self._through_gate(place, network, layer, stream=1.0, added=0.0) if place in self.gates else 1.0

    def _through_gate(self, place: Between, network: Network, layer: int, *, stream: float, added: float) -> Tensor:
        """Call a gate with a stream and something to add that are one number everywhere."""
        gate = network.get_submodule(f"{self.path(layer)}.{self.gates[place]}")
        like = next(gate.parameters()).new_empty(self.own_config(network.config).hidden_size, device=device_of(gate))
        with torch.no_grad():  # by its forward: this is not one of the calls that a run makes and hooks see
            return gate.forward(torch.full_like(like, stream), torch.full_like(like, added))

    def adds(self, point: str) -> str | None:
        """Path inside a layer of the module whose output, multiplied by `times`, is `attn_out` or `mlp_out`."""
        if point == "mlp_out":
            return self.mlp_norm or self.mlp
        if self.insides == "windows":
            return self.attention_norm or self.mixing
        return self.attention_norm or self.attention

    @property
    def mixing(self) -> str | None:
        """Path inside a layer of attention's output projection."""
        return None if self.attention is None else f"{self.attention}.{self.output}"

    @property
    def projecting_down(self) -> str | None:
        """Path inside a layer of the MLP's down projection."""
        return None if self.mlp is None or self.down is None else f"{self.mlp}.{self.down}".rstrip(".")

    def in_layer(self, config: Any, layer: int) -> Stack:  # noqa: ARG002 - layers of one stack are alike
        """The stack as it is in one layer."""
        return self
