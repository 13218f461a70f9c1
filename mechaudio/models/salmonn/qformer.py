"""The layers of Q-Formers, and SALMONN's window Q-Former: one query reads every third of a second of the encoders.

Layers are in the shape of BERT's and end in norms: self-attention of the queries, attention to frames, an MLP. No query
waits for another: their attention is not causal. In the window Q-Former there are two layers and one query per window
of 17 frames; windows do not see each other. Parameters are named as in the released checkpoints.
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mechaudio.models.network import Network
from mechaudio.models.salmonn.beats import eager_attention


class Named(nn.Module):
    """A module that only holds others under the names of the checkpoints."""

    def __init__(self, **parts: Network):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class QFormerAttention(nn.Module):
    """Attention whose output is what it adds: the norm behind it, which is kept here, is applied by the layer."""

    is_causal = False

    def __init__(self, config: BertConfig, width_seen: int):
        """Args: config: sizes; width_seen: width of what keys and values are made from."""
        super().__init__()
        self.config, self.heads, width = config, config.num_attention_heads, config.hidden_size
        self.head_dim = width // self.heads
        projections = Named(
            query=nn.Linear(width, width), key=nn.Linear(width_seen, width), value=nn.Linear(width_seen, width)
        )
        self.add_module("self", projections)
        self.output: Network = Named(
            dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=config.layer_norm_eps)
        )

    def heads_of(self, name: str, states: Tensor) -> Float[Tensor, "window head token d_head"]:
        """Return the queries, keys or values of states."""
        projected = getattr(self.get_submodule("self"), name)(states)
        return rearrange(projected, "window token (head d_head) -> window head token d_head", head=self.heads)

    def importance(self, hidden_states: Tensor, seen: Tensor) -> Float[Tensor, " window"]:
        """Return the mean over heads and keys of the weights of a window's query, as the release computes it.

        The weights of a query sum to one, so this is one over the number of keys, up to rounding.
        """
        scores = self.heads_of("query", hidden_states) @ self.heads_of("key", seen).mT * self.head_dim**-0.5
        return rearrange(scores.softmax(-1), "window head 1 key -> window head key").mean(1).mean(-1)

    def forward(self, hidden_states: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return what attention to the states that are seen (by default the queries' own) adds."""
        seen = hidden_states if seen is None else seen
        queries, keys, values = (
            self.heads_of("query", hidden_states),
            self.heads_of("key", seen),
            self.heads_of("value", seen),
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        mixed, _ = attend(self, queries, keys, values, None, scaling=self.head_dim**-0.5)
        return self.output.dense(rearrange(mixed, "window token head d_head -> window token (head d_head)"))


class QFormerIntermediate(nn.Module):
    """The first half of the MLP."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the neurons."""
        return functional.gelu(self.dense(hidden_states))


class QFormerLayer(nn.Module):
    """Attention of the queries, attention to the frames, and an MLP, each followed by a norm."""

    def __init__(self, config: BertConfig, width_seen: int, mlp: str = "_query"):
        """Args: config: sizes; width_seen: width of the frames; mlp: what ends the names of the MLP's two halves."""
        super().__init__()
        width = config.hidden_size
        self.attention = QFormerAttention(config, width)
        self.crossattention = QFormerAttention(config, width_seen)
        self.halves = (f"intermediate{mlp}", f"output{mlp}")
        self.add_module(self.halves[0], QFormerIntermediate(config))
        back = nn.Linear(config.intermediate_size, width)
        norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.add_module(self.halves[1], Named(dense=back, LayerNorm=norm))

    def between(self, hidden_states: Tensor) -> Tensor:
        """Return the states behind the queries' own attention, which attend to the frames."""
        return self.attention.output.LayerNorm(self.attention(hidden_states) + hidden_states)

    def forward(self, hidden_states: Tensor, seen: Tensor) -> Tensor:
        """Return the queries' states behind the layer."""
        states = self.between(hidden_states)
        states = self.crossattention.output.LayerNorm(self.crossattention(states, seen) + states)
        halves: list[Network] = [self.get_submodule(half) for half in self.halves]
        first, second = halves
        return second.LayerNorm(second.dense(first(states)) + states)


class QFormer(nn.Module):
    """The queries of every window through the layers."""

    def __init__(self, config: BertConfig, width_seen: int):
        super().__init__()
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        layers = nn.ModuleList(QFormerLayer(config, width_seen) for _ in range(config.num_hidden_layers))
        self.bert: Network = Named(embeddings=Named(LayerNorm=norm), encoder=Named(layer=layers))

    def forward(
        self, queries: Float[Tensor, "window query width"], seen: Float[Tensor, "window frame width_seen"]
    ) -> tuple[Float[Tensor, "window query width"], Float[Tensor, "window query width"]]:
        """Return the queries' states behind the last layer, and those in front of it."""
        states = before = self.bert.embeddings.LayerNorm(queries)
        for layer in self.bert.encoder.layer:
            before, states = states, layer(states, seen)
        return states, before
