"""Compares networks whose weights bitsandbytes keeps in 8 or 4 bits: reading, editing, steering, generation.

    python benchmarks/quantised.py                 # Qwen2-Audio's class with 4 layers, on a GPU or the CPU
    python benchmarks/quantised.py --large         # with layers of Qwen2-Audio-7B's size, eight of them, on a GPU
    PYTHONPATH=. python benchmarks/quantised.py --families      # instead, the small networks of all families

Needs bitsandbytes. A network with random weights is saved and opened again by `ma.load(quantization_config=...)`, with
all proofs. What mechaudio then gives is compared with plain forwards and plain hooks of the same quantised network; the
first column says how far the two differ at most, as a share of the largest value (0 is every bit).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from side_by_side import brief, peak_memory, side_by_side, table
from steering_cost import opened
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

import mechaudio as ma

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BITS: dict[str, dict[str, Any]] = {
    "8 bits": {"load_in_8bit": True},
    "4 bits": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
}
STRENGTH = 4.0
TOKENS = 4


def decoder_layers(network: Any) -> nn.ModuleList:
    """The decoder's layers, as transformers keeps them."""
    return network.model.language_model.layers


@contextmanager
def hooked(modules: dict[int, nn.Module], change: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
    """Pass what modules give through a function by plain hooks; where it returns None, their output stays."""

    def hook(layer: int) -> Callable[..., Any]:
        def changed(_module: nn.Module, _args: Any, out: Any) -> Any:
            hidden = out[0] if isinstance(out, tuple) else out
            new = change(layer, hidden)
            return out if new is None else (new, *out[1:]) if isinstance(out, tuple) else new

        return changed

    handles = [module.register_forward_hook(hook(layer)) for layer, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def comparisons(model: ma.AudioLM, batch: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield what is compared, what mechaudio gives, and what plain transformers gives."""
    network: Any = model.network
    layers = decoder_layers(network)
    inputs = {name: value for name, value in batch.inputs.items() if isinstance(value, Tensor)}
    middle = len(layers) // 2
    direction = torch.nn.functional.normalize(torch.randn(layers[0].hidden_size, device=DEVICE), dim=0)

    def plain(**options: Any) -> Any:
        with torch.no_grad():
            return network(**inputs, use_cache=False, **options)

    yield "logits", ma.run(model, batch).logits, plain().logits

    names = ["resid_post", "attn_out", "mlp_out"]
    cache = ma.run(model, batch, record=names).cache
    for name, part in zip(names, ("", "self_attn", "mlp"), strict=True):
        kept: dict[int, Tensor] = {}
        modules = {layer: block.get_submodule(part) if part else block for layer, block in enumerate(layers)}
        with hooked(modules, lambda layer, hidden: kept.update({layer: hidden})):  # noqa: B023 - run in this round
            plain()
        yield name, cache.stack(name), torch.stack([kept[layer] for layer in range(len(layers))])

    edit = ma.Edit(ma.HookPoint("resid_post", layers=[middle]), lambda resid: 1.5 * resid)
    with hooked({middle: layers[middle]}, lambda _, hidden: 1.5 * hidden):
        edited = plain().logits
    yield "an edit", ma.run(model, batch, interventions=[edit]).logits, edited

    steer = ma.Steer(direction.cpu().numpy(), layers=[middle], strength=STRENGTH, positions=None)
    with hooked({middle: layers[middle]}, lambda _, hidden: hidden + STRENGTH * direction.to(hidden)):
        steered = plain().logits
        written = network.generate(**inputs, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    yield "steering", ma.run(model, batch, interventions=[steer]).logits, steered
    new = ma.generate(model, batch, max_new_tokens=TOKENS, interventions=[steer]).tokens
    width = min(new.shape[1], TOKENS)
    yield "tokens written under steering", new[:, :width], written[:, inputs["input_ids"].shape[1] :][:, :width]

    cache = ma.run(model, batch, record=["result", "attn_out"]).cache
    yield "results of heads, summed", cache.stack("result").sum(-2), cache.stack("attn_out")

    def steered_at(layer: int) -> Tensor:
        with hooked({layer: layers[layer]}, lambda _, hidden: shifted_at_end(hidden, STRENGTH * direction)):
            return plain().logits[:, -1]

    everywhere = range(len(layers))
    variants = [ma.Steer(direction.cpu().numpy(), layers=[layer], strength=STRENGTH) for layer in everywhere]
    swept = ma.sweep(model, batch.inputs, variants).logits
    yield "a sweep of steering", swept, torch.stack([steered_at(layer) for layer in everywhere])


def shifted_at_end(hidden: Tensor, change: Tensor) -> Tensor:
    """Residuals with something added at the last position."""
    hidden = hidden.clone()
    hidden[:, -1] += change.to(hidden)
    return hidden


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Return how far two tensors differ at most, as a share of the largest value; of tokens, the share that differs."""
    ours, theirs = ours.cpu(), theirs.cpu()
    if not theirs.is_floating_point():
        return float((ours != theirs).float().mean())
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def reopened(model: ma.AudioLM, options: dict[str, Any] | None) -> ma.AudioLM:
    """Save the network, and open it again with its weights in few bits, or in bfloat16."""
    quantised = {"quantization_config": BitsAndBytesConfig(**options)} if options else {"dtype": torch.bfloat16}
    with tempfile.TemporaryDirectory() as folder:
        model.network.save_pretrained(folder)
        model.processor.save_pretrained(folder)
        return ma.load(folder, device_map={"": DEVICE}, **quantised)


def compare(model: ma.AudioLM, large: bool) -> None:
    """Print how far the two differ, and what reading costs."""
    print("  opened with all proofs")
    batch = ma.prompt(model, list(ma.data.soundscapes.questions(4, seed=0)))
    for name, ours, theirs in comparisons(model, batch):
        print(f"  {apart(ours, theirs):8.1e}  {name}", flush=True)
    for name, ask in {
        "audio_attention": lambda: ma.analyses.audio_attention(model, batch),
        "attribution patching": lambda: ma.analyses.attribution_patching(model, batch.questions),
    }.items():
        try:
            ask()
            print(f"  works     {name}")
        except Exception as error:  # noqa: BLE001 - what is refused is the finding
            print(f"  refused   {name}: {brief(error)}")
    network: Any = model.network
    ways: dict[str, Callable[[], Any]] = {
        "transformers": lambda: network(**batch.inputs, use_cache=False, logits_to_keep=1),
        "last-row patterns": lambda: ma.run(
            model, batch, record=[ma.HookPoint("pattern", queries="last")], logits="last"
        ),
        "every residual": lambda: ma.run(model, batch, record=["resid_post"], logits="last"),
    }
    with torch.no_grad():
        memory = {name: peak_memory(way) for name, way in ways.items()} if large else None
        print(table(side_by_side(ways, 9 if large else 3), f"  {batch.inputs['input_ids'].shape}", memory))


def every_family() -> None:
    """Open the small network of every family with all proofs, and compare its logits with the plain forward's."""
    from tests.families import FAMILIES, model_inputs, network

    for family, bits in itertools.product(FAMILIES, BITS):
        net = network(family)
        inputs = {
            name: value.to(DEVICE) if isinstance(value, Tensor) else value
            for name, value in model_inputs(family).items()
        }

        def plain(small: nn.Module, inputs: dict[str, Any] = inputs) -> Tensor:
            with torch.no_grad():
                return small(**inputs, use_cache=False).logits

        with tempfile.TemporaryDirectory() as folder:
            net.save_pretrained(folder)
            placed = {"quantization_config": BitsAndBytesConfig(**BITS[bits]), "device_map": {"": DEVICE}}
            try:
                small = type(net).from_pretrained(folder, **placed).eval()
                twice = apart(plain(small), plain(small))
                said = f"transformers gives two answers, {twice:.1e} apart" if twice else ""
            except Exception as error:  # noqa: BLE001 - what is refused is the finding
                said = f"transformers cannot: {brief(error)}"
            try:
                model = ma.load(folder, **placed)
                logits = ma.run(model, inputs).logits
                ours = f"opened with all proofs, logits {apart(logits, plain(model.network)):.1e}"
            except Exception as error:  # noqa: BLE001 - likewise; where transformers fails, that is said instead
                ours = "" if said else brief(error)
        print(f"  {family:24} {bits}: {'; '.join(filter(None, (said, ours)))}", flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="eight layers of Qwen2-Audio-7B's size, on a GPU")
    parser.add_argument("--families", action="store_true", help="instead, the small networks of all families")
    arguments = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at each product that float32 becomes float16
    if arguments.families:
        every_family()
        return
    for bits, options in {"16 bits, not quantised": None, **BITS}.items():
        print(bits, flush=True)
        compare(reopened(opened(arguments.large, n_layers=8 if arguments.large else 4), options), arguments.large)


if __name__ == "__main__":
    main()
