"""Gemma 4: full and sliding attention with heads of two widths, shared keys and values, per-layer inputs; no vision."""

from inspect import signature

import torch
import transformers
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextModel

from tests.families.family import (
    ENCODER_LAYERS,
    ENCODER_WIDTH,
    HEADS,
    SPREAD,
    WINDOW_SECONDS,
    Family,
    text_config,
    unchecked_parts,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

NAMED = {
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
}
CONTROL = ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", *NAMED.values(), "<|video|>")
#: In transformers 5.20, layers that share keys and values compute every position of a prompt in a generation too.
LAST_ALONE = "logits_to_keep" in signature(Gemma4TextModel.forward).parameters
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
BANDS = 32

TEMPLATE = (
    "<bos>{% for message in messages %}<|turn>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if item.type == 'audio' %}<|audio|>{% else %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endif %}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


def _config(layers):
    kinds = ["full_attention", "sliding_attention"] * layers
    return transformers.Gemma4Config(
        text_config={
            **text_config(IDS, SIZE, layers, pad="<pad>", end="<turn|>"),
            "global_head_dim": 32,
            "layer_types": [*kinds[: layers - 1], "full_attention"],
            "num_kv_shared_layers": 1,
            "sliding_window": 48,
            "vocab_size_per_layer_input": SIZE,
            "hidden_size_per_layer_input": 8,
            "final_logit_softcapping": 30.0,
        },
        audio_config={
            "hidden_size": ENCODER_WIDTH,
            "num_hidden_layers": ENCODER_LAYERS,
            "num_attention_heads": HEADS,
            "subsampling_conv_channels": [BANDS, 8],
            "output_proj_dims": 48,
            "initializer_range": SPREAD,
        },
        vision_config=None,
        tie_word_embeddings=False,
        initializer_range=SPREAD,
        audio_token_id=IDS["<|audio|>"],
        boa_token_id=IDS["<|audio>"],
        eoa_token_index=IDS["<audio|>"],
        image_token_id=IDS["<|image|>"],
        boi_token_id=IDS["<|image>"],
        eoi_token_id=IDS["<image|>"],
        video_token_id=IDS["<|video|>"],
    )


def _processor():
    with unchecked_parts():
        return transformers.Gemma4Processor(
            transformers.Gemma4AudioFeatureExtractor(feature_size=BANDS),
            None,
            byte_level_tokenizer(CONTROL, NAMED, pad="<pad>", end="<turn|>"),
            None,
            chat_template=TEMPLATE,
        )


def _tokens(samples):
    """A frame needs the 10 ms before and behind it, and one more sample; four make one token, the last of fewer."""
    return -(-((min(samples, 480_000) - 1) // 160) // 4)


def _features(seconds, seed):
    """A clip in the place of the longest, with the mask of its frames."""
    frames, window = (round(16_000 * seconds) - 1) // 160, 100 * WINDOW_SECONDS
    values = torch.randn(1, window, BANDS, generator=torch.Generator().manual_seed(seed))
    real = (torch.arange(window) < frames)[None]
    return {"input_features": values * real[..., None], "input_features_mask": real}


def _train(network):
    """Layers end in a scale, in place, that is one in every new network."""
    for layer in network.model.language_model.layers:
        layer.layer_scalar.fill_(0.8)


GEMMA_4 = Family(
    name="gemma4",
    network_class="Gemma4ForConditionalGeneration",
    control=IDS,
    audio="<|audio|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    frame_seconds=0.04,
    shortest=161,
    window=480_000,
    clip_features=_features,
    pad="<pad>",
    end="<turn|>",
    train=_train,
)
