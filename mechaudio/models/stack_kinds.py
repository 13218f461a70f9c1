"""Stacks of particular kinds, and what the stacks of many classes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from mechaudio.models.stack import Between, Stack


@dataclass(frozen=True)
class MixedStack(Stack):
    """A list of layers of several kinds, which the stack's config lists under `layer_types`.

    Attributes:
        kinds: Kind of layer -> the stack as it is in the layers of this kind; where the list is and its config are
            those of the whole.
    """

    kinds: Mapping[str, Stack] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Take every part from the kinds."""

    def in_layer(self, config: Any, layer: int) -> Stack:
        """The stack as it is in the layers of this one's kind.

        Raises:
            KeyError: The config names a kind of layer that the adapter does not know.
        """
        kind = self.own_config(config).layer_types[layer]
        if kind not in self.kinds:
            raise KeyError(f"{self.layers}.{layer} is of kind {kind!r}; the adapter knows {sorted(self.kinds)}")
        return replace(self.kinds[kind], layers=self.layers, norm=self.norm, config=self.config)


@dataclass(frozen=True)
class WaveformTower(Stack):
    """Two towers of convolutions over the waveform, built alike, that run side by side.

    They hear a long clip chunk after chunk, each remembering the end of the last.

    Attributes:
        beside: Path of the second list of layers, which are counted on behind those of the first.
        first: Number of the first layer in the list.
    """

    in_chunks: ClassVar[bool] = True

    beside: str | None = None
    first: int = 0

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of both lists."""
        return (self.layers,) if self.beside is None else (self.layers, self.beside)

    def list_at(self, path: str, first: int) -> Stack:
        """One of the two lists as a stack of its own."""
        return replace(self, layers=path, beside=None, first=first)

    def path(self, layer: int) -> str:
        """Return the path of a layer."""
        return f"{self.layers}.{layer - self.first}"


@dataclass(frozen=True)
class RoundedTower(Stack):
    """A tower whose states become the nearest of a book of codes."""

    rounded: ClassVar[bool] = True


#: What a conformer's layer does beside adding attention and its second, halved feed-forward.
CONFORMER: Mapping[Between, str] = {
    "attention": "half a feed-forward",
    "mlp": "a convolution",
}
#: Why a conformer has no norm after its last layer.
NORMED_LAYERS: Mapping[str, str] = {
    "norm": "each layer of the conformer ends in a norm of its own, so the last audio.resid_post is normed"
}
#: Why layers with experts have no neurons to show.
EXPERTS = (
    "the layer's MLP is a mixture of experts: each position goes to some of them, whose neurons lie in no one tensor"
)
#: The layout that most classes share: a Qwen2- or Llama-like decoder beside a Whisper-like encoder.
DECODER = Stack(
    layers="model.language_model.layers",
    attention="self_attn",
    mid_norm="post_attention_layernorm",
    mlp="mlp",
    norm="model.language_model.norm",
    config="text_config",
)
WHISPER_ENCODER = Stack(
    layers="model.audio_tower.layers",
    attention="self_attn",
    mid_norm="final_layer_norm",
    mlp="fc2",
    down="",
    output="out_proj",
    norm="model.audio_tower.layer_norm",
    config="audio_config",
)
#: Layers of a conformer: half a feed-forward, attention, a convolution, half a feed-forward and a norm.
CONFORMER_LAYERS = Stack(
    layers="model.audio_tower.layers",
    attention="self_attn",
    mid_norm="conv",
    mlp="feed_forward2",
    mlp_times=0.5,
    between=CONFORMER,
    norm=None,
    config="audio_config",
    absent=NORMED_LAYERS,
)
