"""Small networks with the weights that the authors' own code was run with, and what that code gave (`oracles/`).

The numbers were made on a CPU with random weights, SALMONN's with transformers 4.28 and peft 0.3, TimeAudio's with
transformers 4.47 and peft 0.16: Whisper of 2 layers, BEATs of 3, a Q-Former of 2, Llama of 3, a vocabulary of 600
tokens and those that each adds.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, WhisperFeatureExtractor

from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.lora import peft_names
from mechaudio.models.salmonn.network import SalmonnForConditionalGeneration, TimeAudioForConditionalGeneration
from mechaudio.models.salmonn.processor import SalmonnProcessor, TimeAudioProcessor

ORACLES = Path(__file__).parent / "oracles"
#: The published BEATs settings, small.
BEATS = {
    "encoder_layers": 3,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 3,
    "embed_dim": 16,
    "conv_pos_groups": 4,
}
_CLASSES = {
    "salmonn": (SalmonnForConditionalGeneration, SalmonnConfig, SalmonnProcessor, 601),
    "timeaudio": (TimeAudioForConditionalGeneration, TimeAudioConfig, TimeAudioProcessor, 621),
}
#: Tensors of the authors' networks that have no use here.
UNUSED = {"beats.predictor.weight", "beats.predictor.bias", "speech_Qformer.bert.embeddings.position_ids"}


def reference(family: str, name: str) -> dict[str, Tensor]:
    """What the authors' code gave."""
    return load_file(ORACLES / family / f"{name}.safetensors")


def settings(family: str, part: str) -> dict[str, Any]:
    """The config that the authors' code built a part from."""
    return json.loads((ORACLES / family / f"{part}_config.json").read_text())


def config(family: str, **options: Any) -> SalmonnConfig:
    """The network's config."""
    _, config_class, _, size = _CLASSES[family]
    parts = {part: settings(family, part) for part in ("llama", "whisper", "bert")}
    for own in parts.values():
        for name in ("model_type", "transformers_version", "torch_dtype", "rope_scaling", "architectures"):
            own.pop(name, None)
    text, qformer = {**parts["llama"], "vocab_size": size}, {**parts["bert"], "num_hidden_layers": 2}
    lora = {"r": 8, "lora_alpha": 32}
    return config_class(text, parts["whisper"], BEATS, qformer, audio_token_id=size, lora=lora, **options)


def weights(family: str) -> dict[str, Tensor]:
    """All weights under the names that the authors' network has them by."""
    files = {"salmonn": ("salmonn_weights", "salmonn_backbones"), "timeaudio": ("weights", "backbones")}[family]
    return {name: value for file in files for name, value in reference(family, file).items()}


def network(family: str, **options: Any) -> SalmonnForConditionalGeneration:
    """The network with those weights; TimeAudio's table of times too."""
    built = _CLASSES[family][0](config(family, **options)).eval().requires_grad_(False)
    given = weights(family)
    if family == "timeaudio":
        table = torch.zeros_like(built.abs_time_position_embedding)
        table[:120] = reference(family, "prompt_36s")["time_table_first120"]
        given["abs_time_position_embedding"] = table
    report = built.load_state_dict(peft_names(given, set(built.state_dict())), strict=False)
    assert report.missing_keys == []
    assert set(report.unexpected_keys) == UNUSED
    return built


def processor(family: str, **options: Any) -> SalmonnProcessor:
    """The processor with the sentencepiece tokenizer that the authors' code was run with."""
    tokenizer = AutoTokenizer.from_pretrained(ORACLES / "tokenizer")
    return _CLASSES[family][2](WhisperFeatureExtractor(feature_size=80), tokenizer, **options)
