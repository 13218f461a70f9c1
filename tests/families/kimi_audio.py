"""Kimi-Audio: Whisper, a speech tokenizer whose codes stand in the vocabulary, Qwen2, and text in front of audio."""

from functools import cache
from string import ascii_uppercase

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from mechaudio.models.kimi.config import KimiAudioConfig
from mechaudio.models.kimi.processor import AUDIO_TOKEN, BLANK, IN_AUDIO, TEXT_END, KimiAudioProcessor
from tests.families.family import ENCODER, ENCODER_LAYERS, SPREAD, WINDOW_SECONDS, Family, text_config
from tests.families.words import TEXT

CODES = 128
_CONTROL = ("<|pad|>", *IN_AUDIO, BLANK, TEXT_END)


@cache
def _kimi() -> Tokenizer:
    """A byte-level tokenizer with Kimi's control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=list(_CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT, " ".join(ascii_uppercase)], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


OFFSET = _kimi().get_vocab_size()
CONTROL = {**{name: number for number, name in enumerate(_CONTROL)}, AUDIO_TOKEN: OFFSET}


def kimi_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer without the placeholder."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_kimi().to_str()), pad_token="<|pad|>", eos_token=TEXT_END
    )


def _config(layers: int) -> KimiAudioConfig:
    return KimiAudioConfig(
        text_config(CONTROL, OFFSET + CODES, layers, "<|pad|>", TEXT_END),
        {**ENCODER},
        {
            **ENCODER,
            "quantize_position": ENCODER_LAYERS,
            "quantize_vocab_size": CODES,
            "quantize_causal_block_size": 20,
            "init_std": SPREAD,
        },
        audio_token_id=CONTROL[AUDIO_TOKEN],
        text_blank_id=CONTROL[BLANK],
        audio_stream_ids=[CONTROL[name] for name in IN_AUDIO],
        codes_offset=OFFSET,
        initializer_range=SPREAD,
    )


def _processor() -> KimiAudioProcessor:
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=WINDOW_SECONDS)
    return KimiAudioProcessor(extractor, kimi_tokenizer())


def _train(network: torch.nn.Module) -> None:
    """A speech tokenizer whose codes depend on all that it does: sharp attention, and many codes to fall into."""
    tokenizer = network.audio_tokenizer
    spreads = {"q_proj": 1.0, "k_proj": 1.0, "v_proj": 0.5, "out_proj": 0.5, "fc1": 0.5, "fc2": 0.3}
    for name, parameter in tokenizer.named_parameters():
        spread = next((spread for part, spread in spreads.items() if f"{part}.weight" in name), None)
        if spread is not None:
            parameter.mul_(spread / parameter.std())
    tokenizer.codebook.weight.normal_(std=3.0, generator=torch.Generator().manual_seed(1))


def _features(seconds: float, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames, window = round(100 * seconds), 100 * WINDOW_SECONDS
    return {
        "input_features": torch.randn(1, 128, window, generator=generator),
        "input_features_mask": (torch.arange(window) < frames).long()[None],
        "code_features": torch.randn(1, 128, window, generator=generator),
    }


KIMI_AUDIO = Family(
    name="kimi_audio",
    network_class="KimiAudioForConditionalGeneration",
    control=CONTROL,
    audio=AUDIO_TOKEN,
    vocab_size=OFFSET + CODES,
    config=_config,
    processor=_processor,
    tokens=lambda samples: -(-samples // 1280),
    token_seconds=0.08,
    shortest=1,
    clip_features=_features,
    pad="<|pad|>",
    end=TEXT_END,
    train=_train,
)
