"""Nemotron-H-Omni: every kind of decoder layer, three of them with attention; a vision tower that is never used."""

import torch
import transformers

from tests.families.family import (
    ENCODER_LAYERS,
    ENCODER_WIDTH,
    HEADS,
    SPREAD,
    Family,
    text_config,
    unchecked_parts,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

NAMED = {"audio_token": "<so_embedding>", "image_token": "<image>", "video_token": "<video>"}
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *NAMED.values(), "<so_start>", "<so_end>", "<img>", "</img>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
KINDS = ("full_attention", "linear_attention", "full_attention", "moe", "full_attention", "mlp")


def _config(layers):
    text = text_config(IDS, SIZE, layers)
    del text["num_hidden_layers"]
    hybrid = {
        "layers_block_type": [KINDS[layer % len(KINDS)] for layer in range(layers)],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 8,
        "chunk_size": 16,
        "n_routed_experts": 4,
        "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32,
        "rescale_prenorm_residual": False,
    }
    return transformers.NemotronH_Omni_Reasoning_V3_Config(
        text_config={"model_type": "nemotron_h", **text, **hybrid},
        audio_config={
            "hidden_size": ENCODER_WIDTH,
            "intermediate_size": 2 * ENCODER_WIDTH,
            "num_hidden_layers": ENCODER_LAYERS,
            "num_attention_heads": HEADS,
            "num_mel_bins": 128,
            "subsampling_conv_channels": 8,
            "projection_hidden_size": 48,
            "projection_bias": False,
            "initializer_range": SPREAD,
        },
        vision_config={
            "model_type": "radio",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "mlp_ratio": 1.0,
            "max_img_size": 32,
            "image_size": 32,
            "video_temporal_patch_size": 2,
        },
        vision_hidden_size=16,
        projector_hidden_size=16,
        audio_token_id=IDS["<so_embedding>"],
        image_token_id=IDS["<image>"],
        video_token_id=IDS["<video>"],
    )


def _processor():
    with unchecked_parts():
        return transformers.NemotronH_Omni_Reasoning_V3Processor(
            None,
            None,
            byte_level_tokenizer(CONTROL, NAMED),
            transformers.ParakeetFeatureExtractor(feature_size=128),
            chat_template=chatml("<so_embedding>", system=""),
        )


def _tokens(samples):
    """A frame every 10 ms, one more than fit; eight make one token, the last of fewer."""
    return -(-(1 + samples // 160) // 8)


def _features(seconds, seed):
    """The mask leaves out the last frame, which is silent."""
    frames = round(100 * seconds)
    values = torch.randn(1, frames + 1, 128, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(frames + 1)[None] < frames
    return {"input_features": values * mask[..., None], "input_features_mask": mask}


NEMOTRON_H_OMNI = Family(
    name="nemotron_h_omni",
    network_class="NemotronH_Omni_Reasoning_V3",
    control=IDS,
    audio="<so_embedding>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=0.08,
    frame_seconds=0.08,
    shortest=320,
    clip_features=_features,
    clips=(3.2, 3.2),
    layers=len(KINDS),
)
