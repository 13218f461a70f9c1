"""Fingerprint of a network: all of its numbers, its settings and its processor.

Every byte of every parameter and buffer goes into the digests, so that a single changed number is another network.
Nothing is kept from one call to the next: PyTorch's version counters do not see what is written through `.data`, which
is how most weights are edited.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from accelerate.utils import align_module_device, has_offloaded_params
from torch import Tensor, nn

from mechaudio.arguments import n_of
from mechaudio.models.network import Network
from mechaudio.tracing.audio_lm import AudioLM

#: Fields of configs that say where they come from, not what is computed.
_ORIGINS = (
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "_commit_hash",
    "torch_dtype",
    "dtype",
    "architectures",
)
#: Rotary embeddings of these kinds compute their buffers anew for every length of prompt.
_COMPUTED_ANEW = ("dynamic", "longrope")
#: Attributes of modules that say where things are, or change as a network runs.
_NOT_COMPUTED_WITH = ("training", "max_seq_len_cached", "name_or_path", "hf_device_map", "gradient_checkpointing")
_CONTAINERS = (nn.ModuleList, nn.ModuleDict)
_FUNCTIONS = (FunctionType, BuiltinFunctionType)
_SHORT = 16
PIECE = 1 << 24
"""Bytes that are brought from a GPU at a time."""


def fingerprint(model: AudioLM) -> dict[str, Any]:
    """Return what has to be the same for two runs to be runs of one network.

    Returns:
        In words of JSON: per part of the network (a layer, an embedding) a digest of its parameters, buffers and plain
        attributes; the settings of its config and of its generation; and a digest of its processor.

    Raises:
        ValueError: The network is in a state in which nothing can be run, or there are forward hooks of others on it,
            of which nobody can say whether they are the same another time.
    """
    model.refuse_unfit()
    if hooks := model.foreign_hooks:
        raise ValueError(
            f"a run that is kept cannot say what {n_of(len(hooks), 'forward hook does', 'forward hooks do')} on the "
            f"network ({hooks[0]}): take hooks off (handle.remove()), give what they do as interventions, or "
            "leave out= away"
        )
    network = model.network
    generation = getattr(network, "generation_config", None)
    return {
        "weights": weight_digests(network),
        "config": _settings(network.config.to_dict()),
        "generation": {} if generation is None else _settings(generation.to_dict()),
        "processor": _processor_digest(model.processor),
    }


def weight_digests(network: Network, without: Collection[str] = ()) -> dict[str, str]:
    """Digests of the parts of a network.

    Args:
        network: The network; weights that were offloaded are brought back one module at a time.
        without: Names of parameters that are left out, as those that training changes.

    Returns:
        Part of the network -> digest of the classes of its modules, and the names, types, shapes and bytes of all that
        they hold.
    """
    held: dict[str, list[Future[bytes] | bytes]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets go of the interpreter
        for path, module in network.named_modules():
            digests = held.setdefault(_part(path) or type(network).__name__, [])
            if not isinstance(module, _CONTAINERS):
                digests.append(_told(path, f"{type(module).__module__}.{type(module).__qualname__}"))
            digests += [_told(f"{path}.{name}", value) for name, value in _attributes(module)]
            with align_module_device(module):
                hashed = [
                    pool.submit(_told, f"{path}.{name}", value)
                    for name, value in _numbers(module)
                    if f"{path}.{name}" not in without
                ]
                if has_offloaded_params(module):
                    wait(hashed)  # the numbers are there for as long as this is open
            digests += hashed
    return {part: _joined(told) for part, told in held.items() if told}


def _joined(told: Iterable[Future[bytes] | bytes]) -> str:
    known = [one if isinstance(one, bytes) else one.result() for one in told]
    return hashlib.sha256(b"".join(sorted(known))).hexdigest()[:_SHORT]


def _part(path: str) -> str:
    """The part that a module belongs to: a layer, where it lies in a list of them."""
    layer = re.match(r".*?\.\d+(?=\.|$)", path)
    return layer[0] if layer else path


def _numbers(module: Network) -> Iterator[tuple[str, Any]]:
    """The tensors that a module holds itself; of packed weights, which are no tensors, what they are saved as."""
    kinds = (module._parameters, module._buffers)
    settings = {name: value for kind in kinds for name, value in kind.items() if value is not None}
    if getattr(module, "rope_type", None) in _COMPUTED_ANEW:
        settings = {name: value for name, value in settings.items() if not name.endswith("inv_freq")}
    yield from settings.items()
    if type(module)._save_to_state_dict is not nn.Module._save_to_state_dict:
        saved: dict[str, Any] = {}
        module._save_to_state_dict(saved, "", keep_vars=True)
        yield from ((name, value) for name, value in saved.items() if name not in settings)


def _attributes(module: Network) -> Iterator[tuple[str, Any]]:
    """Plain numbers and names that a module computes with, such as a scaling, and its functions; an adapter's too."""
    for name, value in sorted(vars(module).items()):
        private = name.startswith("_") and name not in ("_active_adapter", "_disable_adapters")
        if private or name in _NOT_COMPUTED_WITH:
            continue
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(one, (bool, int, float, str, type(None))) for one in values):
            yield name, value
        elif isinstance(value, _FUNCTIONS) and not hasattr(type(module), name):  # accelerate replaces methods
            yield name, f"{value.__module__}.{value.__qualname__}"


