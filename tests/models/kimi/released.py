"""Small networks with the weights that the authors' own code was run with, and what that code gave (`oracles/`).

The numbers were made on a CPU with random weights and transformers 4.47: a decoder of 5 layers and a branch of 2, a
vocabulary of 704 with 64 codes at its end; and, apart, a speech tokenizer of 3 layers. Whisper's features were random.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mechaudio.models.kimi.config import KimiAudioConfig, SpeechTokenizerConfig
from mechaudio.models.kimi.network import KimiAudioForConditionalGeneration
from mechaudio.models.kimi.speech_tokenizer import SpeechTokenizer

ORACLES = Path(__file__).parent / "oracles"
_TOLD = json.loads((ORACLES / "prompts.json").read_text())
#: The four prompts: both streams of ids, and which positions are audio tokens.
PROMPTS: dict[str, dict[str, Any]] = _TOLD["cases"]
#: Names of control tokens -> ids; the offset of codes.
IDS: dict[str, int] = _TOLD["ids"]
OFFSET: int = _TOLD["offset"]
#: The placeholder: an id that the authors' prompts do not use.
PLACEHOLDER = IDS["user_msg_start"]
IN_AUDIO = [
    IDS[name]
    for name in (
        "msg_end",
        "media_begin",
        "media_end",
        "kimia_user_msg_start",
        "kimia_assistant_msg_start",
        "kimia_speech_ct_id",
        "kimia_speech_ctd_id",
    )
]
#: Of the speech tokenizer: what only training and its decoder use.
UNUSED = {"ema_count", "ema_weight", "embed_positions2.weight"}
SPEECH_TOKENIZER = {
    "num_mel_bins": 128,
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "max_source_positions": 1500,
    "quantize_position": 3,
    "quantize_vocab_size": 64,
}
WHISPER = {"num_mel_bins": 128, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}


def reference(name: str = "reference") -> dict[str, Tensor]:
    """What the authors' code gave."""
    return load_file(ORACLES / f"{name}.safetensors")


def config(**options: Any) -> KimiAudioConfig:
    """The network's config."""
    text = {
        "vocab_size": 704,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "pad_token_id": IDS["pad"],
        "tie_word_embeddings": False,
    }
    given = {
        "audio_token_id": PLACEHOLDER,
        "text_blank_id": IDS["kimia_text_blank"],
        "audio_stream_ids": IN_AUDIO,
        "codes_offset": OFFSET,
        "mimo_layers": 2,
        "mimo_from": 2,
    }
    return KimiAudioConfig(text, {**WHISPER, "decoder_layers": 1}, SPEECH_TOKENIZER, **{**given, **options})


def weights(name: str) -> dict[str, Tensor]:
    """All weights under the names that the authors' network has them by."""
    return {key: value.float() for key, value in load_file(ORACLES / f"{name}.safetensors").items()}


def network(**options: Any) -> KimiAudioForConditionalGeneration:
    """The network with the authors' decoder, branch, adaptor and speech tokenizer; Whisper has random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = KimiAudioForConditionalGeneration(config(**options)).eval().requires_grad_(False)
    given = weights("weights_half")
    given |= {f"audio_tokenizer.{key}": v for key, v in weights("codes_weights_half").items() if key not in UNUSED}
    report = built.load_state_dict(given, strict=False)
    assert report.unexpected_keys == []
    assert all(name.startswith("speech_encoder.") for name in report.missing_keys)
    return built


def speech_tokenizer() -> SpeechTokenizer:
    """The speech tokenizer by itself."""
    built = SpeechTokenizer(SpeechTokenizerConfig(**SPEECH_TOKENIZER)).eval().requires_grad_(False)
    given = {name: value for name, value in weights("codes_weights_half").items() if name not in UNUSED}
    built.load_state_dict(given, strict=True)
    return built


def joined(name: str) -> Tensor:
    """A prompt of the authors' as one stream of ids."""
    audio, text, continuous = (torch.tensor(PROMPTS[name][key]) for key in ("audio_ids", "text_ids", "is_continuous"))
    one = torch.where(text == IDS["kimia_text_blank"], audio, text)
    return torch.where(continuous.bool(), PLACEHOLDER, one)
