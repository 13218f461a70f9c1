"""Music Flamingo: its processor puts the audio tokens between two control tokens."""

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

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>", "<|sound_bos|>", "<|sound_eos|>")
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)


def _config(layers):
    return transformers.MusicFlamingoConfig(
        text_config={"model_type": "qwen2", **text_config(IDS, SIZE, layers)},
        audio_config={"model_type": "audioflamingo3_encoder", **RENAMED_ENCODER},
        audio_token_id=IDS["<sound>"],
        audio_bos_token_id=IDS["<|sound_bos|>"],
        audio_eos_token_id=IDS["<|sound_eos|>"],
        initializer_range=SPREAD,
    )


def _processor():
    tokenizer = byte_level_tokenizer(CONTROL, {"audio_token": "<sound>"})
    return transformers.MusicFlamingoProcessor(whisper_extractor(), tokenizer, chat_template=chatml("<sound>"))


MUSIC_FLAMINGO = Family(
    name="musicflamingo",
    network_class="MusicFlamingoForConditionalGeneration",
    control=IDS,
    audio="<sound>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=whisper_tokens,
    clip_features=whisper_features("input_features_mask"),
)
