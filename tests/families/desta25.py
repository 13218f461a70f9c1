"""DeSTA2.5-Audio: Whisper whole, a Q-Former over layers of its encoder, a transcript in the prompt, Llama."""

from functools import cache
from string import ascii_uppercase

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from mechaudio.models.desta.config import DestaConfig
from mechaudio.models.desta.processor import AUDIO_TOKEN, DestaProcessor
from tests.families.family import ENCODER, SPREAD, WINDOW_SECONDS, Family, text_config
from tests.families.words import TEXT

CONTROL = {
    "<|begin_of_text|>": 0,
    "<|end_of_text|>": 1,
    AUDIO_TOKEN: 2,
    "<|start_header_id|>": 3,
    "<|end_header_id|>": 4,
    "<|eot_id|>": 5,
}
QUERIES, BANDS = 16, 80
#: Llama 3.1's, without its dates.
TEMPLATE = (
    "{% for m in messages %}{% if loop.first %}<|begin_of_text|>{% endif %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@cache
def _llama() -> Tokenizer:
    """A byte-level tokenizer as Llama 3.1's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT, " ".join(ascii_uppercase)], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_llama().to_str()),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=TEMPLATE,
    )


def _config(layers: int) -> DestaConfig:
    size = _llama().get_vocab_size()
    whisper = {**ENCODER, "num_mel_bins": BANDS, "decoder_layers": 1, "decoder_attention_heads": 4}
    whisper |= {"decoder_ffn_dim": 64, "vocab_size": size, "max_target_positions": 160}
    whisper |= {"pad_token_id": 5, "bos_token_id": 0, "eos_token_id": 5, "decoder_start_token_id": 0}
    return DestaConfig(
        text_config(CONTROL, size, layers, "<|eot_id|>", "<|eot_id|>"),
        whisper,
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "initializer_range": SPREAD,
        },
        audio_token_id=CONTROL[AUDIO_TOKEN],
        taps=[0, 1],
        n_queries=QUERIES,
        initializer_range=SPREAD,
    )


def _processor() -> DestaProcessor:
    extractor = WhisperFeatureExtractor(feature_size=BANDS, chunk_length=WINDOW_SECONDS)
    made = DestaProcessor(extractor, _tokenizer(), _tokenizer(), n_queries=QUERIES)
    made.recogniser, made.finds_speech = (lambda _samples: "a dog"), (lambda _samples: True)
    return made


def _features(_seconds: float, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"input_features": torch.randn(1, BANDS, 100 * WINDOW_SECONDS, generator=generator)}


DESTA_25 = Family(
    name="desta25",
    network_class="Desta25ForConditionalGeneration",
    control=CONTROL,
    audio=AUDIO_TOKEN,
    vocab_size=_llama().get_vocab_size(),
    config=_config,
    processor=_processor,
    tokens=lambda _samples: QUERIES,
    clip_features=_features,
    pad="<|eot_id|>",
    end="<|eot_id|>",
    token_seconds=None,
    shortest=1,
)
