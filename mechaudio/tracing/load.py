"""Opening a model by name: the shipped one, the toy, the one of real parts, a hub id or a local folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
from transformers.utils.import_utils import is_peft_available
from transformers.utils.peft_utils import find_adapter_config_file
from transformers.utils.quantization_config import QuantizationConfigMixin

from mechaudio.arguments import argument, check, checks_arguments
from mechaudio.models.adapter import Adapter
from mechaudio.models.keywords import refuse_unknown
from mechaudio.models.network import Network
from mechaudio.models.not_opened import NOT_OPENED
from mechaudio.models.registry import ADAPTERS, ADDING_A_MODEL, adapters
from mechaudio.models.small import DELTAS, ctranslate2, gguf
from mechaudio.models.small.answers import TRAINED
from mechaudio.models.small.language import build_processor as build_small_processor
from mechaudio.models.small.network import assemble
from mechaudio.models.small.parts import PARTS, located
from mechaudio.models.toy.language import build_processor
from mechaudio.models.toy.network import build_network
from mechaudio.models.toy.planted import PLANTED
from mechaudio.notices import warn
from mechaudio.processes import launch
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.checkpoint import read_network
from mechaudio.tracing.hub import cached_revisions, near_names, why_unreachable

#: Files of which a folder that holds a processor has at least one.
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_ADAPTER_CONFIG = "adapter_config.json"


#: Keywords of transformers that say what is read from where; config, weights and processor get them alike.
_HUB_OPTIONS: dict[str, Any] = {
    "cache_dir": str | os.PathLike | None,
    "force_download": bool,
    "local_files_only": bool,
    "proxies": dict[str, str] | None,
    "subfolder": str,
    "token": str | bool | None,
}
#: Keywords of transformers' `from_pretrained` that are passed on.
_NETWORK_OPTIONS: dict[str, Any] = {
    "adapter_kwargs": dict[str, Any] | None,
    "adapter_name": str,
    "attn_implementation": str | dict[str, Any] | None,
    "experts_implementation": str | dict[str, Any] | None,
    "generation_config": transformers.GenerationConfig | None,
    "key_mapping": dict[str, str] | None,
    "max_memory": dict[Any, Any] | None,
    "offload_buffers": bool,
    "offload_folder": str | os.PathLike | None,
    "quantization_config": QuantizationConfigMixin | dict[str, Any] | None,
    "variant": str | None,
}
#: Files of weights that are parts of a network where no config.json lies beside them.
_LOOSE_WEIGHTS = ("*.pth", "*.pt", "*.bin", "*.ckpt")
#: What is not passed on, and what to do instead.
_INSTEAD = {
    "config": "a network of another config is no longer the checkpoint's: build it and open AudioLM(network)",
    "ignore_mismatched_sizes": "tensors of another shape would stay random numbers",
    "load_in_4bit": "give quantization_config=transformers.BitsAndBytesConfig(load_in_4bit=True)",
    "load_in_8bit": "give quantization_config=transformers.BitsAndBytesConfig(load_in_8bit=True)",
    "output_attentions": 'record hook points: ma.run(model, batch, record=["pattern"])',
    "output_hidden_states": 'record hook points: ma.run(model, batch, record=["resid_post"])',
    "output_loading_info": "ma.load looks at it: a checkpoint that lacks tensors is refused",
    "processor": "open AudioLM(network, processor)",
}


@checks_arguments
def load(
    name: str | Path,
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    prove: bool = True,
    **options: Any,
) -> AudioLM:
    """Load a checkpoint and open it.

    Only safetensors are read and no code from the checkpoint is run. Every tensor of the network has to come from the
    checkpoint, under its name and in its shape.

    Args:
        name: `"tiny"` for the model that travels with the package, `"toy"` for the one whose weights are written by
            hand (docs/toy.md), `"small"` for the one made of Whisper's encoder and SmolLM2 (docs/small_model.md), whose
            files `mechaudio get small` fetches, a hub id, or a folder made by `save_pretrained` or by
            `mechaudio assemble`.
        dtype: Passed on to transformers; `"auto"` takes the checkpoint's own. `torch_dtype` is taken for it.
        device: Where to put the network; default: where transformers puts it, and of several processes that were
            launched together (`accelerate launch`, `torchrun`) each on an accelerator of its own, where there are any.
        device_map: Passed on to transformers instead of `device`, to spread a network over devices.
        revision: Branch, tag or commit on the hub.
        prove: Prove every hook point while opening; see `AudioLM`.
        **options: Passed on to transformers: `cache_dir`, `force_download`, `local_files_only`, `proxies`, `subfolder`
            and `token` to whatever is read; `attn_implementation`, `experts_implementation`, `quantization_config`,
            `max_memory`, `offload_folder`, `offload_buffers`, `variant`, `key_mapping`, `generation_config`,
            `adapter_name` and `adapter_kwargs` to the class's `from_pretrained`. `"small"` takes none of them, but the
            paths of its two files where they lie elsewhere: `whisper` and `smollm2`. `"toy"` takes `listens`, the rows
            that are written to listen: `"last"` (the default), `"question"` or `"choices"`.

    Returns:
        The opened model, in evaluation mode.

    Raises:
        ValueError: The name leads nowhere; tensors are missing, have other shapes or names, or their file is damaged;
            the name is that of an adapter without its network; or `device` and `device_map` were both given.
        OSError: There are no weights, or none in safetensors.
        ImportError: A package is missing that the processor, or an adapter beside the weights, needs.
        TypeError: The checkpoint's class has no adapter; an option is not known here, or of another kind.
    """
    files_of_small = {part.name: options.pop(part.name) for part in PARTS if part.name in options}
    if files_of_small and str(name) != "small":
        raise TypeError(
            f"{' and '.join(files_of_small)}= name the files of 'small', and {str(name)!r} is another model"
        )
    if "listens" in options and str(name) != "toy":
        raise TypeError(f"listens= says where the 'toy' listens, and {str(name)!r} is another model")
    listens = options.pop("listens", PLANTED.listens)
    dtype, hub, passed = _sorted_options(options, dtype)
    if device is not None and device_map is not None:
        raise ValueError(f"give device or device_map, not both (got {device!r} and {device_map!r})")
    if device is not None:
        _refuse_absent(device)
    elif device_map is None:
        device = _device_of_process()
    if str(name) in ("toy", "small"):
        _refuse_options(str(name), revision=revision, device_map=device_map, **hub, **passed)
        exact = torch.float32 if dtype == "auto" else dtype
        toy = str(name) == "toy"
        made = (build_network(exact, listens), build_processor()) if toy else _small(exact, files_of_small)
        network, processor = made
        model = AudioLM(network if device is None else network.to(device), processor, prove=prove)
        model.checkpoint = str(name) if listens == PLANTED.listens else f"toy, {listens} listening"
        model.trained_choices = TRAINED if str(name) == "small" else ()
        return model
    where = str(files("mechaudio.models.tiny") / "weights") if str(name) == "tiny" else str(name)
    dtype = torch.float32 if str(name) == "tiny" and dtype == "auto" else dtype
    if revision is not None and Path(where).is_dir():
        raise ValueError(f"revision={revision!r} is of the hub, and {str(name)!r} is a folder: leave it out")
    hub |= {"revision": revision, "trust_remote_code": False}
    unreachable = why_unreachable(where, hub)
    if unreachable is not None:
        hub["local_files_only"] = True
    adapter = _adapter(where, hub, unreachable)
    _refuse_adapter(where, hub, adapter)
    with _quiet() if str(name) == "tiny" else nullcontext():
        network = read_network(adapter, where, hub, {"dtype": dtype, "device_map": device_map, **passed})
    if device is not None:
        network = network.to(device)
    model = AudioLM(network.eval(), _processor(adapter, where, hub), prove=prove)
    model.checkpoint = str(name)
    model.revision = getattr(network.config, "_commit_hash", None)
    return model


def _sorted_options(
    options: dict[str, Any], dtype: torch.dtype | str
) -> tuple[torch.dtype | str, dict[str, Any], dict[str, Any]]:
    given = dict(options)
    if given.pop("trust_remote_code", False):
        raise ValueError("mechaudio runs no code from checkpoints: trust_remote_code must stay False")
    if not check("use_safetensors", given.pop("use_safetensors", True), bool | None):
        raise ValueError("mechaudio reads safetensors only, as pickled weights can run code: leave use_safetensors out")
    other = given.pop("torch_dtype", None)
    if other is not None and dtype not in ("auto", other):
        raise ValueError(f"dtype={dtype} and torch_dtype={other} are two names of one thing: give one")
    dtype = _dtype(dtype if other is None else other)
    for option in given:
        if option in _INSTEAD:
            raise TypeError(f"ma.load takes no {option}=: {_INSTEAD[option]}")
        refuse_unknown("ma.load", option, (*_LOAD, *_HUB_OPTIONS, *_NETWORK_OPTIONS))
    hub = {name: argument(name, given[name], kind) for name, kind in _HUB_OPTIONS.items() if name in given}
    network = {name: argument(name, given[name], kind) for name, kind in _NETWORK_OPTIONS.items() if name in given}
    return dtype, hub, network


def _dtype(given: torch.dtype | str) -> torch.dtype | str:
    dtype = getattr(torch, given, None) if isinstance(given, str) and given != "auto" else given
    if dtype != "auto" and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={given!r} is no type for weights: give 'auto', or one such as torch.bfloat16")
    return dtype


#: Parameters of `load` itself that may be misspelt.
_LOAD = ("dtype", "device", "device_map", "revision", "prove")


def _refuse_absent(device: torch.device | str) -> None:
    """Say that a device is not there, and which are, before anything is read."""
    here = f"there {'are' if len(_devices()) > 1 else 'is'} {', '.join(_devices())}"
    try:
        kind = torch.empty(0, device=device).device.type
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled for it
        raise ValueError(f"device={str(device)!r} cannot be used here: {here}. torch says: {error}") from error
    if kind == "meta":
        raise ValueError(f"device='meta' holds shapes and no numbers: {here}")


def _device_of_process() -> str | None:
    """The accelerator of a process that was launched with others, by its number on this machine; else none."""
    n = len(_devices()) - 1
    return _devices()[1 + launch().local_rank % n] if launch().n > 1 and n else None


def _devices() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{number}" for number in range(torch.accelerator.device_count()))]


def _small(dtype: torch.dtype, given: dict[str, str | Path]) -> tuple[Network, Any]:
    """The network that is assembled from two published files and what was trained between them, and its processor."""
    whisper, smollm2 = (located(part, given.get(part.name)) for part in PARTS)
    decoder = gguf.read(smollm2)
    with _quiet():
        return assemble(ctranslate2.read(whisper), decoder, DELTAS, dtype), build_small_processor(decoder)


def _refuse_options(name: str, **options: Any) -> None:
    given = sorted(option for option, value in options.items() if value is not None)
    if given:
        raise ValueError(f"{name!r} is no checkpoint: it takes dtype=, device= and prove=, not {', '.join(given)}")


@contextmanager
def _quiet() -> Iterator[None]:
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _adapter(where: str, hub: dict[str, Any], unreachable: str | None) -> Adapter:
    _refuse_parts(where, hub)
    refused: Exception | None = None
    try:
        settings, _ = transformers.PreTrainedConfig.get_config_dict(where, **hub)
        ours = next((one for one in adapters() if one.network and one.family == settings.get("model_type")), None)
        refused = _unknown_type(where, settings) if ours is None else _unassembled(where, ours, settings)
        if ours is not None and refused is None:  # transformers reads the config when it reads the tokenizer, too
            transformers.AutoConfig.register(ours.family, ours.load_class().config_class, exist_ok=True)
        config: Any = None if refused else transformers.AutoConfig.from_pretrained(where, **hub)
    except Exception as error:  # of a config.json that is damaged, whatever its fields make of it
        folder = Path(where, hub.get("subfolder", ""))
        if (folder / _ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
            raise ValueError(_adapter_alone(folder)) from error
        if (folder / "config.json").is_file():
            raise ValueError(
                f"{str(folder / 'config.json')!r} cannot be read as the config of a network: {type(error).__name__}: "
                f"{error}"
            ) from error
        if hub["revision"] is not None:
            raise ValueError(
                f"revision={hub['revision']!r} of {where!r} cannot be had: "
                f"{cached_revisions(where, hub.get('cache_dir'))}. Give a "
                "branch, tag or commit that is on the hub (with a network) or in its cache. "
                f"{_told(error, unreachable)}"
            ) from error
        near = " or ".join(map(repr, near_names(where, hub.get("cache_dir"))))
        raise ValueError(
            f"no checkpoint at {where!r}{f': did you mean {near}?' if near else '.'} Give 'tiny' (the shipped model), "
            "'toy' (the one written by hand), 'small' (the one of real parts), a folder made by save_pretrained, or a "
            f"hub id such as {ADAPTERS[0].checkpoints[0]!r} (with a network, or in the hub's cache). "
            f"{_told(error, unreachable)}"
        ) from error
    if refused is not None:
        raise refused
    adapter = _adapter_of(config.model_type)
    if adapter is not None:
        return adapter
    names: Mapping[str, str] = {**MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}
    name = names.get(config.model_type)
    if name in NOT_OPENED:
        raise TypeError(
            f"{where!r} holds a {config.model_type!r}, and {name} is not opened: it {NOT_OPENED[name]}. mechaudio "
            f"opens: {_known()}"
        )
    raise TypeError(
        f"{where!r} holds a {config.model_type!r}; mechaudio opens: {_known()}. {ADDING_A_MODEL} shows how to add a "
        "class"
    )


def _adapter_of(model_type: str) -> Adapter | None:
    """Return the first adapter for checkpoints of a model type; None where there is none."""
    return next((adapter for adapter in adapters() if model_type in (adapter.family, *adapter.also_in)), None)


def _told(error: Exception, unreachable: str | None) -> str:
    """Say what is known of the reason that nothing was found."""
    return f"transformers says: {error}" if unreachable is None else f"The hub does not answer ({unreachable})"


def _known() -> str:
    return ", ".join(f"{adapter.family} ({adapter.network_class})" for adapter in adapters())


def _refuse_parts(where: str, hub: dict[str, Any]) -> None:
    """Say what to do with a checkpoint that holds parts of a network, and with one that is code of its own."""
    folder = Path(where, hub.get("subfolder", ""))
    if folder.is_dir():
        loose = sorted({file.name for pattern in _LOOSE_WEIGHTS for file in folder.glob(pattern)})
        configs = [name for name in ("config.json", _ADAPTER_CONFIG) if (folder / name).is_file()]
        if loose and not configs:
            raise ValueError(
                f"{str(folder)!r} holds {', '.join(loose[:3])} and no config.json: parts of a network, not a "
                f"checkpoint. {_assembling('salmonn', 'timeaudio')}"
            )
        return
    for adapter in adapters():
        if where in adapter.parts:
            raise ValueError(
                f"{where!r} holds parts of a {adapter.network_class}, and the rest lies elsewhere. "
                f"{_assembling(adapter.family)}"
            )


def _unassembled(where: str, adapter: Adapter, settings: dict[str, Any]) -> ValueError | None:
    """The error for a release whose config is not that of the whole network."""
    parts = getattr(adapter.load_class().config_class, "sub_configs", {})
    if not adapter.parts or set(parts) <= set(settings):
        return None
    return ValueError(
        f"{where!r} is the release of a {adapter.network_class} as it was published, which holds parts of it, and the "
        f"rest lies elsewhere. {_assembling(adapter.family)}"
    )


#: What `mechaudio assemble` calls a family, and takes for it.
_ASSEMBLED = {
    "salmonn": "salmonn --llama … --whisper … --beats … --checkpoint …",
    "timeaudio": "timeaudio --llama … --whisper … --beats … --checkpoint …",
    "desta25": "desta --llama … --whisper … --checkpoint …",
    "kimi_audio": "kimi --checkpoint … --speech-tokenizer …",
}


def _assembling(*families: str) -> str:
    commands = " or ".join(f"`mechaudio assemble {_ASSEMBLED[family]} --out FOLDER`" for family in families)
    return f"Fetch all parts and put them together once, {commands}, then ma.load(FOLDER)"


def _unknown_type(where: str, settings: dict[str, Any]) -> TypeError | None:
    """The error for a checkpoint that is there and whose class neither transformers nor mechaudio has."""
    kind = settings.get("model_type")
    if kind is None or kind in CONFIG_MAPPING:
        return None
    adapter = _adapter_of(kind)
    if adapter is not None:
        return TypeError(
            f"{where!r} holds a {kind!r}, and this transformers ({transformers.__version__}) has no "
            f"{adapter.network_class}: install a newer one, pip install --upgrade transformers"
        )
    code = " Its config.json names code of its own (auto_map), which mechaudio does not run." * ("auto_map" in settings)
    return TypeError(
        f"{where!r} holds a {kind!r}, which neither this transformers ({transformers.__version__}) nor mechaudio has a "
        f"class for.{code} mechaudio opens: {_known()}. To open it, write its class in transformers' conventions, "
        f"describe it to ma.register(adapter), and open AudioLM(network, processor): {ADDING_A_MODEL}"
    )


def _adapter_alone(folder: Path) -> str:
    try:
        base = json.loads((folder / _ADAPTER_CONFIG).read_text())["base_model_name_or_path"] or "BASE"
    except (ValueError, KeyError, TypeError):
        base = "BASE"
    return (
        f"{str(folder)!r} holds an adapter of peft ({_ADAPTER_CONFIG}), not a network. Put it into its network and "
        f"open that: network = PeftModel.from_pretrained(Class.from_pretrained({base!r}), {str(folder)!r})"
        ".merge_and_unload().eval(); AudioLM(network, processor)"
    )


def _refuse_adapter(where: str, hub: dict[str, Any], adapter: Adapter) -> None:
    """Refuse an adapter beside the weights that would be left out, or that is another network's.

    transformers puts it in where peft is installed, to whatever its shapes fit, and leaves it out where it is not.
    """
    given = {name: value for name, value in hub.items() if name != "trust_remote_code"}
    file = find_adapter_config_file(where, **given)
    if file is None:
        return
    if not is_peft_available():
        raise ImportError(
            f"{where!r} holds an adapter of peft beside its weights ({_ADAPTER_CONFIG}), which transformers would "
            "leave out without a word: `pip install peft`. For the network without it, load the network yourself and "
            "open AudioLM(network, processor)"
        )
    network_class, base = _trained_in(Path(file))
    if network_class not in (None, adapter.network_class):
        raise ValueError(
            f"{str(file)!r} is of an adapter that was trained in a {network_class}"
            f"{f' ({base})' if base else ''}, and {where!r} holds a {adapter.network_class}, which it may fit by its "
            "shapes alone: take its files out of the folder, or put them beside the network that they belong to"
        )
    if base and Path(base).name != Path(where).resolve().name:
        warn(
            f"{str(file)!r} is of an adapter that was trained in {base!r}; nothing says that the weights in {where!r} "
            "are those. In others it does something else than it was trained to"
        )


def _trained_in(file: Path) -> tuple[str | None, str]:
    """Return the class and the name of the network that an adapter was trained in, None and blank if not known."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        base = settings.get("base_model_name_or_path") or ""
        network_class = (settings.get("auto_mapping") or {}).get("base_model_class")
        config = Path(base, "config.json")
        if base and config.is_file():
            family = json.loads(config.read_text(encoding="utf-8")).get("model_type")
            known = [each for each in adapters() if family in (each.family, *each.also_in)]
        else:
            known = [each for each in adapters() if base in each.checkpoints]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{str(file)!r} cannot be read as the config of an adapter ({type(error).__name__}: {error}): fetch or "
            "save it again, or take the adapter out of the folder"
        ) from error
    return network_class or next((each.network_class for each in known), None), base