def _told(name: str, value: Any) -> bytes:
    digest = hashlib.sha256(name.encode())
    _put(digest, value)
    return digest.digest()


def _put(digest: Any, value: Any) -> None:
    """Every byte of a tensor, or of the tensors that a packed one is made of."""
    if not isinstance(value, Tensor):
        if isinstance(value, (list, tuple)):
            for one in value:
                _put(digest, one)
        else:
            digest.update(repr(value).encode())
        return
    digest.update(f"{type(value).__name__} {list(value.shape)} {value.dtype}".encode())
    if value.is_quantized:
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            scales = value.q_scale(), value.q_zero_point()
        else:
            scales = value.q_per_channel_scales(), value.q_per_channel_zero_points(), value.q_per_channel_axis()
        _put(digest, [value.int_repr(), *scales])
    elif hasattr(value, "__tensor_flatten__"):
        names, rest = value.__tensor_flatten__()
        _put(digest, [*(getattr(value, name) for name in names), str(rest)])
    else:
        for piece in _pieces(value.detach()):
            digest.update(piece.contiguous().flatten().view(torch.uint8).numpy())


def _pieces(value: Tensor) -> Iterator[Tensor]:
    """Bring a tensor to the CPU, a large one of a GPU piece by piece through page-locked memory, which is faster."""
    if not value.is_cuda or value.nbytes < PIECE:
        yield value.cpu()
        return
    locked = torch.empty(PIECE, dtype=torch.uint8, pin_memory=True)
    for piece in value.contiguous().flatten().view(torch.uint8).split(PIECE):
        yield locked[: len(piece)].copy_(piece)


def _settings(value: Any) -> Any:
    """Settings in words of JSON, without where they come from."""
    if isinstance(value, Mapping):
        return {str(name): _settings(part) for name, part in value.items() if name not in _ORIGINS}
    if isinstance(value, (list, tuple)):
        return [_settings(part) for part in value]
    return value if isinstance(value, (bool, int, str, type(None))) else repr(value)


def _processor_digest(processor: Any) -> str | None:
    """A digest of what a processor makes of questions: its template, its vocabulary, its features."""
    if processor is None:
        return None
    tokenizer, features = getattr(processor, "tokenizer", None), getattr(processor, "feature_extractor", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = None
    if tokenizer is not None:
        vocabulary = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    templates = [getattr(one, "chat_template", None) for one in (processor, tokenizer)]
    extractor = None if features is None else _settings(features.to_dict())
    description = json.dumps([type(processor).__name__, templates, vocabulary, extractor], sort_keys=True, default=repr)
    return hashlib.sha256(description.encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT]
