"""The tiny network's configuration, and its forward pass written out for packed training rows.

The network is the library's `Qwen2AudioForConditionalGeneration`. `packed_logits` computes the same numbers from the
same parameters, but takes any mask and any positions per row and compiles without graph breaks.
"""

import math

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from mechaudio.models.network import Network
from mechaudio.models.tiny.language import AUDIO, MAX_AUDIO_TOKENS, PAD, TURN_END, VOCABULARY

D_MODEL = 128
ENCODER_LAYERS, ENCODER_HEADS = 4, 4
DECODER_LAYERS, DECODER_HEADS, DECODER_MLP = 6, 8, 384
ENCODER_FRAMES = 2 * MAX_AUDIO_TOKENS
ROPE_BASE = 10_000.0
_INITIAL_SPREAD = 0.05


def build_config() -> Qwen2AudioConfig:
    """2.3 M parameters; 10 s windows give 500 encoder frames and 250 audio tokens of 40 ms."""
    return Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 128,
            "encoder_layers": ENCODER_LAYERS,
            "encoder_attention_heads": ENCODER_HEADS,
            "encoder_ffn_dim": 4 * D_MODEL,
            "d_model": D_MODEL,
            "max_source_positions": ENCODER_FRAMES,
            "initializer_range": _INITIAL_SPREAD,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": D_MODEL,
            "intermediate_size": DECODER_MLP,
            "num_hidden_layers": DECODER_LAYERS,
            "num_attention_heads": DECODER_HEADS,
            "num_key_value_heads": DECODER_HEADS,
            "vocab_size": 8 * math.ceil(len(VOCABULARY) / 8),
            "max_position_embeddings": 1024,
            "initializer_range": _INITIAL_SPREAD,
            "pad_token_id": PAD,
            "bos_token_id": None,
            "eos_token_id": TURN_END,
            "tie_word_embeddings": False,
        },
        audio_token_index=AUDIO,
        initializer_range=_INITIAL_SPREAD,
        pad_token_id=PAD,
    )


def _sinusoids(length: int, width: int) -> Float[Tensor, "length width"]:
    rates = torch.exp(-math.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def build_network(seed: int) -> Qwen2AudioForConditionalGeneration:
    """An untrained network.

    The encoder's position table, random and frozen in the library, starts as sinusoids and learns.
    """
    torch.manual_seed(seed)
    network = Qwen2AudioForConditionalGeneration(build_config())
    positions = network.model.audio_tower.embed_positions
    with torch.no_grad():
        positions.weight.copy_(0.5 * _sinusoids(ENCODER_FRAMES, D_MODEL))
    positions.requires_grad_(True)
    return network


def audio_embeddings(
    network: Network, mel: Float[Tensor, "batch 128 1000"], heard: Bool[Tensor, "batch 500"]
) -> Float[Tensor, "batch 250 d_model"]:
    """Audio tokens after the projector; encoder frames that are not `heard` (padding) are hidden from the others."""
    tower = network.model.audio_tower
    x = functional.gelu(functional.conv1d(mel, tower.conv1.weight, tower.conv1.bias, padding=1))
    x = functional.gelu(functional.conv1d(x, tower.conv2.weight, tower.conv2.bias, stride=2, padding=1))
    x = rearrange(x, "batch d_model frame -> batch frame d_model") + tower.embed_positions.weight
    bias = torch.zeros_like(heard, dtype=x.dtype).masked_fill(~heard, -1e4)
    bias = bias[:, None, None, :].expand(-1, 1, ENCODER_FRAMES, -1)
    for layer in tower.layers:
        norm, attention = layer.self_attn_layer_norm, layer.self_attn
        y = functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias)
        q, k, v = (
            rearrange(functional.linear(y, part.weight, part.bias), "b s (h d) -> b h s d", h=ENCODER_HEADS)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        z = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        z = rearrange(z, "b h s d -> b s (h d)")
        x = x + functional.linear(z, attention.out_proj.weight, attention.out_proj.bias)
        norm = layer.final_layer_norm
        y = functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias)
        y = functional.gelu(functional.linear(y, layer.fc1.weight, layer.fc1.bias))
        x = x + functional.linear(y, layer.fc2.weight, layer.fc2.bias)
    x = reduce(x, "b (token two) d -> b token d", "mean", two=2)
    x = functional.layer_norm(x, tower.layer_norm.normalized_shape, tower.layer_norm.weight, tower.layer_norm.bias)
    projector = network.model.multi_modal_projector.linear
    return functional.linear(x, projector.weight, projector.bias)


def _rms_norm(x: Tensor, norm: Network) -> Tensor:
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * scaled.to(x.dtype)


def _rotate(x: Float[Tensor, "b h s d"], cosine: Tensor, sine: Tensor) -> Float[Tensor, "b h s d"]:
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat([-second, first], -1) * sine


def packed_logits(
    network: Network,
    ids: Int[Tensor, "batch position"],
    audio: Float[Tensor, "batch token d_model"],
    audio_start: int,
    positions: Int[Tensor, "batch position"],
    bias: Float[Tensor, "batch 1 position position"],
) -> Float[Tensor, "batch position vocab"]:
    """The decoder's logits with `audio` in place of the tokens from `audio_start` on.

    Args:
        network: the library's model.
        ids: token ids.
        audio: audio tokens.
        audio_start: where they belong.
        positions: each token's position, for the rotary embedding.
        bias: added to the attention scores, very negative where a query may not look.
    """
    decoder = network.model.language_model
    words = functional.embedding(ids, decoder.embed_tokens.weight).to(audio.dtype)
    x = torch.cat([words[:, :audio_start], audio, words[:, audio_start + audio.shape[1] :]], 1)
    half = D_MODEL // DECODER_HEADS // 2
    rates = ROPE_BASE ** (-torch.arange(half, device=ids.device).float() / half)
    angles = positions[:, None, :, None].float() * torch.cat([rates, rates])
    cosine, sine = angles.cos(), angles.sin()
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        y = _rms_norm(x, layer.input_layernorm)
        q, k, v = (
            rearrange(functional.linear(y, part.weight, part.bias), "b s (h d) -> b h s d", h=DECODER_HEADS)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = _rotate(q, cosine, sine).to(v.dtype), _rotate(k, cosine, sine).to(v.dtype)
        z = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + functional.linear(rearrange(z, "b h s d -> b s (h d)"), attention.o_proj.weight)
        y = _rms_norm(x, layer.post_attention_layernorm)
        gate = functional.silu(functional.linear(y, mlp.gate_proj.weight))
        x = x + functional.linear(gate * functional.linear(y, mlp.up_proj.weight), mlp.down_proj.weight)
    return functional.linear(_rms_norm(x, decoder.norm), network.lm_head.weight)
