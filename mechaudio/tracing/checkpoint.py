"""Reading a checkpoint whole: the network gets every one of its tensors from the file, or it is refused.

transformers fills what a file lacks with random numbers and goes on, and leaves out what it has no name for. A network
with a random layer looks like one that does not listen, so here both are errors.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils.hub import cached_file

from mechaudio.arguments import n_of
from mechaudio.models.adapter import Adapter
from mechaudio.models.assembling import some
from mechaudio.models.network import Network
from mechaudio.notices import warn

#: Files of weights that are not read: unpickling them can run code.
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")
#: What names of tensors begin with when a wrapped network was saved, and where the network itself was.
_WRAPPERS = {
    "module.": "network.module",
    "_orig_mod.": "network._orig_mod",
    "base_model.model.": "network.merge_and_unload()",
    "_fsdp_wrapped_module.": "network.module",
}
#: Types of safetensors that no weight has unless it is quantised.
_SHORT_TYPES = ("I4", "U4", "I8", "U8", "F4", "F6_", "F8", "I16", "U16")
#: Types of safetensors that weights and biases have.
_WEIGHT_TYPES = ("BF16", "F16", "F32", "F64")
#: Types that weights are computed with; those of packed numbers have no smallest and largest.
_FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def read_network(adapter: Adapter, where: str, hub: dict[str, Any], options: dict[str, Any]) -> Network:
    """Build the adapter's class and fill it from the safetensors of a checkpoint.

    Returns:
        The network, all of whose tensors come from the checkpoint; ties and what the class itself declares to be made
        anew aside.

    Raises:
        ValueError: Tensors are missing, have other shapes or other names, are there twice, or hold NaN or infinity; or
            a file is damaged, or the class cannot be built from the config.
        OSError: There are no safetensors.
    """
    network_class = adapter.load_class()
    with _report() as report:
        try:
            network, info = network_class.from_pretrained(
                where,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they come back in the info, with their shapes
                **hub,
                **options,
            )
        except SafetensorError as error:
            raise ValueError(_unreadable(folder_of(where, hub), error)) from error
        except OSError as error:
            raise type(error)(_without_safetensors(where, folder_of(where, hub), error)) from error
        except (ImportError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" + "".join(f"\n{said}" for said in report)
            raise ValueError(
                f"{where!r} cannot be opened as a {adapter.network_class}, with this config.json, these weights and "
                f"these options. transformers says: {reason}"
            ) from error
    folder = folder_of(where, hub)
    refuse_unaccounted(network, adapter, info, weights_of(folder, where))
    files = _files_of_tensors(folder, options.get("variant"))
    _refuse_two_for_one(network, {name: file for name, file in files.items() if name not in info["unexpected_keys"]})
    _refuse_quantised(network, folder)
    _refuse_no_numbers(network, weights_of(folder, where))
    if hasattr(network, "peft_config") and report:  # then the info is about the adapter's tensors alone
        raise ValueError(f"{where!r} lacks tensors of the network that its adapter is for:\n{report[0]}")
    return network


def refuse_unaccounted(network: Network, adapter: Adapter, info: dict[str, Any], file: str) -> None:
    """Refuse a network that is not all of the checkpoint, or a checkpoint that is not all of the network.

    Args:
        network: The network.
        adapter: The facts about its class.
        info: What transformers found: `missing_keys`, `unexpected_keys`, `mismatched_keys`.
        file: Where the weights are, for the message.

    Raises:
        ValueError: Tensors are missing, have another shape, or lie in parts that the network has and that have no use
            for them.

    Warns:
        UserWarning: The checkpoint holds parts that the class does not have.
    """
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    mismatched = sorted(info["mismatched_keys"])
    paths = {path for path, _ in network.named_modules()}
    strange = [name for name in unexpected if _inside(paths, adapter, name)]
    total = len(network.state_dict())
    wrong = []
    if missing:
        wrong.append(f"{len(missing)} of {total} tensors are missing ({some(missing)})")
    if mismatched:
        shapes = [f"{name} {list(there)} instead of {list(wanted)}" for name, there, wanted in mismatched]
        wrong.append(f"{n_of(len(mismatched), 'has another shape', 'have another shape')} ({some(shapes)})")
    if unexpected and (missing or strange):
        shown = unexpected if missing else strange
        wrong.append(f"{n_of(len(shown), 'has a name', 'have names')} that the network does not know ({some(shown)})")
    if wrong:
        raise ValueError(
            f"{file} does not hold the weights of this {type(network).__name__}: {'; '.join(wrong)}. transformers "
            f"would go on with random numbers, or without them. {_remedy(unexpected)}"
        )
    if unexpected:
        warn(
            f"{file} holds {n_of(len(unexpected), 'tensor')} of parts that {type(network).__name__} does not have, and "
            f"that are left out: {some(unexpected)}"
        )


def _files_of_tensors(folder: Path, variant: str | None) -> dict[str, Path]:
    """Return the file of each tensor, and refuse a folder in which one is there twice: which was meant, nobody says."""
    suffix = f".{variant}" if variant else ""
    whole, index = folder / f"model{suffix}.safetensors", folder / f"model.safetensors.index{suffix}.json"
    if not index.is_file():
        return dict.fromkeys(_header(whole), whole) if whole.is_file() else {}
    try:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        elsewhere = [part for part in parts if Path(part).name != part]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(index)!r} is no index of weights, which names the file of each tensor in its 'weight_map' "
            f"({type(error).__name__}: {error}): take it away, or fetch it again"
        ) from error
    if elsewhere:
        raise ValueError(
            f"{str(index)!r} takes weights from files outside its folder ({some(elsewhere)}), which may be those of "
            "another network: put them into the folder, and their names alone into the index"
        )
    if whole.is_file() and whole.name not in parts:
        raise ValueError(
            f"{str(folder)!r} holds two sets of weights, {whole.name} and what {index.name} lists ({some(parts)}): "
            "take away those that are not meant"
        )
    parts_with: dict[str, list[str]] = {}
    for part in parts:
        for name in _header(folder / part):
            parts_with.setdefault(name, []).append(part)
    twice = [f"{name} in {' and '.join(files)}" for name, files in parts_with.items() if len(files) > 1]
    if twice:
        raise ValueError(
            f"the weights in {str(folder)!r} hold {n_of(len(twice), 'tensor')} twice ({some(twice)}): fetch or save "
            "them again"
        )
    return {name: folder / part for name, (part,) in parts_with.items()}


def _refuse_two_for_one(network: Network, files: Mapping[str, Path]) -> None:
    """Refuse two tensors for one place: transformers knows some places by an older name, too, and takes the last.

    Such tensors have the end of a name in common, as `lm_head.weight`, are more in the file than in the network, and
    hold different numbers.
    """
    places = Counter(end for name in network.state_dict() for end in _ends(name))
    rivals: dict[str, list[str]] = {}
    for name in files:
        for end in _ends(name):
            if end in files:
                rivals.setdefault(end, []).append(name)
    for end, names in rivals.items():
        if not 0 < places[end] < len(names):
            continue
        tensors = [_tensor(files[name], name) for name in names]
        if any(not torch.equal(tensors[0], other) for other in tensors[1:]):
            raise ValueError(
                f"the weights in {str(files[end].parent)!r} hold {' and '.join(names)}, with different numbers, for "
                f"{n_of(places[end], 'place')} in this {type(network).__name__}: take out the one that is not meant"
            )


def _ends(name: str) -> list[str]:
    """Return a tensor's name, and what is left of it without its first words."""
    words = name.split(".")
    return [".".join(words[start:]) for start in range(len(words))]


