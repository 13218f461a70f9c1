"""Which parameters of an opened model TimeAudio's training moves, by group.

Conventions: groups are those of `mechaudio.timeaudio.stages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mechaudio.arguments import checks_arguments
from mechaudio.models.network import Network
from mechaudio.models.salmonn.lora import TARGETS, LoraLinear
from mechaudio.timeaudio.markers import MARKERS
from mechaudio.timeaudio.stages import Stage
from mechaudio.tracing.audio_lm import AudioLM

#: Last part of the name of a table of times.
TIMES = "abs_time_position_embedding"
#: A tower by name that lies between the others and the decoder, and is trained with the projection.
_BETWEEN = "qformer"


def marker_ids(processor: Any) -> tuple[int, ...]:
    """Find the ids of the markers in the vocabulary of a processor's tokenizer, none if some are missing."""
    vocabulary = processor.tokenizer.get_vocab()
    return tuple(vocabulary[token] for token in MARKERS) if all(token in vocabulary for token in MARKERS) else ()


def put_lora_in(model: AudioLM, stage: Stage) -> bool:
    """Put adapters of low rank into a decoder that has none; those that are there are given the stage's dropout.

    Returns:
        Whether some were put in.

    Raises:
        ValueError: The decoder's layers have no query and value projection of their own.
    """
    there = [module for module in model.network.modules() if isinstance(module, LoraLinear)]
    for module in there:
        module.dropout = stage.lora_dropout
    if there:
        return False
    for number, layer in enumerate(model.network.get_submodule(model.adapter.decoder.layers)):
        attention: Network = getattr(layer, "self_attn", None)
        for name in TARGETS:
            base = getattr(attention, name, None)
            if not isinstance(base, nn.Linear):
                raise ValueError(
                    f"layer {number} of the decoder has no linear self_attn.{name}, beside which adapters of low rank "
                    "are put: train without the group 'lora'"
                )
            lora = LoraLinear(base, stage.lora_rank, stage.lora_alpha, stage.lora_dropout)
            lora.to(base.weight.device).eval()
            setattr(attention, name, lora)
    return True


def groups_of(model: AudioLM, stage: Stage) -> dict[str, dict[str, nn.Parameter]]:
    """Sort the parameters that a stage trains into its groups, by name; adapters of low rank have to be put in.

    Raises:
        ValueError: A group has no parameter in this network, other than those that only TimeAudio has, of which one is
            there.
    """
    network: Network = model.network
    named = dict(network.named_parameters())
    tables = {id(table.weight) for table in (network.get_input_embeddings(), network.get_output_embeddings())}
    frozen = tuple(f"{root}." for root in _towers(model))
    decoder = f"{model.adapter.decoder_module}."
    found: dict[str, dict[str, nn.Parameter]] = {group: {} for group in stage.rates}
    for name, parameter in named.items():
        group = _group(name, parameter, tables, frozen, decoder)
        if group in found:
            found[group][name] = parameter
    if "markers" in found and stage.rows == "new" and not marker_ids(model.processor):
        found["markers"] = {}
    empty = [group for group in ("lora", "adapter") if group in found and not found[group]]
    if empty or not any(found.values()):
        raise ValueError(f"{type(network).__name__} has no parameters of {' and '.join(empty or found)}")
    return {group: parameters for group, parameters in found.items() if parameters}


def _group(name: str, parameter: nn.Parameter, tables: set[int], frozen: tuple[str, ...], decoder: str) -> str | None:
    if ".lora_A." in name or ".lora_B." in name:
        return "lora"
    if name.endswith(TIMES):
        return "times"
    if id(parameter) in tables:
        return "markers"
    return None if name.startswith((*frozen, decoder)) else "adapter"


def _towers(model: AudioLM) -> list[str]:
    """Give the path of each tower of audio: as much of a list of layers' path as nothing else lies below."""
    adapter = model.adapter
    stacks = {"": adapter.encoder, **{name: stack for name, stack in adapter.towers.items() if name != _BETWEEN}}
    others = [adapter.decoder.layers, adapter.projector, adapter.unembed]
    others += [stack.layers for name, stack in adapter.towers.items() if name == _BETWEEN]
    roots = []
    for stack in stacks.values():
        parts = stack.layers.split(".")
        prefixes = [".".join(parts[:n]) for n in range(1, len(parts))]
        roots.append(next(p for p in prefixes if not any(f"{other}.".startswith(f"{p}.") for other in others)))
    return roots


def only_rows(table: Tensor, ids: Sequence[int]) -> torch.utils.hooks.RemovableHandle:
    """Let a gradient reach some rows of a table of parameters alone."""
    mask = torch.zeros(len(table), 1, dtype=torch.bool, device=table.device)
    mask[list(ids)] = True
    return table.register_hook(lambda gradient: gradient * mask)


@checks_arguments
def fold_lora(network: nn.Module) -> int:
    """Add the adapters of low rank to the projections beside which they stand, and take them out.

    What is left is an ordinary network of its class, which any library opens.

    Args:
        network: Changed in place.

    Returns:
        How many there were.
    """
    folded = 0
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, LoraLinear):
                lora: Network = module
                up, down, base = lora.lora_B["default"].weight, lora.lora_A["default"].weight, lora.base_layer
                with torch.no_grad():
                    base.weight += (lora.scaling * (up.float() @ down.float())).to(base.weight.dtype)
                setattr(parent, name, base)
                folded += 1
    return folded


def sizes(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, int]:
    """Count the numbers in each group."""
    return {group: sum(parameter.numel() for parameter in each.values()) for group, each in groups.items()}
