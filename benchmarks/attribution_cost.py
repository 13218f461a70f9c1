"""What attribution patching costs and how far it is right, beside patching every place.

    python benchmarks/attribution_cost.py            # the shipped model, on the CPU
    python benchmarks/attribution_cost.py --large    # a full-size Qwen2-Audio, bf16, on a GPU; give --checkpoint
    python benchmarks/attribution_cost.py --random   # a network of that size with random weights: what it costs alone

Ratios are to the exact map one place at a time (`one_by_one=True`) in the same process; the exact map by sweep stands
beside it. Agreement is that of the mean maps over pairs; random weights say nothing about it.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from side_by_side import side_by_side, table
from steering_cost import opened

import mechaudio as ma
from mechaudio.analyses import activation_patching, agreement, attribution_patching

METHODS = ("gradient", "eap-ig", "integrated", "atp*")
MAPS = ((("layer", "head"), "z"), (("layer", "second"), "resid_pre"))


def main() -> None:
    """Time every map and print its agreement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="a checkpoint in bfloat16 on the GPU")
    parser.add_argument("--random", action="store_true", help="random weights of that size, bfloat16, on the GPU")
    parser.add_argument("--checkpoint", default="Qwen/Qwen2-Audio-7B-Instruct", help="name or folder, with --large")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of prompts")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    settings = parser.parse_args()
    if settings.random:
        model = opened(large=True)
    elif settings.large:
        model = ma.load(settings.checkpoint, dtype=torch.bfloat16, device_map="cuda")
    else:
        model = ma.load("tiny")
    asked = list(ma.data.soundscapes.questions(settings.pairs, seed=5))
    pairs = ma.prompt(model, asked), ma.prompt(model, asked, condition="silence")
    for over, hook_point in MAPS:
        options = {"over": over, "hook_point": hook_point}
        ways = {
            "patched one by one": partial(
                activation_patching, model, pairs[0], corrupted=pairs[1], one_by_one=True, **options
            ),
            "patched by sweep": partial(activation_patching, model, pairs[0], corrupted=pairs[1], **options),
            **{
                method: partial(attribution_patching, model, pairs[0], corrupted=pairs[1], method=method, **options)
                for method in METHODS
            },
        }
        seconds = side_by_side(ways, settings.repeats, warm_up=0 if settings.random else 1)
        print(table(seconds, f"{hook_point} over {' x '.join(over)}, {settings.pairs} pairs"))
        if settings.random:
            continue
        exact = ways["patched one by one"]()
        print(f"agreement with {exact.mean().size} places patched:")
        for method in METHODS:
            print(f"  {method:12}", {name: round(value, 3) for name, value in agreement(ways[method](), exact).items()})


if __name__ == "__main__":
    main()