def _tensor(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)


def _refuse_no_numbers(network: Network, file: str) -> None:
    """Refuse weights that are NaN or infinite, and warn of matrices of zeros, as a copy that broke off leaves them."""
    ranges = {
        name: value.detach().aminmax()
        for name, value in network.named_parameters()
        if value.dtype in _FLOATS and not value.is_meta and value.numel()
    }
    infinite = [name for name, (low, high) in ranges.items() if not (low.isfinite() and high.isfinite())]
    if infinite:
        raise ValueError(
            f"{file} gives {len(infinite)} of {len(ranges)} tensors that hold NaN or infinity ({some(infinite)}): the "
            "file is damaged, the training that wrote it went wrong, or the type that was asked for (dtype=) cannot "
            "hold its numbers. A network that is meant to be so opens with AudioLM(network, processor)"
        )
    matrices = [name for name, value in network.named_parameters() if value.ndim > 1 and name.endswith("weight")]
    zeros = [name for name in matrices if name in ranges and not any(ranges[name])]
    if zeros:
        warn(
            f"{file} holds zeros alone for {len(zeros)} of {len(matrices)} matrices ({some(zeros)}), and what they "
            "are part of does nothing: was it copied whole? Fetch it again, unless it is meant so"
        )


def _refuse_quantised(network: Network, folder: Path) -> None:
    """Quantised numbers are read as what they stand for, or not at all."""
    if getattr(network, "hf_quantizer", None) is not None:
        return
    if getattr(network.config, "quantization_config", None) is not None:
        raise ValueError(
            f"the config.json in {str(folder)!r} says that its weights are quantised "
            f"({_method(network.config.quantization_config)!r}), in a way that this transformers does not know: "
            "upgrade it, or install what it needs"
        )
    for file in sorted(folder.glob("*.safetensors")):
        stored = {name: about["dtype"] for name, about in _header(file).items()}
        other = [
            f"{name} as {dtype}"
            for name, dtype in stored.items()
            if dtype.startswith(_SHORT_TYPES) or (name.endswith((".weight", ".bias")) and dtype not in _WEIGHT_TYPES)
        ]
        if other:
            raise ValueError(
                f"{str(file)!r} holds quantised or other numbers than weights are ({some(other)}), and its "
                "config.json has no quantization_config that says what they stand for: they would be read as plain "
                "numbers"
            )


