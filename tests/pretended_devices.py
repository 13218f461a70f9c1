"""Devices that a CPU pretends to have: tensors that say where they lie, and refuse to be mixed.

`spread` places every piece of a network that accelerate could place on a device of its own, which makes every cut at
once. What a forward pass leaves on the wrong device is an error here as it is between GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Placed(Tensor):
    """A tensor in the CPU's memory that says it lies on `cpu:1` or another."""

    content: Tensor

    @staticmethod
    def __new__(cls, content: Tensor, device: torch.device | None = None, requires_grad: bool = False) -> Placed:
        if isinstance(content, Placed):
            content._is_param = True  # as accelerate makes a parameter of another
            return content
        placed = Tensor._make_wrapper_subclass(
            cls,
            content.shape,
            strides=content.stride(),
            storage_offset=content.storage_offset(),
            dtype=content.dtype,
            device=device,
        )
        placed.content = content
        return placed

    def tolist(self) -> Any:
        return self.content.tolist()

    def data_ptr(self) -> int:
        return self.content.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})


class _Devices(TorchDispatchMode):
    """Sends tensors that are made to the devices that are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})


class _Constants(TorchFunctionMode):
    """Sends `torch.tensor`, which makes tensors below all modes, to the device that is asked for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.pop("device", None) if func is torch.tensor else None
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


def _each(change: Callable[[Any], Any], values: Any) -> Any:
    """Change whatever is in lists, tuples and dicts."""
    if type(values) in (list, tuple):
        return type(values)(_each(change, value) for value in values)
    if isinstance(values, dict):
        return {name: _each(change, value) for name, value in values.items()}
    return change(values)


def _carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU what all tensors of one device give, and place it there."""
    given, placed = list[Tensor](), dict[int, Placed]()

    def content_of(value: Any) -> Any:
        if isinstance(value, Tensor):
            given.append(value)
        if isinstance(value, Placed):
            placed[id(value.content)] = value
            return value.content
        return value

    args, inner = _each(content_of, args), _each(content_of, kwargs)
    devices = {value.device for value in given if value.ndim or isinstance(value, Placed)}
    if len(devices) > 1 and func is not torch.ops.aten.copy_.default:
        raise RuntimeError(f"{func} was given tensors on several devices: {', '.join(sorted(map(str, devices)))}")
    named = kwargs.get("device")
    device = torch.device(named) if named is not None else given[0].device if given else torch.device("cpu")
    pretended = device.type == "cpu" and device.index is not None
    if named is not None and pretended:
        inner["device"] = torch.device("cpu")

    def put(value: Any) -> Any:
        if not isinstance(value, Tensor) or not pretended:
            return value
        return placed[id(value)] if id(value) in placed else Placed(value, device)

    return _each(put, func(*args, **inner))


def pieces(module: nn.Module, undivided: set[str], path: str = "") -> Iterator[str]:
    """List the modules and parameters that accelerate places as one, in its order."""
    if path and (type(module).__name__ in undivided or not list(module.children())):
        yield path
        return
    inside = f"{path}." if path else ""
    yield from (f"{inside}{name}" for name, _ in module.named_parameters(recurse=False))
    yield from (f"{inside}{name}" for name, _ in module.named_buffers(recurse=False))
    for name, child in module.named_children():
        yield from pieces(child, undivided, f"{inside}{name}")


@contextmanager
def spread(network: nn.Module, where: dict[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Place each piece of a network on a device of its own, as `device_map=` would, and give the map."""
    if where is None:
        apart = pieces(network, set(network._no_split_modules))
        where = {path: f"cpu:{number + 1}" for number, path in enumerate(apart)}

    moved = dict[Tensor, nn.Parameter]()  # a parameter of several modules stays one
    for name, parameter in list(network.named_parameters(remove_duplicate=False)):
        owner, _, last = name.rpartition(".")
        piece = next(piece for piece in where if f"{name}.".startswith(f"{piece}."))
        if parameter not in moved:
            moved[parameter] = nn.Parameter(Placed(parameter.data, torch.device(where[piece])))
        network.get_submodule(owner)._parameters[last] = moved[parameter]
    with _Constants(), _Devices(), torch.no_grad():
        dispatch_model(network, where, main_device="cpu:1", skip_keys=network._skip_keys_device_placement)
        yield where


def on(device: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return inputs on a device."""
    return _each(lambda value: Placed(value, torch.device(device)) if isinstance(value, Tensor) else value, inputs)
