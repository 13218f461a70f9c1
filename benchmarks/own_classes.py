"""Measures SALMONN, TimeAudio, Kimi-Audio and DeSTA2.5-Audio at full size: on one GPU, in bf16.

    PYTHONPATH=. python benchmarks/own_classes.py                     # needs 60 GB
    PYTHONPATH=. python benchmarks/own_classes.py --small             # the tests' small networks, anywhere
    PYTHONPATH=. python benchmarks/own_classes.py salmonn timeaudio   # some of them

Networks have the shapes of the published checkpoints and random weights; the texts of the tests' small vocabularies
make their prompts. Every ratio is to a plain forward with fused attention in the same process; memory is the peak
beyond what is held before the call. SALMONN and TimeAudio also hear a clip of 120 seconds, with BEATs over all of it
as released and stretch by stretch.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from full_size import measure, plain_twin
from side_by_side import peak_memory
from torch import nn
from transformers import WhisperFeatureExtractor

import mechaudio as ma
from mechaudio.models.desta.config import DestaConfig
from mechaudio.models.desta.network import Desta25ForConditionalGeneration
from mechaudio.models.kimi.config import KimiAudioConfig
from mechaudio.models.kimi.network import KimiAudioForConditionalGeneration
from mechaudio.models.salmonn.config import SalmonnConfig, TimeAudioConfig
from mechaudio.models.salmonn.network import SalmonnForConditionalGeneration, TimeAudioForConditionalGeneration
from mechaudio.tracing.sites import HookPointError
from tests.families import build

LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32001, "max_position_embeddings": 4096,
}  # fmt: skip
LLAMA_8B = LLAMA_7B | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256}
QWEN_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 168448, "max_position_embeddings": 8192,
}  # fmt: skip
WHISPER_LARGE = {
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
    "decoder_layers": 32, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "vocab_size": 51866,
}  # fmt: skip
SPEECH_TOKENIZER = WHISPER_LARGE | {"num_mel_bins": 128, "encoder_layers": 16, "quantize_position": 16}
FACTORS = (0.2, 0.5, 0.8, 0.9, 1.1, 1.2, 1.5, 2.0)


def salmonn(audio: int, **settings: Any) -> nn.Module:
    """SALMONN-7B."""
    return SalmonnForConditionalGeneration(
        SalmonnConfig(LLAMA_7B, WHISPER_LARGE, audio_token_id=audio, lora={"r": 8, "lora_alpha": 32}, **settings)
    )


def timeaudio(audio: int) -> nn.Module:
    """TimeAudio-7B, merging as released."""
    text = LLAMA_7B | {"vocab_size": 32021}
    return TimeAudioForConditionalGeneration(
        TimeAudioConfig(text, WHISPER_LARGE, audio_token_id=audio, lora={"r": 8, "lora_alpha": 32})
    )


def kimi_audio(audio: int) -> nn.Module:
    """Kimi-Audio-7B without the branch that speaks."""
    family = build.facts("kimi_audio")
    control = family.control
    whisper = WHISPER_LARGE | {"num_mel_bins": 128}
    return KimiAudioForConditionalGeneration(
        KimiAudioConfig(QWEN_7B, whisper, SPEECH_TOKENIZER, audio, text_blank_id=control["<|im_kimia_text_blank|>"],
                        audio_stream_ids=family.config(1).audio_stream_ids)
    )  # fmt: skip


def desta25(audio: int) -> nn.Module:
    """DeSTA2.5-Audio with Llama 3.1 8B and Whisper large-v3."""
    qformer = {"hidden_size": 1280, "num_attention_heads": 20, "intermediate_size": 5120, "num_hidden_layers": 6}
    whisper = WHISPER_LARGE | {"num_mel_bins": 128}
    return Desta25ForConditionalGeneration(DestaConfig(LLAMA_8B, whisper, qformer, audio_token_id=audio))


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "salmonn": salmonn,
    "timeaudio": timeaudio,
    "kimi_audio": kimi_audio,
    "desta25": desta25,
}


def processor(family: str, small: bool) -> Any:
    """The tests' processor, which hears 30 seconds at once unless small."""
    made = build.processor(family)
    if small:
        return made
    bands = 80 if family in ("salmonn", "timeaudio") else 128
    extractor = WhisperFeatureExtractor(feature_size=bands, chunk_length=30)
    if family == "desta25":
        large = type(made)(extractor, made.tokenizer, made.whisper_tokenizer)
        large.recogniser, large.finds_speech = made.recogniser, made.finds_speech
        return large
    return type(made)(extractor, made.tokenizer)


