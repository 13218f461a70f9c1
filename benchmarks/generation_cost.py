"""What written answers cost under many variants: `ma.generate_variants` beside generating them one by one.

    python benchmarks/generation_cost.py            # Qwen2-Audio class, 8 layers, hidden 512, 850 positions, on the CPU
    python benchmarks/generation_cost.py --large    # a full-size Qwen2-Audio with random weights, bf16, on a GPU

Every ratio is to one greedy generation of plain transformers with fused attention, in the same process, of as many
tokens. One by one is measured with `ma.generate` and with what people use instead: that generation, with a forward hook
that adds the direction to the newest token. The weights are random, so what is written means nothing; no answer ends
early.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable

import torch
from side_by_side import peak_memory, side_by_side, table
from sweep_cost import inputs, network
from transformers import Qwen2AudioForConditionalGeneration

import mechaudio as ma


def hooked(
    net: Qwen2AudioForConditionalGeneration, variant: ma.Steer, generation: Callable[[], torch.Tensor]
) -> torch.Tensor:
    """Plain transformers with the variant as a hook."""
    (layer,) = variant.layers

    def add(_layer: torch.nn.Module, _args: tuple, out: torch.Tensor) -> torch.Tensor:
        out[:, -1] += variant.strength * variant.direction.to(out)
        return out

    handle = net.model.language_model.layers[layer].register_forward_hook(add)
    try:
        return generation()
    finally:
        handle.remove()


def measure(large: bool, dtype: torch.dtype, n_variants: int, n_tokens: int, questions: int, repeats: int) -> None:
    """Print the table of one grid of steering strengths over layers."""
    net = network(large, dtype=dtype)
    net.generation_config.eos_token_id = None
    net.generation_config.pad_token_id = 0
    plain_net, batch = copy.deepcopy(net) if not large else net, inputs(net, 850, questions)
    model = ma.AudioLM(net, prove=False)
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(2))
    strengths = [0.05 * (1 + index // model.n_layers) for index in range(n_variants)]
    variants = [
        ma.Steer(direction, strength, layers=[index % model.n_layers]) for index, strength in enumerate(strengths)
    ]
    suffix = [ma.Steer(direction, one.strength, layers=one.layers, positions=range(-60, 0)) for one in variants]

    def plain() -> torch.Tensor:
        return plain_net.generate(**batch, max_new_tokens=n_tokens, do_sample=False)

    def shared(of: list[ma.Steer]) -> Callable[[], object]:
        return lambda: ma.generate_variants(model, batch, of, max_new_tokens=n_tokens, progress=False)

    ways = {
        "plain transformers, one generation": plain,
        f"ma.generate_variants, {n_variants} at the last position": shared(variants),
        f"ma.generate_variants, {n_variants} from 60 positions on": shared(suffix),
        f"one by one, ma.generate, {n_variants} and the clean run": lambda: [
            ma.generate(model, batch, max_new_tokens=n_tokens, interventions=one)
            for one in ([], *([variant] for variant in variants))
        ],
        f"one by one, hooks, {n_variants} and the clean run": lambda: [
            plain(),
            *(hooked(plain_net, variant, plain) for variant in variants),
        ],
    }
    with torch.no_grad():
        seconds = side_by_side(ways, repeats, warm_up=1)
        memory = {name: peak_memory(way) for name, way in ways.items()} if large else None
        found = ma.generate_variants(model, batch, variants, max_new_tokens=n_tokens, progress=False)
        alone = [ma.generate(model, batch, max_new_tokens=n_tokens, interventions=[one]).tokens for one in variants]
        prompt = statistics.median(side_by_side({"prompt": lambda: plain_net(**batch)}, repeats)["prompt"])
    same = sum(torch.equal(ours, theirs) for ours, theirs in zip(found.tokens, alone, strict=True))
    where = torch.cuda.get_device_name() if large else "CPU, 1 thread"
    title = f"{questions} x 850 positions, {n_tokens} new tokens, {dtype if large else torch.float32}, {where}"
    print(table(seconds, title, memory))
    print(f"the prompt alone: {1e3 * prompt:.1f} ms; {same} of {n_variants} variants write the same tokens one by one")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--fp32", action="store_true", help="with --large: float32 instead of bfloat16")
    parser.add_argument("--variants", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--questions", type=int, default=1, help="prompts that are answered together")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    dtype = torch.float32 if asked.fp32 else torch.bfloat16
    measure(asked.large, dtype, asked.variants, asked.tokens, asked.questions, asked.repeats)


if __name__ == "__main__":
    main()
