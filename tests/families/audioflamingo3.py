"""Audio Flamingo 3."""

import transformers

from tests.families.family import (
    RENAMED_ENCODER,
    SPREAD,
    Family,
    text_config,
    whisper_extractor,
    whisper_features,
    whisper_tokens,
)
from tests.families.words import byte_level_size, byte_level_tokenizer, chatml, ids_of

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)


def _config(layers):
    return transformers.AudioFlamingo3Config(
        text_config={"model_type": "qwen2", **text_config(IDS, SIZE, layers)},
        audio_config={"model_type": "audioflamingo3_encoder", **RENAMED_ENCODER},
        audio_token_id=IDS["<sound>"],
        initializer_range=SPREAD,
    )


def _processor():
    tokenizer = byte_level_tokenizer(CONTROL, {"audio_token": "<sound>"})
    return transformers.AudioFlamingo3Processor(whisper_extractor(), tokenizer, chat_template=chatml("<sound>"))


AUDIO_FLAMINGO_3 = Family(
    name="audioflamingo3",
    network_class="AudioFlamingo3ForConditionalGeneration",
    control=IDS,
    audio="<sound>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=whisper_tokens,
    clip_features=whisper_features("input_features_mask"),
)