def _processor(adapter: Adapter, where: str, hub: dict[str, Any]) -> Any:
    folder = Path(where, hub.get("subfolder", ""))
    if folder.is_dir() and not any((folder / name).exists() for name in _PROCESSOR_FILES):
        warn(
            f"{where} holds no processor ({' or '.join(_PROCESSOR_FILES)}): the model takes dicts of its own inputs, "
            "not questions. Save the processor into the folder, or build AudioLM(network, processor)"
        )
        return None
    try:
        return adapter.load_processor_class().from_pretrained(where, **hub)
    except Exception as error:  # of files that are damaged, whatever the processor makes of them
        if isinstance(error, ImportError) or "Missing optional dependencies" in str(error):
            raise ImportError(
                f"the processor of {where!r} needs a package that is not installed: {error}. `pip install "
                "'mechaudio[omni]'` brings what those of Qwen2.5-Omni, Gemma 4 and Nemotron need, `pip install "
                "'mechaudio[voxtral]'` what Voxtral's does, `pip install torchaudio` what Granite Speech's and "
                "Fun-ASR's do; with transformers 5.20, Nemotron's needs `pip install librosa` too. Without it, "
                "AudioLM(network) takes dicts of the network's inputs"
            ) from error
        raise ValueError(
            f"the processor in {where!r} cannot be read: {type(error).__name__}: {error}. Fetch or save it again, or "
            "open AudioLM(network, processor) with another"
        ) from error
