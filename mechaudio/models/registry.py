"""Which transformers classes mechaudio opens, and which checkpoints are known to use them."""

import inspect
from dataclasses import replace
from operator import attrgetter

from mechaudio.models.adapter import Adapter
from mechaudio.models.adapters.audioflamingo3 import AUDIO_FLAMINGO_3
from mechaudio.models.adapters.fun_asr_nano import FUN_ASR_NANO
from mechaudio.models.adapters.gemma3n import GEMMA_3N
from mechaudio.models.adapters.gemma4 import GEMMA_4
from mechaudio.models.adapters.glmasr import GLM_ASR
from mechaudio.models.adapters.granite_speech import GRANITE_SPEECH, GRANITE_SPEECH_PLUS
from mechaudio.models.adapters.moss_transcribe_diarize import MOSS_TRANSCRIBE_DIARIZE
from mechaudio.models.adapters.musicflamingo import MUSIC_FLAMINGO
from mechaudio.models.adapters.nemotron_h_omni import NEMOTRON_H_OMNI
from mechaudio.models.adapters.phi4_multimodal import PHI_4_MULTIMODAL
from mechaudio.models.adapters.qwen2_5_omni import QWEN2_5_OMNI
from mechaudio.models.adapters.qwen2_audio import QWEN2_AUDIO
from mechaudio.models.adapters.qwen3_asr import QWEN3_ASR
from mechaudio.models.adapters.qwen3_omni_moe import QWEN3_OMNI_MOE
from mechaudio.models.adapters.vibevoice_asr import VIBEVOICE_ASR
from mechaudio.models.adapters.voxtral import VOXTRAL

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
)

ADDING_A_MODEL = "https://mechaudio.github.io/mechaudio/adding_a_model/"


def adapter_for(network: object) -> Adapter:
    """The adapter of a transformers network, as this version of transformers builds it.

    Args:
        network: An instance of one of the classes in `ADAPTERS` (or of a subclass of one).

    Raises:
        TypeError: The class has no adapter; the message lists those there are.
    """
    names = {cls.__name__ for cls in type(network).__mro__}
    for adapter in ADAPTERS:
        if adapter.network_class in names:
            return _as_built(adapter, network)
    known = ", ".join(adapter.network_class for adapter in ADAPTERS)
    raise TypeError(
        f"mechaudio has no adapter for {type(network).__name__}. It has one for: {known}. "
        f"An adapter is a page of facts: {ADDING_A_MODEL} shows how to write one."
    )


def adapter_of_family(family: str) -> Adapter:
    """The adapter of a family, for what is known of a batch alone.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    for adapter in ADAPTERS:
        if adapter.family == family:
            return adapter
    known = ", ".join(adapter.family for adapter in ADAPTERS)
    raise ValueError(f"mechaudio has no adapter for the family {family!r}; it has one for: {known}")


def _as_built(adapter: Adapter, network: object) -> Adapter:
    """Return the adapter with the paths that this network has, and only those inputs that its forward knows."""
    known = inspect.signature(type(network).forward).parameters if adapter.always else {}
    always = {name: value for name, value in adapter.always.items() if name in known}
    adapter = adapter if always == adapter.always else replace(adapter, always=always)
    try:
        attrgetter(adapter.decoder_module)(network)
    except AttributeError:
        return adapter.with_older_paths()
    return adapter
