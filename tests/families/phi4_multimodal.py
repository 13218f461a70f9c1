"""Phi-4-multimodal: its vision tower is built as small as it gets and never used."""

import torch
import transformers
from transformers.models.phi4_multimodal.configuration_phi4_multimodal import (
    Phi4MultimodalAudioConfig,
    Phi4MultimodalVisionConfig,
)

from tests.families.family import ENCODER_LAYERS, ENCODER_WIDTH, HEADS, SPREAD, Family, text_config, unchecked_parts
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

NAMED = {"audio_token": "<|audio|>", "image_token": "<|image|>"}
CONTROL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|audio|>", "<|image|>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
BANDS = 80

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if item.type == 'audio' %}<|audio|>{% else %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _config(layers):
    text = text_config(IDS, SIZE, layers, end="<|end|>")
    del text["head_dim"]
    return transformers.Phi4MultimodalConfig(
        **text,
        audio_config=Phi4MultimodalAudioConfig(
            hidden_size=ENCODER_WIDTH,
            intermediate_size=2 * ENCODER_WIDTH,
            num_blocks=ENCODER_LAYERS,
            num_attention_heads=HEADS,
            ext_pw_out_channel=ENCODER_WIDTH,
            depthwise_separable_out_channel=ENCODER_WIDTH,
            nemo_conv_channels=8,
            bias_max_distance=50,
            input_size=BANDS,
            audio_token_id=IDS["<|audio|>"],
            initializer_range=SPREAD,
        ),
        vision_config=Phi4MultimodalVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
            crop_size=28,
            image_token_id=IDS["<|image|>"],
        ),
    )


def _processor():
    with unchecked_parts():
        return transformers.Phi4MultimodalProcessor(
            None,
            transformers.Phi4MultimodalFeatureExtractor(),
            byte_level_tokenizer(CONTROL, NAMED, end="<|end|>"),
            chat_template=TEMPLATE,
        )


def _tokens(samples):
    """Frames of 25 ms every 10 ms, none beyond the end; eight make one token, the last of fewer."""
    return -(-((samples - 400) // 160 + 1) // 8)


def _features(seconds, seed):
    frames = (round(16_000 * seconds) - 400) // 160 + 1
    return {
        "audio_input_features": torch.randn(1, frames, BANDS, generator=torch.Generator().manual_seed(seed)),
        "audio_embed_sizes": torch.tensor([_tokens(round(16_000 * seconds))]),
        "audio_attention_mask": torch.ones(1, frames).bool(),
    }


PHI_4_MULTIMODAL = Family(
    name="phi4_multimodal",
    network_class="Phi4MultimodalForCausalLM",
    control=IDS,
    audio="<|audio|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=0.08,
    frame_seconds=0.08,
    shortest=400,
    clip_features=_features,
    clips=(3.2, 3.2),
    end="<|end|>",
)
