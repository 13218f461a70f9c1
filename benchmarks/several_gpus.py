"""What works when transformers spreads a network over several devices: every family, small, opened by `ma.load`.

    PYTHONPATH=. python benchmarks/several_gpus.py                       # all families, all placements there are here
    PYTHONPATH=. python benchmarks/several_gpus.py qwen2_audio voxtral
    PYTHONPATH=. python benchmarks/several_gpus.py --full-size           # and a network of full size cut in two

With two GPUs: `device_map="auto"` and the decoder cut in two. With one: offloading to the CPU and the disk. Without:
offloading to the disk. Each answer is compared with the same network on one device; a placement that transformers
itself cannot run is said to be so. Networks are the small ones of the tests, of the real transformers classes; the one
of full size has Audio Flamingo 3's shape, and hears a clip of ten minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import full_size
import torch
import transformers
from accelerate import dispatch_model
from side_by_side import brief, side_by_side, table
from torch import Tensor, nn

import mechaudio as ma
from mechaudio.models.adapter import Adapter
from mechaudio.models.registry import adapter_for
from tests.families import FAMILIES, model_inputs, network

TOLERANCE = 1e-4  # of the largest logit: other kernels add in another order


def placements(net: nn.Module, adapter: Adapter) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and arguments of `from_pretrained`."""
    n_gpus = torch.cuda.device_count()
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    main = 0 if n_gpus else "cpu"
    others: dict[str, int | str] = {"GPU 1": 1} if n_gpus > 1 else {}
    others |= {"CPU": "cpu"} if n_gpus else {}
    if n_gpus > 1:
        yield "auto", {"device_map": "auto"}
    for where, device in others.items():
        for share in (0.5, 0.9):
            yield f"auto, {share:.0%} on GPU 0, rest on {where}", automatic({0: int(share * size), device: 100 * size})
        yield f"second half of the decoder on {where}", {"device_map": halves(net, adapter, main, device)}
    yield "second half of the decoder on disk", {"device_map": halves(net, adapter, main, "disk")}
    if not n_gpus:
        yield "everything on disk", {"device_map": {"": "disk"}}


def automatic(memory: dict[int | str, int]) -> dict[str, Any]:
    """What makes transformers place the parts itself within this memory, in bytes."""
    return {"device_map": "auto", "max_memory": memory}


def halves(net: nn.Module, adapter: Adapter, first: int | str, second: int | str) -> dict[str, int | str]:
    """A device map that sends the second half of the decoder's layers elsewhere."""
    layers = adapter.decoder.layers
    placed: dict[str, int | str] = {name: first for name, _ in net.named_parameters(recurse=False)}

    def place(path: str, module: nn.Module) -> None:
        if path == layers:
            half = (len(module) + 1) // 2
            placed.update({f"{path}.{layer}": first if layer < half else second for layer in range(len(module))})
        elif layers.startswith(f"{path}."):
            for name, child in module.named_children():
                place(f"{path}.{name}", child)
            placed.update({f"{path}.{name}": first for name, _ in module.named_parameters(recurse=False)})
        else:
            placed[path] = first

    for name, child in net.named_children():
        place(name, child)
    return placed


def answers(model: ma.AudioLM, inputs: dict[str, Any]) -> dict[str, Callable[[], Tensor]]:
    """What people do with a model, each as the numbers that come of it."""
    last_rows = ma.HookPoint("pattern", queries="last")
    edits = [
        ma.Edit(ma.HookPoint("resid_post", layers=[layer]), lambda resid: 1.5 * resid)
        for layer in (0, model.n_layers - 1)
    ]

    def recorded() -> Tensor:
        out = ma.run(model, inputs, record=["embed", "resid_post", "audio.resid_post", "projector_out", last_rows])
        return torch.cat([value.flatten().float().cpu() for value in out.cache.values()])

    def traced() -> Tensor:
        with ma.trace(model, inputs):
            kept = model.blocks[-1].resid_pre.save()
            model.blocks[-1].resid_post[:, -1] += 1.0
            logits = model.logits.save()
        return torch.cat([kept.flatten().float().cpu(), logits[:, -1].flatten().float().cpu()])

    return {
        "logits": lambda: ma.run(model, inputs).logits,
        "hook points": recorded,
        "an edit in the first layer and in the last": lambda: ma.run(model, inputs, interventions=edits).logits,
        "a trace block": traced,
        "audio_attention": lambda: torch.from_numpy(ma.analyses.audio_attention(model, inputs).mass).nan_to_num(),
        "attention_mass": lambda: torch.from_numpy(ma.analyses.attention_mass(model, inputs).mass).nan_to_num(),
        "generation with an edit": lambda: ma.generate(model, inputs, max_new_tokens=4, interventions=edits).tokens,
    }