def _method(quantisation: Any) -> Any:
    return quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation.quant_method


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        tensors = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    tensors.pop("__metadata__", None)
    return tensors


def _inside(paths: Container[str], adapter: Adapter, name: str) -> bool:
    """Return whether a tensor lies in a part that the network has, by its modules' paths, with hook points in it."""
    layers = [path for stack in adapter.stacks.values() for path in stack.paths]
    parts = (adapter.decoder_module, adapter.unembed, adapter.projector, *(p.rpartition(".")[0] for p in layers))
    inside = tuple(f"{part}." for part in parts if part)
    last = name.rpartition(".")[0]
    while last and last not in paths:
        last = last.rpartition(".")[0]
    within = f"{last}."
    whole = {f"{part}." for part in (adapter.decoder_module, *(p.rpartition(".")[0] for p in layers))}
    # Directly below a whole part a checkpoint may hold another one, such as heads for predicting further tokens.
    return within.startswith(inside) and within not in whole


def _remedy(unexpected: list[str]) -> str:
    for prefix, network in _WRAPPERS.items():
        if unexpected and all(name.startswith(prefix) for name in unexpected):
            return f"The names begin with {prefix!r}: a wrapped network was saved; save {network} with save_pretrained"
    if any("lora_" in name for name in unexpected):
        return "It holds an adapter of low rank: merge it (network.merge_and_unload()) before save_pretrained"
    return (
        "Save it again with save_pretrained, from the same class and config, or fetch it again; a network that is "
        "meant to be so opens with AudioLM(network, processor)"
    )


def folder_of(where: str, hub: dict[str, Any]) -> Path:
    """The folder that a checkpoint is in: the one given, or that of the hub's cache."""
    folder = Path(where, hub.get("subfolder", ""))
    if folder.is_dir():
        return folder
    here = {name: value for name, value in hub.items() if name in ("cache_dir", "revision", "subfolder")}
    config = cached_file(
        where, "config.json", _raise_exceptions_for_missing_entries=False, local_files_only=True, **here
    )
    return folder if config is None else Path(config).parent


def weights_of(folder: Path, where: str) -> str:
    """Name the weights of a checkpoint in messages: the file, or the folder where there are several."""
    files = sorted(folder.glob("*.safetensors"))
    return repr(str(files[0])) if len(files) == 1 else repr(str(folder) if folder.is_dir() else where)


def _unreadable(folder: Path, error: SafetensorError) -> str:
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError as own:
            size = file.stat().st_size
            return (
                f"{str(file)!r} ({size:,} bytes) is no whole safetensors file: {own}. It was cut off or damaged: fetch "
                "or save it again"
            )
    return f"the weights in {str(folder)!r} cannot be read: {error}. Fetch or save them again"


def _without_safetensors(where: str, folder: Path, error: OSError) -> str:
    other = sorted({file.name for pattern in _OTHER_WEIGHTS for file in folder.glob(pattern)})
    if list(folder.glob("*.safetensors")) or not folder.is_dir():
        return f"the weights of {where!r} cannot be read: {error}"
    if other:
        return (
            f"{str(folder)!r} holds no safetensors, only {some(other)}, which is not read: unpickling can run "
            "code. Load it yourself where you trust it, network = Class.from_pretrained(folder), and open "
            "AudioLM(network, processor), or save it again: network.save_pretrained(folder)"
        )
    return (
        f"{str(folder)!r} holds a config.json and no weights: no *.safetensors. Fetch the checkpoint whole, or save "
        "the network into it with save_pretrained"
    )


@contextmanager
def _report() -> Iterator[list[str]]:
    """While open, transformers' reports on weights go into the list, and nowhere else."""
    logger, reports = logging.getLogger("transformers.modeling_utils"), list[str]()

    class Keep(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            said = record.getMessage()
            if "LOAD REPORT" in said:
                reports.append(_COLOURS.sub("", said))
            return "LOAD REPORT" not in said and record.levelno >= before

    before, level, keep = logger.getEffectiveLevel(), logger.level, Keep()
    logger.addFilter(keep)
    if before > logging.WARNING:
        logger.setLevel(logging.WARNING)
    try:
        yield reports
    finally:
        logger.setLevel(level)
        logger.removeFilter(keep)
