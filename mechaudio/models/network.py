"""The name of a network in annotations, and the device of one of its parts."""

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

#: A network or a part of one. torch declares each part as a tensor or a module, and type checkers would refuse whatever
#: is done with either: they take it as it is.
if TYPE_CHECKING:
    Network: TypeAlias = Any
else:
    Network = nn.Module


def device_of(module: nn.Module) -> torch.device:
    """Return the device that a module computes on, also under a device map or offloading."""
    executes = getattr(getattr(module, "_hf_hook", None), "execution_device", None)  # a device, or a GPU's number
    return next(module.parameters()).device if executes is None else torch.device(executes)