def attempt(folder: Path, offload: Path, placement: dict[str, Any], want: dict[str, Any]) -> str:
    """One line: what transformers made of the placement, and which answers are those of one device."""
    network_class = type(want["network"])
    options = {**placement, "offload_folder": str(offload)}
    try:
        spread = network_class.from_pretrained(folder, **options).eval()
        everywhere = {"": next(spread.parameters()).device}
        placed = getattr(spread, "hf_device_map", everywhere)  # there is no map where one device was enough
        devices = sorted({str(device) for device in placed.values()})
        with torch.no_grad():
            plain = spread(**want["inputs"], use_cache=False).logits
    except Exception as error:  # noqa: BLE001 - whatever transformers says is the finding
        return f"transformers cannot: {brief(error)}"
    try:
        model = ma.load(folder, **options)
    except Exception as error:  # noqa: BLE001
        return f"on {devices}: cannot be opened: {brief(error)}"
    found, exact = [], 0
    asked = answers(model, want["inputs"])
    for name, ask in asked.items():
        try:
            got = ask().float().cpu()
        except Exception as error:  # noqa: BLE001
            found.append(f"{name}: {brief(error)}")
            continue
        expected = want[name].float().cpu()
        if name == "logits" and not torch.equal(got, plain.float().cpu()):
            found.append("logits are not those of the plain forward")
        off = float((got - expected).abs().max() / expected.abs().max())
        exact += off == 0
        if off > TOLERANCE:
            found.append(f"{name}: off by {off:.1e}")
    return f"on {devices}: {'works' if not found else '; '.join(found)} ({exact} of {len(asked)} exact)"


def cut_in_two(repeats: int = 5) -> None:
    """Ten minutes of sound through a network of full size on two GPUs."""
    net = full_size.network(full_size.flamingo, False, "cuda")
    placed = halves(net, adapter_for(net), 0, 1)
    dispatch_model(net, placed, skip_keys=net._skip_keys_device_placement)
    model = ma.AudioLM(net)
    batch = full_size.inputs(net, 1, windows=20, seconds=30)
    ways = {
        "transformers on two GPUs": lambda: net(**batch, use_cache=False, logits_to_keep=1),
        "mechaudio on two GPUs: last-row patterns": lambda: ma.run(
            model, batch, record=[ma.HookPoint("pattern", queries="last")], logits="last"
        ),
    }
    with torch.no_grad():
        for name, way in ways.items():
            print(f"{name}: peak beyond weights {peaks(way)} MB")
        print(table(side_by_side(ways, repeats), f"{type(net).__name__}, {batch['input_ids'].shape[1]} positions"))
        plain, run = (way().logits for way in ways.values())
    print(f"  logits as plain transformers gives them: {torch.equal(plain, run)}", flush=True)


def peaks(way: Callable[[], Any]) -> list[int]:
    """Megabytes that one call needs on every GPU beyond what is held already."""
    gpus = range(torch.cuda.device_count())
    held = [torch.cuda.memory_allocated(gpu) for gpu in gpus]
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    way()
    return [(torch.cuda.max_memory_allocated(gpu) - before) // 2**20 for gpu, before in zip(gpus, held, strict=True)]


def main() -> None:
    """Print a line per family and placement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=FAMILIES)
    parser.add_argument("--full-size", action="store_true", help="also a network of full size, cut in two over GPUs")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    main_device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    for family in arguments.families:
        net = network(family)
        adapter = adapter_for(net)
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as offload:
            net.save_pretrained(folder)
            one = ma.load(folder, device=main_device)
            inputs = {
                name: value.to(main_device) if isinstance(value, Tensor) else value
                for name, value in model_inputs(family).items()
            }
            want = {name: ask() for name, ask in answers(one, inputs).items()}
            want |= {"network": net, "inputs": inputs}
            for name, placement in placements(net, adapter):
                line = attempt(Path(folder), Path(offload), placement, want)
                print(f"{family} | {name} | {line}", flush=True)
    if arguments.full_size:
        cut_in_two()


if __name__ == "__main__":
    main()
