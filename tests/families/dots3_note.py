"""Dots 3 Note: layers with an indexer beside one with a sliding window and fewer heads; chunks of 4 s, no vision."""

import torch
import transformers

from tests.families.family import (
    D_MODEL,
    ENCODER_LAYERS,
    ENCODER_WIDTH,
    HEADS,
    SPREAD,
    WINDOW_SECONDS,
    Family,
    text_config,
    unchecked_parts,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_comp_pad|>", "<|imgpad|>", "<|video_pad|>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
#: Queries and keys are 24 wide, and values 16.
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}


def _config(layers):
    text = text_config(IDS, SIZE, layers)
    fewer = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 24, **LATENT}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    return transformers.Dots3NoteConfig(
        text_config={
            **text,
            **LATENT,
            **experts,
            **{f"swa_{name}": value for name, value in fewer.items()},
            "num_key_value_heads": HEADS,
            "head_dim": 24,
            "shared_experts_intermediate_size": 32,
            "index_topk": 20,
            "index_head_dim": 16,
            "index_n_heads": 16,  # with few, many keys score zero alike
            "sliding_window": 24,
            "layer_types": ["indexed_attention", "sliding_attention", *["indexed_attention"] * (layers - 2)],
            "first_k_dense_replace": 1,
        },
        audio_config={
            "hidden_size": ENCODER_WIDTH,
            "intermediate_size": 4 * ENCODER_WIDTH,
            "num_hidden_layers": ENCODER_LAYERS,
            "num_attention_heads": HEADS,
            "downsample_hidden_size": 8,
            "adapter_input_size": ENCODER_WIDTH,
            "adapter_out_dim": D_MODEL,
            "initializer_range": SPREAD,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "mlp_layer_types": ["dense"],
            "adapter_in_dim": 16,
            "adapter_out_dim": D_MODEL,
        },
        audio_token_id=IDS["<|audio_comp_pad|>"],
        image_token_id=IDS["<|imgpad|>"],
        video_token_id=IDS["<|video_pad|>"],
    )


def _processor():
    with unchecked_parts():
        return transformers.Dots3NoteProcessor(
            None,
            byte_level_tokenizer(CONTROL, {}),
            None,
            transformers.Dots3NoteFeatureExtractor(chunk_length=WINDOW_SECONDS),
            chat_template=chatml("<|audio_comp_pad|>"),
        )


def _tokens(samples):
    """Three convolutions halve the frames of 10 ms."""
    return -(-samples // 1280)


def _features(seconds, seed):
    """A clip in the place of the longest, and how many samples of it there are."""
    values = torch.randn(1, 128, 100 * WINDOW_SECONDS, generator=torch.Generator().manual_seed(seed))
    return {"input_features": values, "chunk_sample_lengths": torch.tensor([round(16_000 * seconds)])}


DOTS_3_NOTE = Family(
    name="dots3_note",
    network_class="Dots3NoteForConditionalGeneration",
    control=IDS,
    audio="<|audio_comp_pad|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=0.08,
    frame_seconds=0.08,
    layers=4,
    shortest=1,
    clip_features=_features,
)
