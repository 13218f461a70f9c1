"""Noise that an audio tower adds at random, switched off where the network cannot be asked to leave it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

from torch import nn

from mechaudio.models.adapter import Adapter


@contextmanager
def without_noise(network: nn.Module, adapter: Adapter) -> Iterator[None]:
    """While open, the tower adds no noise if the network has no input that leaves it out.

    Where it has one, every run passes that on (`Noise.left_out_by`), and a caller may ask for the noise.
    """
    if adapter.noise is None or adapter.noise.left_out_by:
        yield
        return
    where, _, name = adapter.noise.scale.rpartition(".")
    config = attrgetter(where)(network.config)
    scale = getattr(config, name)
    setattr(config, name, 0.0)
    try:
        yield
    finally:
        setattr(config, name, scale)
