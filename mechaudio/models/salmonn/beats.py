"""BEATs: an audio encoder over patches of a filterbank, with a position bias that its queries gate.

A patch is 16 frames (160 ms) by 16 bands: of every 160 ms there are eight tokens, one per group of bands, lowest first.
Layers end in their norms (`x <- norm(alpha x + f(x))`, alpha > 1), so the residual stream is scaled as it goes.
Parameters are named as in the released checkpoints.

Reference: Chen et al., BEATs: Audio Pre-Training with Acoustic Tokenizers, ICML 2023, arXiv 2212.09058.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class BeatsConfig(PreTrainedConfig):
    """Sizes of a BEATs encoder under the names of its checkpoints; by default those of iteration 3 (base)."""

    model_type = "beats"
    attribute_map: ClassVar[dict[str, str]] = {
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "encoder_embed_dim",
    }

    def __init__(
        self,
        encoder_layers: int = 12,
        encoder_embed_dim: int = 768,
        encoder_ffn_embed_dim: int = 3072,
        encoder_attention_heads: int = 12,
        embed_dim: int = 512,
        conv_pos: int = 128,
        conv_pos_groups: int = 16,
        num_buckets: int = 320,
        max_distance: int = 800,
        input_patch_size: int = 16,
        conv_bias: bool = False,
        num_mel_bins: int = 128,
        **kwargs,
    ):
        self.encoder_layers = encoder_layers
        self.encoder_embed_dim = encoder_embed_dim
        self.encoder_ffn_embed_dim = encoder_ffn_embed_dim
        self.encoder_attention_heads = encoder_attention_heads
        self.embed_dim = embed_dim
        self.conv_pos = conv_pos
        self.conv_pos_groups = conv_pos_groups
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.input_patch_size = input_patch_size
        self.conv_bias = conv_bias
        self.num_mel_bins = num_mel_bins
        super().__init__(**kwargs)

    def tokens_of_frames(self, frames: int) -> int:
        """Tokens made from so many frames of the filterbank."""
        return frames // self.input_patch_size * (self.num_mel_bins // self.input_patch_size)


class SharedTable(nn.Embedding):
    """The first layer's table of biases in another layer: one parameter, which lies where the first layer is."""

    def __init__(self, first: nn.Embedding):
        super().__init__(first.num_embeddings, first.embedding_dim, _weight=first.weight)
        self.weight = first.weight

    def forward(self, rows: Int[Tensor, "query key"]) -> Float[Tensor, "query key head"]:
        """Return rows of the table, which may lie on another device than the layer."""
        return super().forward(rows.to(self.weight.device))


