"""The toy's network: transformers' own Qwen2-Audio class, with every weight written by `tower` and `decoder`."""

from __future__ import annotations

import torch
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

from mechaudio.models.toy.decoder import CARRIER, MLP_WIDTH, ROPE_BASE, write_decoder
from mechaudio.models.toy.features import AUDIO_TOKENS, D_MODEL, N_HEADS
from mechaudio.models.toy.language import VOCABULARY, build_processor
from mechaudio.models.toy.planted import BY_LISTENER, PLANTED
from mechaudio.models.toy.tower import write_projector, write_tower


def build_config() -> Qwen2AudioConfig:
    """Both stacks 64 wide with 4 heads a layer: 2 layers in the tower, 4 in the decoder."""
    assert PLANTED.n_heads == N_HEADS
    return Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 128,
            "encoder_layers": PLANTED.joining[0] + 1,
            "encoder_attention_heads": N_HEADS,
            "encoder_ffn_dim": D_MODEL,
            "d_model": D_MODEL,
            "max_source_positions": 2 * AUDIO_TOKENS,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": D_MODEL,
            "intermediate_size": MLP_WIDTH,
            "num_hidden_layers": PLANTED.n_layers,
            "num_attention_heads": N_HEADS,
            "num_key_value_heads": N_HEADS,
            "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
            "pad_token_id": VOCABULARY["<|endoftext|>"],
            "bos_token_id": None,
            "eos_token_id": VOCABULARY["<|im_end|>"],
            "tie_word_embeddings": False,
        },
        audio_token_index=VOCABULARY["<|AUDIO|>"],
        pad_token_id=VOCABULARY["<|endoftext|>"],
    )


def build_network(
    dtype: torch.dtype = torch.float32, listens: str = PLANTED.listens
) -> Qwen2AudioForConditionalGeneration:
    """The network, its weights computed in float64 and rounded once.

    Args:
        dtype: Type of the weights. Half precision is too coarse: the tower's offsets would swallow the strength of a
            voice.
        listens: The rows that listen: `last`, `question` or `choices`.

    Raises:
        ValueError: For another dtype than float32 and float64, or rows that no toy listens in.
    """
    if listens not in BY_LISTENER:
        raise ValueError(f"the toy's listens= is one of {', '.join(map(repr, BY_LISTENER))}; got {listens!r}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the toy is worked out for torch.float32 and torch.float64, got {dtype}: in half precision its arithmetic "
            "does not hold"
        )
    with torch.random.fork_rng(devices=[]):  # the library draws weights on the CPU, which are all overwritten
        network = Qwen2AudioForConditionalGeneration(build_config()).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        write_tower(network.model.audio_tower, build_processor().feature_extractor.mel_filters)
        write_projector(network.model.multi_modal_projector.linear, CARRIER)
        write_decoder(network.model.language_model, network.lm_head, BY_LISTENER[listens])
    return network.to(dtype).eval()
