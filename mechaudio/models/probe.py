"""The smallest inputs that make a network hear something: a second of noise and a few tokens."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from mechaudio.models.adapter import Adapter
from mechaudio.models.clips import bands_of
from mechaudio.models.hearing import audio_token_id
from mechaudio.models.inputs import input_device


def probe_inputs(network: nn.Module, adapter: Adapter) -> dict[str, Any]:
    """Inputs for one prompt that holds a second of noise: random features, audio placeholders, three text tokens.

    Returns:
        Keyword arguments of the network's forward, a batch of one, on the network's device.
    """
    config = network.config
    tower = adapter.encoder.own_config(config)
    device = input_device(network)
    frames = round(adapter.sampling_rate / adapter.timing.hop)
    positions = getattr(tower, "max_source_positions", None)
    if adapter.encoder.layout == "batch" and positions is not None:
        window = 2 * positions
    else:
        stride = math.prod(stride for _, stride, _ in adapter.timing.steps)
        window = frames if adapter.encoder.layout == "packed" else -(-frames // stride) * stride
    frames = min(frames, window)
    features = torch.randn(1, bands_of(network, adapter), window, generator=torch.Generator().manual_seed(0))
    features = features[:, 0] if adapter.bands is None else features
    inputs: dict[str, Any] = {adapter.features: features if adapter.frames_axis == -1 else features.mT.contiguous()}
    for name, bands in adapter.features_beside.items():
        shape = (1, attrgetter(bands)(config), window)
        beside = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        inputs[name] = beside if adapter.frames_axis == -1 else beside.mT.contiguous()
    n_tokens = adapter.timing.tokens_of_frames(window if adapter.timing.pads_to_window else frames)
    if adapter.features_mask is not None and adapter.mask_counts == "samples":
        inputs[adapter.features_mask] = torch.tensor([frames * adapter.timing.hop])
    elif adapter.features_mask is not None and adapter.mask_counts == "tokens":
        inputs[adapter.features_mask] = (torch.arange(adapter.timing.tokens_of_frames(window)) < n_tokens)[None]
    elif adapter.features_mask is not None:
        inputs[adapter.features_mask] = (torch.arange(window) < frames)[None]
    if adapter.features_sizes is not None:
        inputs[adapter.features_sizes] = torch.tensor([n_tokens])
    audio = audio_token_id(config, adapter)
    text = [token for token in range(1, 6) if token != audio][:4]
    inputs["input_ids"] = torch.tensor([[text[0], *[audio] * n_tokens, *text[1:]]])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return {**adapter.always, **{name: value.to(device) for name, value in inputs.items()}}
