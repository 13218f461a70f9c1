"""Which classes mechaudio opens, and which checkpoints are known to use them."""

import inspect
from dataclasses import replace
from operator import attrgetter
from typing import Any

from mechaudio.arguments import names_arguments
from mechaudio.models.adapter import Adapter
from mechaudio.models.adapters.audioflamingo3 import AUDIO_FLAMINGO_3, MUSIC_FLAMINGO
from mechaudio.models.adapters.desta25 import DESTA_25
from mechaudio.models.adapters.dots3_note import DOTS_3_NOTE
from mechaudio.models.adapters.fun_asr_nano import FUN_ASR_NANO
from mechaudio.models.adapters.gemma3n import GEMMA_3N
from mechaudio.models.adapters.gemma4 import GEMMA_4
from mechaudio.models.adapters.glmasr import GLM_ASR
from mechaudio.models.adapters.granite_speech import GRANITE_SPEECH, GRANITE_SPEECH_PLUS
from mechaudio.models.adapters.kimi_audio import KIMI_AUDIO
from mechaudio.models.adapters.moss_transcribe_diarize import MOSS_TRANSCRIBE_DIARIZE
from mechaudio.models.adapters.muse_spark import MUSE_SPARK
from mechaudio.models.adapters.nemotron_h_omni import NEMOTRON_H_OMNI
from mechaudio.models.adapters.phi4_multimodal import PHI_4_MULTIMODAL
from mechaudio.models.adapters.qwen2_5_omni import QWEN2_5_OMNI
from mechaudio.models.adapters.qwen2_audio import QWEN2_AUDIO
from mechaudio.models.adapters.qwen3_omni_moe import QWEN3_ASR, QWEN3_OMNI_MOE
from mechaudio.models.adapters.salmonn import SALMONN
from mechaudio.models.adapters.timeaudio import TIMEAUDIO
from mechaudio.models.adapters.vibevoice_asr import VIBEVOICE_ASR
from mechaudio.models.adapters.voxtral import VOXTRAL
from mechaudio.models.not_opened import NOT_OPENED

ADAPTERS: tuple[Adapter, ...] = (
    QWEN2_AUDIO,
    QWEN2_5_OMNI,
    QWEN3_OMNI_MOE,
    AUDIO_FLAMINGO_3,
    MUSIC_FLAMINGO,
    VOXTRAL,
    GLM_ASR,
    PHI_4_MULTIMODAL,
    VIBEVOICE_ASR,
    QWEN3_ASR,
    MOSS_TRANSCRIBE_DIARIZE,
    FUN_ASR_NANO,
    NEMOTRON_H_OMNI,
    GEMMA_4,
    GEMMA_3N,
    GRANITE_SPEECH,
    GRANITE_SPEECH_PLUS,
    MUSE_SPARK,
    DOTS_3_NOTE,
    SALMONN,
    TIMEAUDIO,
    DESTA_25,
    KIMI_AUDIO,
)
"""The classes of transformers and of mechaudio that can be opened, in the order of the page on models."""

#: Adapters that users registered, by the name of their class; they come before those that mechaudio brings.
_REGISTERED: dict[str, Adapter] = {}

ADDING_A_MODEL = "https://mechaudio.github.io/mechaudio/adding_a_model/"


@names_arguments
def register(adapter: Adapter) -> None:
    """Let mechaudio open a class of your own.

    ```python
    ma.register(Adapter(family="mine", network_class="MyNetwork", network="my_package.networks:MyNetwork", ...))
    model = ma.load("folder/of/my/checkpoint")     # or ma.AudioLM(network, processor)
    ```

    Registering a class again replaces what was registered for it before, and comes before what mechaudio knows of it.

    Args:
        adapter: The facts about the class. `network` is its import path, unless it is in transformers.

    Raises:
        TypeError: It is no adapter.
        ValueError: Its import path leads to a class of another name, or another class has its `model_type`.
        ImportError: The module that `network` names cannot be imported.
        AttributeError: That module, or transformers, has no such class.
    """
    if not isinstance(adapter, Adapter):
        raise TypeError(f"register takes an Adapter (mechaudio.models.adapter), got a {type(adapter).__name__}")
    if adapter.load_class().__name__ != adapter.network_class:
        raise ValueError(
            f"network={adapter.network!r} leads to a class called {adapter.load_class().__name__!r}, and network_class "
            f"is {adapter.network_class!r}: give both the same name"
        )
    for other in adapters():
        if other.family == adapter.family and other.network_class != adapter.network_class:
            raise ValueError(
                f"{adapter.family!r} is the model_type of {other.network_class}: give {adapter.network_class} one of "
                "its own"
            )
    _REGISTERED[adapter.network_class] = adapter


@names_arguments
def adapters() -> tuple[Adapter, ...]:
    """Every adapter there is, registered ones first."""
    brought = (adapter for adapter in ADAPTERS if adapter.network_class not in _REGISTERED)
    return (*_REGISTERED.values(), *brought)


def tower_names() -> tuple[str, ...]:
    """Names of further towers that classes have, in an order in which they run."""
    return tuple(dict.fromkeys(name for adapter in adapters() for name in adapter.towers))


def first_tower_names() -> tuple[str, ...]:
    """Other names for the tower whose hook points are called `audio`."""
    return tuple(dict.fromkeys(adapter.tower for adapter in adapters() if adapter.tower != "audio"))


@names_arguments
def adapter_for(network: object) -> Adapter:
    """The adapter of a network, as this version of transformers builds it.

    Args:
        network: An instance of one of the classes that have an adapter (or of a subclass of one).

    Raises:
        TypeError: The class has no adapter; the message says why, or lists those there are.
    """
    known_by_name = {adapter.network_class: adapter for adapter in adapters()}
    for cls in type(network).__mro__:  # the nearest: a class may be a subclass of another that is opened
        if cls.__name__ in known_by_name:
            return _as_built(known_by_name[cls.__name__], network)
    for cls in type(network).__mro__:
        if cls.__name__ in NOT_OPENED:
            raise TypeError(f"{cls.__name__} is not opened: it {NOT_OPENED[cls.__name__]}")
    known = ", ".join(known_by_name)
    raise TypeError(
        f"mechaudio has no adapter for {type(network).__name__}. It has one for: {known}. "
        f"An adapter is a page of facts: {ADDING_A_MODEL} shows how to write one, and ma.register(adapter) takes it."
    )


def adapter_of_family(family: str) -> Adapter:
    """The adapter of a family, for what is known of a batch alone.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    for adapter in adapters():
        if adapter.family == family:
            return adapter
    known = ", ".join(adapter.family for adapter in adapters())
    raise ValueError(f"mechaudio has no adapter for the family {family!r}; it has one for: {known}")


def _as_built(adapter: Adapter, network: Any) -> Adapter:
    """Return the adapter with the paths that this network has, and only those inputs that its forward knows."""
    if adapter.noise is not None:
        known = inspect.signature(type(network).forward).parameters
        taken = {name: value for name, value in adapter.noise.left_out_by.items() if name in known}
        adapter = replace(adapter, noise=replace(adapter.noise, left_out_by=taken))
    if isinstance(adapter.timing.counted_by, str):
        count = getattr(network.config, adapter.timing.counted_by)
        adapter = replace(adapter, timing=replace(adapter.timing, counted_by=count))
    try:
        attrgetter(adapter.decoder_module)(network)
    except AttributeError:
        return adapter.with_older_paths()
    return adapter