def network(family: str, small: bool, device: str, dtype: torch.dtype, **settings: Any) -> nn.Module:
    """A network with random weights, made where it is to run."""
    if small:
        return build.network(family, dtype).to(device)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return BUILDERS[family](build.audio_token_id(family), **settings).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def noise(seconds: float) -> ma.AudioClip:
    """A clip of noise."""
    samples = np.random.default_rng(0).standard_normal(round(16_000 * seconds)).astype(np.float32)
    return ma.AudioClip(0.1 * samples, 16_000)


def reading(family: str, small: bool, device: str, dtype: torch.dtype, seconds: float, repeats: int) -> None:
    """Print what opening, reading and a sweep cost on one short clip."""
    net = network(family, small, device, dtype)
    plain, parameters = plain_twin(net), sum(parameter.numel() for parameter in net.parameters())
    began = time.perf_counter()
    try:
        model, proven = ma.AudioLM(net, processor(family, small)), "opened and proven"
    except HookPointError as refusal:
        print(f"  {str(refusal)[:300]}")
        model, proven = ma.AudioLM(net, processor(family, small), prove=False), "opened, not proven,"
    print(f"{type(net).__name__}, {parameters / 1e9:.2f} billion parameters: {proven} in "
          f"{time.perf_counter() - began:.1f} s", flush=True)  # fmt: skip
    question = ma.AudioQuestion(noise(seconds), "Which comes first?", choices=("a dog", "a bell"), answer="a dog")
    batch = ma.prompt(model, [question])
    grid = ma.grid(ma.ScaleAttention, layers=range(model.n_layers), factor=FACTORS)
    last_rows, mass = ma.HookPoint("pattern", queries="last"), ma.HookPoint("mass", keys="audio")
    ways = {
        "plain forward (fused attention)": lambda: plain(**batch.inputs, use_cache=False),
        "mechaudio: last-row patterns": lambda: ma.run(model, batch, record=[last_rows]),
        "mechaudio: audio mass of every query and head": lambda: ma.run(model, batch, record=[mass]),
        f"mechaudio: a sweep of {len(grid)} variants": lambda: ma.sweep(model, batch, grid, progress=False),
    }
    measure(f"  {batch.inputs['input_ids'].shape[1]} positions, a clip of {seconds:g} s", ways, repeats)


def long_clip(family: str, small: bool, device: str, dtype: torch.dtype, seconds: float) -> None:
    """Print the memory that a long clip takes, with BEATs over all of it and stretch by stretch."""
    net, taking = network(family, small, device, dtype), processor(family, small)
    if family == "salmonn":
        net.config.max_seconds = seconds
        sizes = {**taking.sizes, "max_seconds": seconds}
        taking = type(taking)(taking.feature_extractor, taking.tokenizer, sizes=sizes)
    model = ma.AudioLM(net, taking, prove=False)
    batch = ma.prompt(model, [ma.AudioQuestion(noise(seconds), "Which comes first?")])
    print(f"{type(net).__name__}, a clip of {seconds:g} s, {batch.inputs['input_ids'].shape[1]} positions")

    def run() -> torch.Tensor:
        return ma.run(model, batch, logits="last").logits.float()

    answers = []
    for name, alone in (("over all of it", False), ("stretch by stretch", True)):
        net.config.beats_per_stretch = alone
        answers.append(run())
        if device == "cuda":
            print(f"  BEATs {name}: {peak_memory(run):.0f} MB beyond the weights", flush=True)
    difference = (answers[1] - answers[0]).abs().max() / answers[0].abs().max()
    print(f"  logits differ by {float(difference):.1e} of the largest")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(BUILDERS), help=f"of {', '.join(BUILDERS)}")
    parser.add_argument("--small", action="store_true", help="small networks and short clips")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, small = "cuda" if torch.cuda.is_available() else "cpu", arguments.small
    dtype = torch.float32 if small else torch.bfloat16
    with torch.no_grad():
        for family in arguments.families:
            reading(family, small, device, dtype, 3.2 if small else 10, arguments.repeats)
            gc.collect()  # the network, which holds itself
        for family in ("salmonn", "timeaudio"):
            if family in arguments.families:
                long_clip(family, small, device, dtype, 16 if small else 120)
                gc.collect()


if __name__ == "__main__":
    main()
