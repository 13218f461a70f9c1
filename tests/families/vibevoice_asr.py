"""VibeVoice-ASR: two stages of convolutions instead of six, 3200 samples in one token as always; chunks of 4 s."""

from inspect import signature

import torch
import transformers

from tests.families.family import SPREAD, WINDOW_SECONDS, Family, text_config
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
)
#: Up to transformers 5.22, its forward has no input that leaves the noise out: there, networks have none to add.
NOISE_IS_AN_INPUT = "sample" in signature(transformers.VibeVoiceAsrForConditionalGeneration.forward).parameters
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
RATE, HOP = 24_000, 3200
TOWER = {
    "model_type": "vibevoice_acoustic_tokenizer_encoder",
    "num_filters": 4,
    "downsampling_ratios": [40, 80],
    "depths": [0, 1, 1],  # none at 24,000 numbers a second, in front of the layers
    "hidden_size": 16,
    "layer_scale_init_value": 0.5,
    "initializer_range": 0.1,
    **({} if NOISE_IS_AN_INPUT else {"vae_std": 0.0}),
}
#: What the published template writes for a clip and a text: a text goes in as a hint, and no turn is opened for it.
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant that transcribes audio input into text output in JSON format."
    "<|im_end|>{% for message in messages %}\n<|im_start|>user\n"
    "{% set texts = message.content | selectattr('type', 'equalto', 'text') | list %}"
    "{% for item in message.content %}{% if item.type == 'audio' %}"
    "<|object_ref_start|><|box_start|><|object_ref_end|>\nThis is a <|AUDIO_DURATION|> seconds audio, "
    "{% if texts %}with extra info: {{ texts[0].text }}\n\nPlease{% else %}please{% endif %}"
    " transcribe it with these keys: Start time, End time, Speaker ID, Content"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)


def _config(layers):
    return transformers.VibeVoiceAsrConfig(
        text_config={"model_type": "qwen2", **text_config(IDS, SIZE, layers)},
        acoustic_tokenizer_encoder_config=TOWER,
        semantic_tokenizer_encoder_config={**TOWER, "hidden_size": 8},
        audio_token_id=IDS["<|box_start|>"],
        audio_bos_token_id=IDS["<|object_ref_start|>"],
        audio_eos_token_id=IDS["<|object_ref_end|>"],
        acoustic_tokenizer_chunk_size=RATE * WINDOW_SECONDS,
        initializer_range=SPREAD,
    )


def _processor():
    return transformers.VibeVoiceAsrProcessor(
        transformers.VibeVoiceAcousticTokenizerFeatureExtractor(),
        byte_level_tokenizer(CONTROL, {}),
        chat_template=TEMPLATE,
    )


def _tokens(samples):
    """The clip is filled up to whole tokens with silence."""
    return -(-samples // HOP)


def _features(seconds, seed):
    """A clip that is filled up to whole tokens."""
    samples = round(RATE * seconds)
    values = torch.randn(1, 1, HOP * _tokens(samples), generator=torch.Generator().manual_seed(seed))
    real = torch.arange(values.shape[-1]) < samples
    return {"input_values": 0.1 * values * real, "padding_mask": real.long()[None]}


VIBEVOICE_ASR = Family(
    name="vibevoice_asr",
    network_class="VibeVoiceAsrForConditionalGeneration",
    control=IDS,
    audio="<|box_start|>",
    vocab_size=SIZE,
    config=_config,
    processor=_processor,
    tokens=_tokens,
    token_seconds=3200 / 24_000,
    clip_features=_features,
    takes_questions=False,
    rate=RATE,
    always={"sample": False} if NOISE_IS_AN_INPUT else {},
)
