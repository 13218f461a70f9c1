"""Gemma 3n: two of its four streams, shared keys and values, a vision tower that is one parameter and is never used."""

import torch
import transformers
from torch import nn
from transformers import AutoModel, Gemma3nVisionConfig, PreTrainedModel

from tests.families.family import ENCODER_LAYERS, ENCODER_WIDTH, HEADS, SPREAD, Family, text_config, unchecked_parts
from tests.families.words import byte_level_size, byte_level_tokenizer, ids_of

NAMED = {
    "audio_token": "<audio_soft_token>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
CONTROL = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *NAMED.values())
IDS, SIZE = ids_of(CONTROL), byte_level_size(CONTROL)
SOFT = 4  # embeddings of the vision tower's own vocabulary, and of the audio tower's, behind those of text

TEMPLATE = (
    "<bos>{% for message in messages %}<start_of_turn>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}"
    "{% if item.type == 'audio' %}<audio_soft_token>{% else %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


class NoVision(PreTrainedModel):
    """In the place of the vision tower, whose real one comes from the package timm and sees no image here."""

    config_class = Gemma3nVisionConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.unused = nn.Parameter(torch.zeros(1))
        self.post_init()


AutoModel.register(Gemma3nVisionConfig, NoVision, exist_ok=True)


def _config(layers):
    kinds = ["full_attention", "sliding_attention"] * layers
    return transformers.Gemma3nConfig(
        text_config={
            **text_config(IDS, SIZE + 2 * SOFT, layers, pad="<pad>", end="<end_of_turn>"),
            "layer_types": [*kinds[: layers - 1], "full_attention"],
            "num_kv_shared_layers": 1,
            "sliding_window": 48,
            "vocab_size_per_layer_input": SIZE,
            "hidden_size_per_layer_input": 8,
            "altup_num_inputs": 4,
            "laurel_rank": 8,
        },
        audio_config={
            "vocab_size": SOFT,
            "vocab_offset": SIZE + SOFT,
            "hidden_size": ENCODER_WIDTH,
            "conf_num_hidden_layers": ENCODER_LAYERS,
            "conf_num_attention_heads": HEADS,
            "sscp_conv_channel_size": [16, 8],
            "initializer_range": SPREAD,
        },
        vision_config={"vocab_size": SOFT, "vocab_offset": SIZE, "hidden_size": 16},
        tie_word_embeddings=False,
        initializer_range=SPREAD,
        audio_token_id=IDS["<audio_soft_token>"],
        boa_token_id=IDS["<start_of_audio>"],
        eoa_token_id=IDS["<end_of_audio>"],
        image_token_id=IDS["<image_soft_token>"],
        boi_token_id=IDS["<start_of_image>"],
        eoi_token_id=IDS["<end_of_image>"],
    )


def _processor():
    with unchecked_parts():
        return transformers.Gemma3nProcessor(
            transformers.Gemma3nAudioFeatureExtractor(),
            None,
            byte_level_tokenizer(CONTROL, NAMED, pad="<pad>", end="<end_of_turn>"),
            chat_template=TEMPLATE,
        )


def _features(seconds, seed):
    """A clip as long as it is: frames behind its end would be heard."""
    frames = round(100 * seconds)
    values = torch.randn(1, frames, 128, generator=torch.Generator().manual_seed(seed))
    return {"input_features": values, "input_features_mask": torch.ones(1, frames).bool()}


def _train(network):
    """The embedding of padding is zero in every new network, and then has no gradient."""
    network.model.language_model.embed_tokens.weight[IDS["<pad>"]] = 0.1


GEMMA_3N = Family(
    name="gemma3n",
    network_class="Gemma3nForConditionalGeneration",
    control=IDS,
    audio="<audio_soft_token>",
    vocab_size=SIZE + 2 * SOFT,
    config=_config,
    processor=_processor,
    tokens=lambda _samples: 188,
    token_seconds=0.16,
    frame_seconds=0.04,
    shortest=513,
    window=480_000,
    clip_features=_features,
    pad="<pad>",
    end="<end_of_turn>",
    clips=(3.2, 3.2),
    train=_train,
)
