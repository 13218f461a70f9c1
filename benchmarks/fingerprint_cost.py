"""What it costs to tell a network from every other one: `fingerprint` reads all of its bytes.

PYTHONPATH=. python benchmarks/fingerprint_cost.py            # the shipped model, and 400 MB of random weights
PYTHONPATH=. python benchmarks/fingerprint_cost.py --large    # and 16 GB in bf16, on a GPU where there is one
"""

from __future__ import annotations

import argparse
import time
from copy import deepcopy

import torch
from torch import nn

import mechaudio as ma
from mechaudio.tracing.fingerprint import fingerprint, weight_digests


def grown(network: nn.Module, width: int, layers: int, dtype: torch.dtype) -> nn.Module:
    """A network of the same class, with random weights and a wider and deeper decoder."""
    config = deepcopy(network.config)
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = width, 4 * width, layers
    text.num_attention_heads = text.num_key_value_heads = width // 64
    text.head_dim, text.layer_types = 64, ["full_attention"] * layers
    torch.set_default_dtype(dtype)
    try:
        return type(network)(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def measured(name: str, network: nn.Module, rounds: int) -> None:
    """Print the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        weight_digests(network)
        times.append(time.perf_counter() - start)
    size = sum(weight.nbytes for weight in network.parameters())
    print(f"{name}: {size / 1e6:,.0f} MB in {min(times):.3f} s ({size / 1e9 / min(times):.2f} GB/s), {rounds} rounds")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = ma.load("tiny", prove=False)
    start = time.perf_counter()
    fingerprint(model)
    print(f"tiny, with its config and processor: {time.perf_counter() - start:.3f} s")
    measured("tiny", model.network, options.rounds)
    measured("random", grown(model.network, 1024, 6, torch.float32), options.rounds)
    if options.large:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.device(device):
            large = grown(model.network, 4096, 30, torch.bfloat16)
        measured(f"large, on {device}", large, options.rounds)


if __name__ == "__main__":
    main()
