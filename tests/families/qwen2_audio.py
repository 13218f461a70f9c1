"""Qwen2-Audio: its template numbers the clips and adds a default system turn."""

import transformers

from tests.families.family import (
    ENCODER,
    SPREAD,
    Family,
    text_config,
    whisper_extractor,
    whisper_features,
    whisper_tokens,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
NAMED = {"audio_token": "<|AUDIO|>", "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)


def _config(layers):
    return transformers.Qwen2AudioConfig(
        text_config={"model_type": "qwen2", **text_config(IDS, SIZE, layers)},
        audio_config={"model_type": "qwen2_audio_encoder", **ENCODER},
        audio_token_index=IDS["<|AUDIO|>"],
        initializer_range=SPREAD,
    )


def _processor():
    template = chatml("{% set clips.n = clips.n + 1 %}Audio {{ clips.n }}: <|audio_bos|><|AUDIO|><|audio_eos|>\n")
    tokenizer = byte_level_tokenizer(CONTROL, NAMED)
    return transformers.Qwen2AudioProcessor(whisper_extractor(), tokenizer, chat_template=template)


QWEN2_AUDIO = Family(
    name="qwen2_audio",
    network_class="Qwen2AudioForConditionalGeneration",
    control=IDS,
    audio="<|AUDIO|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=whisper_tokens,
    clip_features=whisper_features("feature_attention_mask"),
)
