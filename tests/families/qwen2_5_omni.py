"""Qwen2.5-Omni thinker: no default system turn in its template."""

import transformers
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

from tests.families.family import (
    D_MODEL,
    ENCODER,
    NO_IMAGES,
    SPREAD,
    Family,
    text_config,
    unchecked_parts,
    whisper_extractor,
    whisper_features,
    whisper_tokens,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

NAMED = {
    "audio_token": "<|AUDIO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
}
CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
)
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)


def _config(layers):
    text = text_config(IDS, SIZE, layers)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": D_MODEL}
    return Qwen2_5OmniThinkerConfig(
        text_config=text,
        audio_config={**ENCODER, "n_window": 100, "output_dim": D_MODEL},
        vision_config=vision,
        audio_token_index=IDS["<|AUDIO|>"],
        image_token_index=IDS["<|IMAGE|>"],
        video_token_index=IDS["<|VIDEO|>"],
        audio_start_token_id=IDS["<|audio_bos|>"],
        audio_end_token_id=IDS["<|audio_eos|>"],
        vision_start_token_id=IDS["<|vision_bos|>"],
        vision_end_token_id=IDS["<|vision_eos|>"],
        initializer_range=SPREAD,
    )


def _processor():
    template = chatml("<|audio_bos|><|AUDIO|><|audio_eos|>", system="")
    with unchecked_parts():
        return transformers.Qwen2_5OmniProcessor(
            NO_IMAGES, NO_IMAGES, whisper_extractor(), byte_level_tokenizer(CONTROL, NAMED), chat_template=template
        )


QWEN2_5_OMNI = Family(
    name="qwen2_5_omni_thinker",
    network_class="Qwen2_5OmniThinkerForConditionalGeneration",
    control=IDS,
    audio="<|AUDIO|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=whisper_tokens,
    clip_features=whisper_features("feature_attention_mask"),
)
