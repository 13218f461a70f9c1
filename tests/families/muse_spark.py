"""Muse Spark: two stages of convolutions instead of four, full and sliding attention; no vision."""

import torch
import transformers

from tests.families.family import D_MODEL, ENCODER_LAYERS, SPREAD, WINDOW_SECONDS, Family, text_config, unchecked_parts
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

NAMED = {
    "audio_token": "<|audio|>",
    "audio_start_token": "<|soft_audio_start|>",
    "audio_end_token": "<|soft_audio_end|>",
    "image_token": "<|patch|>",
    "image_start_token": "<|image_start|>",
    "image_end_token": "<|image_end|>",
    "video_token": "<|video|>",
}
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *NAMED.values())
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
RATE, HOP = 24_000, 1920


def _config(layers):
    text = text_config(IDS, SIZE, layers)
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "moe_hidden_size": 32}
    return transformers.MuseSparkConfig(
        text_config={
            **text,
            **experts,
            "mlp_layer_types": ["dense", *["sparse"] * (layers - 1)],
            "sliding_window": 48,
            "layer_types": ["full_attention", *["sliding_attention"] * (layers - 2), "full_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
            "output_multiplier": 0.7,
        },
        audio_config={
            "patch_sizes": [48, 40],
            "hidden_sizes": [8, 16],
            "depths": [1] * ENCODER_LAYERS,
            "num_hidden_layers": ENCODER_LAYERS,
            "out_hidden_size": D_MODEL,
            "initializer_range": SPREAD,
        },
        vision_config={
            "num_hidden_layers": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "pos_emb_height": 4,
            "pos_emb_width": 4,
            "patch_size": 4,
            "max_position_embeddings": 16,
        },
        out_hidden_size=64,
        projector_hidden_size=16,
        audio_token_id=IDS["<|audio|>"],
        image_token_id=IDS["<|patch|>"],
        video_token_id=IDS["<|video|>"],
    )


def _processor():
    with unchecked_parts():
        return transformers.MuseSparkProcessor(
            None,
            None,
            byte_level_tokenizer(CONTROL, NAMED),
            transformers.MuseSparkFeatureExtractor(),
            chat_template=chatml("<|audio|>"),
        )


def _tokens(samples):
    """The clip is filled up to whole tokens with silence."""
    return -(-samples // HOP)


def _features(seconds, seed):
    """A clip in the place of the longest, which is a whole number of tokens."""
    values = torch.randn(1, RATE * WINDOW_SECONDS, generator=torch.Generator().manual_seed(seed))
    real = torch.arange(RATE * WINDOW_SECONDS) < round(RATE * seconds)
    return {"input_values": 0.1 * values * real, "input_values_mask": real.int()[None]}


MUSE_SPARK = Family(
    name="muse_spark",
    network_class="MuseSparkForConditionalGeneration",
    control=IDS,
    audio="<|audio|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=0.08,
    frame_seconds=0.002,
    shortest=1,
    clip_features=_features,
    rate=RATE,
)
