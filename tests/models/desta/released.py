"""A small network with the weights that the authors' own code was run with, and what that code gave (`oracles/`).

The numbers were made on a CPU with random weights and transformers 4.47: Whisper of 4 layers with a decoder of 1, a
Q-Former of 2, Llama of 3, a vocabulary of 720. Whether a clip holds speech was a switch.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast, WhisperFeatureExtractor

from mechaudio.models.desta.config import DestaConfig
from mechaudio.models.desta.network import Desta25ForConditionalGeneration
from mechaudio.models.desta.processor import DestaProcessor

#: Parameters that only transcribe.
RECOGNISER = ("perception.whisper.model.decoder.", "perception.whisper.proj_out.")
ORACLES = Path(__file__).parent / "oracles"
#: The six prompts: their messages, ids, where audio tokens begin, transcripts.
PROMPTS: dict[str, dict[str, Any]] = json.loads((ORACLES / "prompts.json").read_text())


def reference() -> dict[str, Tensor]:
    """What the authors' code gave."""
    return load_file(ORACLES / "reference.safetensors")


def settings(part: str) -> dict[str, Any]:
    """The config that the authors' code built a part from, as this version of transformers writes it."""
    own = json.loads((ORACLES / f"{part}_config.json").read_text())
    scaling = own.pop("rope_scaling", None)
    if scaling is not None:
        own["rope_parameters"] = {**scaling, "rope_theta": own.pop("rope_theta")}
    return {name: value for name, value in own.items() if name not in ("transformers_version", "torch_dtype")}


def config(**options: Any) -> DestaConfig:
    """The network's config."""
    qformer = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 96}
    return DestaConfig(settings("llama"), settings("whisper"), qformer, audio_token_id=2, **options)


def weights() -> dict[str, Tensor]:
    """All weights under the names that the authors' network has them by."""
    return {name: value.float() for name, value in load_file(ORACLES / "weights_tiny.safetensors").items()}


def network(**options: Any) -> Desta25ForConditionalGeneration:
    """The network with those weights; of Whisper, they hold the encoder alone, and its decoder has random ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = Desta25ForConditionalGeneration(config(**options)).eval().requires_grad_(False)
    report = built.load_state_dict(weights(), strict=False)
    assert report.unexpected_keys == []
    assert all(name.startswith(RECOGNISER) for name in report.missing_keys)
    return built


def whisper_tokenizer() -> PreTrainedTokenizerFast:
    """The recogniser's."""
    return PreTrainedTokenizerFast(tokenizer_file=str(ORACLES / "whisper_tokenizer.json"))


def processor(**options: Any) -> DestaProcessor:
    """The processor with the byte-level tokenizer that the authors' code was run with."""
    tokenizer = AutoTokenizer.from_pretrained(ORACLES / "tokenizer")
    given = {"whisper_tokenizer": whisper_tokenizer(), **options}
    return DestaProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer, **given)
