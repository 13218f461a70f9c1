"""What the study of the temporal benchmark costs at full size, and what it would cost one forward pass at a time.

    python benchmarks/study_at_full_size.py --questions 64     # a network of Qwen2-Audio-7B's size, bf16, on a GPU
    python benchmarks/study_at_full_size.py --questions 8 --small

The weights are random, so what it finds means nothing. The prompts are those of the shipped model, with clips of 10 s.
"""

from __future__ import annotations

import argparse
import time

import torch
from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

import mechaudio as ma
from mechaudio.experiments.temporal_study import temporal_study
from mechaudio.models.tiny import WEIGHTS
from mechaudio.models.tiny.language import build_processor


def opened(small: bool) -> ma.AudioLM:
    """A network with the shipped model's words and windows, of 32 + 32 layers and 4096 wide."""
    config = Qwen2AudioConfig.from_pretrained(WEIGHTS)
    if not small:
        config.text_config.update(
            {
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 32,
                "vocab_size": 156032,
                "layer_types": ["full_attention"] * 32,
            }
        )
        config.audio_config.update(
            {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
        )
    torch.manual_seed(0)
    with torch.device("cpu" if small else "cuda"):
        torch.set_default_dtype(torch.float32 if small else torch.bfloat16)
        network = Qwen2AudioForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        network.model.audio_tower.embed_positions.weight.normal_(0, 0.02)
    return ma.AudioLM(network.eval(), build_processor(), prove=False)


def seconds_of_a_pass(model: ma.AudioLM, questions: list[ma.AudioQuestion], repeats: int = 5) -> float:
    """A plain forward pass of one question, its prompt made beforehand: the median."""
    batch = ma.prompt(model, questions[:1])
    taken = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        with torch.no_grad():
            model.network(**batch.inputs, use_cache=False).logits[:, -1].float().cpu()
        taken.append(time.perf_counter() - start)
    return sorted(taken[2:])[repeats // 2]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--small", action="store_true", help="the shipped model's size, on the CPU")
    arguments = parser.parse_args()
    model = opened(arguments.small)
    questions = list(ma.data.soundscapes.questions(arguments.questions, seed=0))
    one = seconds_of_a_pass(model, questions)
    ma.evaluate(model, questions[:2], variants=[[ma.ScaleAttention(2.0)]])  # warm up
    start = time.perf_counter()
    study = temporal_study(model, questions)
    whole = time.perf_counter() - start
    n, arms, others = len(questions), len(study.arms), len(study.conditions) - 1
    passes = 1 + arms + others
    print(f"{model!r}")
    print(f"{n} questions, {arms} arms, {1 + others} conditions: {whole:.1f} s, {n / whole:.2f} questions per second")
    print(f"a plain forward pass of one question: {1e3 * one:.1f} ms; {passes} passes a question, one by one:")
    print(f"  {n * passes * one / 3600:.2f} hours for these {n}, {1657 * passes * one / 3600:.1f} hours for 1,657")
    faster = n * passes * one / whole
    print(f"  with the study as it is: {1657 * whole / n / 60:.1f} minutes for 1,657, {faster:.0f} times faster")


if __name__ == "__main__":
    main()
