"""Qwen3-Omni thinker: chunks of one second, attention windows of two."""

import torch
import transformers
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig

from tests.families.family import (
    D_MODEL,
    ENCODER,
    NO_IMAGES,
    SPREAD,
    Family,
    text_config,
    unchecked_parts,
    whisper_extractor,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

NAMED = {
    "audio_token": "<|audio_pad|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *NAMED.values())
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
CHUNKED_ENCODER = {**ENCODER, "n_window": 50, "n_window_infer": 200, "downsample_hidden_size": 8, "output_dim": D_MODEL}


def _config(layers):
    text = text_config(IDS, SIZE, layers)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": D_MODEL}
    return Qwen3OmniMoeThinkerConfig(
        text_config={**text, **experts},
        audio_config=CHUNKED_ENCODER,
        vision_config={**vision, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        audio_token_id=IDS["<|audio_pad|>"],
        image_token_id=IDS["<|image_pad|>"],
        video_token_id=IDS["<|video_pad|>"],
        audio_start_token_id=IDS["<|audio_start|>"],
        audio_end_token_id=IDS["<|audio_end|>"],
        vision_start_token_id=IDS["<|vision_start|>"],
        vision_end_token_id=IDS["<|vision_end|>"],
        initializer_range=SPREAD,
    )


def _processor():
    template = chatml("<|audio_start|><|audio_pad|><|audio_end|>", system="")
    with unchecked_parts():
        return transformers.Qwen3OmniMoeProcessor(
            NO_IMAGES, NO_IMAGES, whisper_extractor(), byte_level_tokenizer(CONTROL, NAMED), chat_template=template
        )


def thirteen_a_second(samples):
    """Three halvings, rounded up, of every second on its own: 100 frames make 13 tokens."""
    seconds, rest = divmod(samples // 160, 100)
    for _ in range(3):
        rest = (rest + 1) // 2
    return 13 * seconds + rest


def clip_features(seconds, seed, mask="feature_attention_mask"):
    """Features in whole seconds up to the longest clip that the tests have."""
    frames = round(100 * seconds)
    features = torch.randn(1, 128, 400, generator=torch.Generator().manual_seed(seed))
    return {"input_features": features, mask: (torch.arange(400) < frames).long()[None]}


QWEN3_OMNI_MOE = Family(
    name="qwen3_omni_moe_thinker",
    network_class="Qwen3OmniMoeThinkerForConditionalGeneration",
    control=IDS,
    audio="<|audio_pad|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=thirteen_a_second,
    token_seconds=1 / 13,
    frame_seconds=0.08,
    shortest=201,
    clip_features=clip_features,
)
