"""Networks, processors and inputs of a family, by its name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import ProcessorMixin

from mechaudio.models.adapter import Adapter
from mechaudio.models.registry import ADAPTERS, adapter_for
from tests.families.audioflamingo3 import AUDIO_FLAMINGO_3
from tests.families.desta25 import DESTA_25
from tests.families.dots3_note import DOTS_3_NOTE
from tests.families.family import D_MODEL, ENCODER_LAYERS, Family
from tests.families.fun_asr_nano import FUN_ASR_NANO
from tests.families.gemma3n import GEMMA_3N
from tests.families.gemma4 import GEMMA_4
from tests.families.glmasr import GLM_ASR
from tests.families.granite_speech import GRANITE_SPEECH, GRANITE_SPEECH_PLUS
from tests.families.kimi_audio import KIMI_AUDIO
from tests.families.moss_transcribe_diarize import MOSS_TRANSCRIBE_DIARIZE
from tests.families.muse_spark import MUSE_SPARK
from tests.families.musicflamingo import MUSIC_FLAMINGO
from tests.families.nemotron_h_omni import NEMOTRON_H_OMNI
from tests.families.phi4_multimodal import PHI_4_MULTIMODAL
from tests.families.qwen2_5_omni import QWEN2_5_OMNI
from tests.families.qwen2_audio import QWEN2_AUDIO
from tests.families.qwen3_asr import QWEN3_ASR
from tests.families.qwen3_omni_moe import QWEN3_OMNI_MOE
from tests.families.salmonn import SALMONN, TIMEAUDIO
from tests.families.vibevoice_asr import VIBEVOICE_ASR
from tests.families.voxtral import VOXTRAL

_FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        QWEN2_AUDIO,
        QWEN2_5_OMNI,
        AUDIO_FLAMINGO_3,
        VOXTRAL,
        MUSIC_FLAMINGO,
        QWEN3_OMNI_MOE,
        GLM_ASR,
        PHI_4_MULTIMODAL,
        VIBEVOICE_ASR,
        QWEN3_ASR,
        MOSS_TRANSCRIBE_DIARIZE,
        FUN_ASR_NANO,
        NEMOTRON_H_OMNI,
        GEMMA_4,
        GEMMA_3N,
        GRANITE_SPEECH,
        GRANITE_SPEECH_PLUS,
        MUSE_SPARK,
        DOTS_3_NOTE,
        SALMONN,
        TIMEAUDIO,
        DESTA_25,
        KIMI_AUDIO,
    )
}
FAMILIES = tuple(_FAMILIES)
#: A plain family, one of packed clips and experts, one whose padding leaks, one with recurrent layers, one whose class
#: calls its decoder itself, and one of several towers that transformers does not have.
KINDS = (
    "qwen2_audio",
    "qwen3_omni_moe_thinker",
    "phi4_multimodal",
    "nemotron_h_omni",
    "granite_speech",
    "salmonn",
)
#: Those that questions can be written out for.
ASKED = tuple(name for name, family in _FAMILIES.items() if family.takes_questions)


def thinned(families: Iterable[str], left: Collection[str] = KINDS) -> list[Any]:
    """Families for a test that takes seconds each: `make test` runs those left, one of every kind, `make check` all."""
    return [pytest.param(name, marks=[] if name in left else [pytest.mark.whole]) for name in families]


def facts(family: str) -> Family:
    """What the family's file says."""
    return _FAMILIES[family]


def class_of(facts: Family) -> type[nn.Module]:
    """The family's real class."""
    known = {adapter.network_class: adapter for adapter in ADAPTERS}
    return known[facts.network_class].load_class()


def audio_token_id(family: str) -> int:
    """The id of the placeholder for one audio token."""
    return _FAMILIES[family].control[_FAMILIES[family].audio]


def processor(family: str) -> ProcessorMixin:
    """The family's real processor class, built offline."""
    return _FAMILIES[family].processor()


def processors_count(family: str, samples: int) -> int:
    """Audio tokens of a clip by the processor's published rule."""
    return _FAMILIES[family].tokens(samples)


