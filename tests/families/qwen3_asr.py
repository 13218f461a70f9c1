"""Qwen3-ASR: text is context in the system turn, the user's turn holds the clip alone."""

import transformers

from tests.families.family import Family, text_config
from tests.families.qwen3_omni_moe import CHUNKED_ENCODER, clip_features, thirteen_a_second
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

NAMED = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *NAMED.values())
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
TEMPLATE = (
    "<|im_start|>system\n{% for message in messages %}{% if message.role == 'system' %}"
    "{% for item in message.content %}{{ item.text }}{% endfor %}{% endif %}{% endfor %}<|im_end|>\n"
    "<|im_start|>user\n{% for message in messages %}{% if message.role == 'user' %}{% for item in message.content %}"
    "{% if item.type == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}<|im_end|>\n{% for message in messages %}{% if message.role == 'assistant' %}"
    "<|im_start|>assistant\n{{ message.content[0].text }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _config(layers):
    encoder = {key: value for key, value in CHUNKED_ENCODER.items() if key != "max_source_positions"}
    return transformers.Qwen3ASRConfig(
        text_config={"model_type": "qwen3", **text_config(IDS, SIZE, layers)},
        audio_config={"model_type": "qwen3_asr_encoder", **encoder},
        audio_token_id=IDS["<|audio_pad|>"],
        tie_word_embeddings=False,
    )


def _processor():
    from transformers import Qwen3ASRFeatureExtractor

    tokenizer = byte_level_tokenizer(CONTROL, NAMED)
    return transformers.Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=TEMPLATE)


def _tokens(samples):
    """13 a second; shorter clips are filled up to half a second."""
    return thirteen_a_second(max(samples, 8000))


def _clip_features(seconds, seed):
    return clip_features(seconds, seed, mask="input_features_mask")


QWEN3_ASR = Family(
    name="qwen3_asr",
    network_class="Qwen3ASRForConditionalGeneration",
    control=IDS,
    audio="<|audio_pad|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=1 / 13,
    frame_seconds=0.08,
    filled_up=8000,
    clip_features=_clip_features,
    takes_questions=False,
)