class BeatsAttention(nn.Module):
    """Self-attention with a bias by distance, which two gates made from the query scale for every query and head."""

    is_causal = False

    def __init__(self, config: BeatsConfig, shared: nn.Embedding | None):
        """Args: config: sizes; shared: the first layer's table of biases, which every layer uses."""
        super().__init__()
        self.config = config
        width, self.heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.head_dim = width // self.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.grep_linear = nn.Linear(self.head_dim, 8)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        table = nn.Embedding(config.num_buckets, self.heads) if shared is None else SharedTable(shared)
        self.relative_attention_bias = table

    def buckets(self, length: int, device: torch.device) -> Int[Tensor, "query key"]:
        """Return the row of the bias table for every query and key: near distances exactly, far ones by logarithm."""
        place = torch.arange(length, device=device)
        away = place[None] - place[:, None]
        half = self.config.num_buckets // 2
        exact = half // 2
        log = torch.log(away.abs().float().clamp(min=1) / exact) / math.log(self.config.max_distance / exact)
        far = (exact + (log * (half - exact)).long()).clamp(max=half - 1)
        return (away > 0).long() * half + torch.where(away.abs() < exact, away.abs(), far)

    def bias(self, queries: Float[Tensor, "clip head query d_head"]) -> Float[Tensor, "clip head query key"]:
        """Return what is added to the scores."""
        by_distance = self.relative_attention_bias(self.buckets(queries.shape[2], queries.device)).to(queries.device)
        gates = rearrange(self.grep_linear(queries), "clip head query (gate part) -> clip head query gate part", gate=2)
        opened, kept = gates.sum(-1).sigmoid().chunk(2, dim=-1)
        return (opened * (kept * self.grep_a - 1) + 2) * rearrange(by_distance, "query key head -> 1 head query key")

    def forward(
        self, hidden_states: Float[Tensor, "clip token width"], padding: Bool[Tensor, "clip token"] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return what attention adds, and the weights where the attention function gives them."""
        queries, keys, values = (
            rearrange(project(hidden_states), "clip token (head d_head) -> clip head token d_head", head=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = self.bias(queries)
        if padding is not None:
            bias = bias.masked_fill(padding[:, None, None], torch.finfo(bias.dtype).min)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        mixed, weights = attend(self, queries, keys, values, bias, scaling=self.head_dim**-0.5)
        return self.out_proj(rearrange(mixed, "clip token head d_head -> clip token (head d_head)")), weights


def eager_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Attention in plain operations, which also gives the weights: transformers' `eager`."""
    scores = query @ key.mT * scaling
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
    return (weights @ value).transpose(1, 2), weights


class BeatsLayer(nn.Module):
    """Attention and MLP, each behind a residual stream that is scaled up and followed by a norm."""

    def __init__(self, config: BeatsConfig, shared: nn.Embedding | None):
        super().__init__()
        width = config.encoder_embed_dim
        self.self_attn = BeatsAttention(config, shared)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.alpha = (2 * config.encoder_layers) ** 0.25

    def forward(self, hidden_states: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return the residual stream behind the layer."""
        attended = self.self_attn(hidden_states, padding)[0]
        middle = self.self_attn_layer_norm(hidden_states * self.alpha + attended)
        return self.final_layer_norm(middle * self.alpha + self.fc2(functional.gelu(self.fc1(middle))))


class PositionalConvolution(nn.Sequential):
    """A convolution that tells tokens where they stand; its weights are made of parts, which are placed together."""


class BeatsEncoder(nn.Module):
    """Positions by convolution, a norm, and the layers."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        width, kernel = config.encoder_embed_dim, config.conv_pos
        convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=config.conv_pos_groups)
        self.pos_conv = PositionalConvolution(nn.utils.parametrizations.weight_norm(convolution, dim=2))
        layers: list[BeatsLayer] = []
        for _ in range(config.encoder_layers):
            layers.append(BeatsLayer(config, layers[0].self_attn.relative_attention_bias if layers else None))
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, hidden_states: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return the last layer's residual stream."""
        if padding is not None:
            hidden_states = hidden_states.masked_fill(padding[..., None].to(hidden_states.device), 0)
        positions = self.pos_conv(hidden_states.mT)[..., : hidden_states.shape[1]]
        hidden_states = self.layer_norm(hidden_states + functional.gelu(positions).mT.to(hidden_states.device))
        for layer in self.layers:
            hidden_states = layer(hidden_states, padding)
        return hidden_states


class Beats(nn.Module):
    """Filterbank frames in, eight tokens per 160 ms out."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.config, size = config, config.input_patch_size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, size, size, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, config.encoder_embed_dim)
        self.encoder = BeatsEncoder(config)

    def forward(
        self, filterbank: Float[Tensor, "clip frame band"], padding: Bool[Tensor, "clip frame"] | None = None
    ) -> Float[Tensor, "clip token width"]:
        """Encode clips.

        Args:
            filterbank: Normalised frames (`mechaudio.models.salmonn.fbank`).
            padding: True at frames behind the end of a clip.
        """
        patches = rearrange(self.patch_embedding(filterbank[:, None]), "clip width time band -> clip (time band) width")
        hidden_states = self.post_extract_proj(self.layer_norm(patches))
        n_tokens = hidden_states.shape[1]
        if padding is None or not padding.any():
            return self.encoder(hidden_states)
        # As released, frames are shared out evenly among tokens here, although eight tokens hear the same frames.
        each = padding.shape[1] // n_tokens
        shared = rearrange(padding[:, : n_tokens * each], "clip (token frame) -> clip token frame", frame=each)
        return self.encoder(hidden_states, shared.all(-1))