def network(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, layers: int | None = None) -> nn.Module:
    """A small network of the family's real class, in evaluation mode.

    Args:
        family: One of `FAMILIES`.
        dtype: Type of the weights.
        seed: Of the weights; the same seed gives the same network.
        layers: Decoder layers, by default the family's own number.
    """
    facts = _FAMILIES[family]
    layers = facts.layers if layers is None else layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = class_of(facts)(facts.config(layers))
        with torch.no_grad():
            for parameter in built.parameters():  # biases and norms start as constants: move them too
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            facts.train(built)
    adapter = adapter_for(built)
    depths = [len(built.get_submodule(stack.layers)) for stack in (adapter.decoder, adapter.encoder)]
    assert depths == [layers, ENCODER_LAYERS]
    assert sum(parameter.numel() for parameter in built.parameters()) < 500_000
    assert built.get_input_embeddings().weight.shape == (facts.vocab_size, D_MODEL)
    return built.to(dtype).eval()


def clip_features(family: str, seconds: float, seed: int = 0) -> dict[str, Tensor]:
    """Random features of one clip, as the network takes them: `input_features` and the family's mask of real frames."""
    return _FAMILIES[family].clip_features(seconds, seed)


def n_audio_tokens(family: str, seconds: float) -> int:
    """Audio tokens of a clip that fits one window."""
    return _FAMILIES[family].tokens(round(_FAMILIES[family].rate * seconds))


def model_inputs(
    family: str, seconds: tuple[float, ...] | None = None, words: tuple[int, ...] = (9, 5), seed: int = 0
) -> dict[str, Tensor]:
    """A left-padded batch of model inputs, one clip and some random words per row, built without a processor.

    Args:
        family: One of `FAMILIES`.
        seconds: Length of each row's clip, multiples of 0.04 up to the window; by default the family's own.
        words: Text tokens of each row: two before the audio, the rest behind it.
        seed: Of features and words.
    """
    facts = _FAMILIES[family]
    generator = torch.Generator().manual_seed(seed)
    seconds = facts.clips if seconds is None else seconds
    rows = []
    for length, count in zip(seconds, words, strict=True):
        text = torch.randint(len(facts.control), facts.vocab_size, (count,), generator=generator)
        audio = torch.full((n_audio_tokens(family, length),), audio_token_id(family))
        rows.append(torch.cat([text[:2], audio, text[2:]]))
    width = max(len(row) for row in rows)
    clips = [clip_features(family, length, seed=seed + 1 + row) for row, length in enumerate(seconds)]
    pad = facts.control[facts.pad]
    return {
        "input_ids": torch.stack([torch.cat([torch.full((width - len(row),), pad), row]) for row in rows]),
        "attention_mask": torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows]),
        **{name: _together([clip[name] for clip in clips]) for name in clips[0]},
        **facts.always,
    }


def _together(clips: list[Tensor]) -> Tensor:
    """Clips behind one another; shorter ones, where a family has such, filled up with zeros along all other axes."""
    if clips[0].ndim == 1:
        return torch.cat(clips)
    whole = clips[0].new_zeros(len(clips), *map(max, zip(*(clip.shape[1:] for clip in clips), strict=True)))
    for row, clip in enumerate(clips):
        whole[row][tuple(map(slice, clip.shape[1:]))] = clip[0]
    return whole


def noise(seconds: float, seed: int = 0, sample_rate: int = 16_000) -> np.ndarray:
    """Mono float32 noise, for clips that only need to be long enough."""
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * sample_rate))).astype(np.float32)


@dataclass
class Opened:
    """What prompts need of a model, without opening its insides."""

    network: nn.Module
    processor: Any

    @property
    def adapter(self) -> Adapter:
        """The facts about the network's class."""
        return adapter_for(self.network)


def opened(family: str, dtype: torch.dtype = torch.float32) -> Opened:
    """A family's network and processor."""
    return Opened(network(family, dtype), processor(family))


@contextmanager
def unchecked_types() -> Iterator[None]:
    """Without the type checks that only tests run with: for what a user is told who passes the wrong thing."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
