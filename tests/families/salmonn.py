"""SALMONN and TimeAudio: Whisper, BEATs, a window Q-Former, Llama; TimeAudio with times and with merged tokens."""

from dataclasses import replace
from functools import cache
from string import ascii_uppercase

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.processor import SalmonnProcessor, TimeAudioProcessor
from tests.families.family import ENCODER, ENCODER_LAYERS, SPREAD, WINDOW_SECONDS, Family, text_config
from tests.families.words import TEXT

POSITIONS = 50 * WINDOW_SECONDS
SIZES = {"max_seconds": 30.0, "shortest_tail": 48}
MERGED = {**SIZES, "kept": 1}
BANDS = 80


@cache
def _llama() -> Tokenizer:
    """A tokenizer as Llama's: BPE over whole texts with a space in front, bytes for what it has no piece for."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=520,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=list("▁:.,?!<>/-_'\n" + "0123456789"),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT, *[" ".join(ascii_uppercase)] * 9, "USER Speech ASSISTANT"], trainer)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _tokenizer():
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_llama().to_str()),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )


def _control(markers):
    size = _llama().get_vocab_size()
    named = ("[PAD]", *markers, "<SpeechHere>")
    return {"<unk>": 0, "<s>": 1, "</s>": 2, **{name: size + number for number, name in enumerate(named)}}


def _frames(samples):
    """Those of Kaldi's filterbank; a clip of less than a second is filled up to one."""
    return (max(samples, 16_000) - 240) // 160


def _windows(samples):
    """Whisper hears stretches of 4 s, a tail of less than 48 frames aside; BEATs gives 8 tokens per 16 frames."""
    frames = _frames(samples)
    whole, rest = divmod(frames, 2 * POSITIONS)
    whisper = POSITIONS * max(1, whole + (rest >= SIZES["shortest_tail"]))
    return max(whisper, frames // 16 * 8) // 17


def _merged(samples):
    """Of clips of more than 11 windows, one token and four merged ones are left of every segment of half as many."""
    windows = _windows(samples)
    return windows if windows <= 11 else 5 * (2 * windows // 11)


def _features(seconds, seed):
    """A clip in one stretch; frames behind its end would be heard by BEATs in a batch."""
    generator = torch.Generator().manual_seed(seed)
    frames, samples = _frames(round(16_000 * seconds)), round(16_000 * seconds)
    bank = torch.randn(1, 128, 2 * POSITIONS, generator=generator)
    real = torch.arange(2 * POSITIONS) < frames
    return {
        "input_features": torch.randn(1, BANDS, 2 * POSITIONS, generator=generator),
        "filterbank_features": bank * real,
        "input_features_mask": real.long()[None],
        "audio_samples": torch.tensor([samples]),
    }


def _config(config_class, control, sizes):
    def config(layers):
        return config_class(
            {"attention_bias": False, **text_config(control, control["<SpeechHere>"], layers, "[PAD]", "</s>")},
            {**ENCODER, "num_mel_bins": BANDS},
            {
                "encoder_layers": ENCODER_LAYERS,
                "encoder_embed_dim": 24,
                "encoder_ffn_embed_dim": 48,
                "encoder_attention_heads": 3,
                "embed_dim": 16,
                "conv_pos_groups": 4,
            },
            {
                "hidden_size": 24,
                "num_attention_heads": 3,
                "intermediate_size": 40,
                "num_hidden_layers": 2,
                "initializer_range": SPREAD,
            },
            audio_token_id=control["<SpeechHere>"],
            lora={"r": 4, "lora_alpha": 8},
            initializer_range=SPREAD,
            **sizes,
        )

    return config


def _processor(processor_class, sizes):
    def processor():
        extractor = WhisperFeatureExtractor(feature_size=BANDS, chunk_length=WINDOW_SECONDS)
        return processor_class(extractor, _tokenizer(), sizes=sizes)

    return processor


def _train(network):
    """What begins as zero: adapters of low rank, and times."""
    for name, parameter in sorted(network.named_parameters()):
        if "lora_B" in name or name == "abs_time_position_embedding":
            parameter.add_(SPREAD * torch.randn_like(parameter))


_CONTROL = _control(())
SALMONN = Family(
    name="salmonn",
    network_class="SalmonnForConditionalGeneration",
    control=_CONTROL,
    audio="<SpeechHere>",
    vocab_size=_CONTROL["<SpeechHere>"],
    config=_config(SalmonnConfig, _CONTROL, SIZES),
    processor=_processor(SalmonnProcessor, SIZES),
    tokens=_windows,
    token_seconds=0.34,
    shortest=1,
    last=lambda samples: 0.34 * _windows(samples),
    clip_features=_features,
    pad="[PAD]",
    end="</s>",
    clips=(3.2, 3.2),
    train=_train,
)

_MARKED = _control(TimeAudioProcessor.added[1:])
TIMEAUDIO = replace(
    SALMONN,
    name="timeaudio",
    network_class="TimeAudioForConditionalGeneration",
    control=_MARKED,
    vocab_size=_MARKED["<SpeechHere>"],
    config=_config(TimeAudioConfig, _MARKED, MERGED),
    processor=_processor(TimeAudioProcessor, MERGED),
    tokens=_merged,
)
