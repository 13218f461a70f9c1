"""The temporal study's settings for two models as a paper had them, as data.

Source: "A Closer Look at Failure Modes in Temporal Understanding of Large Audio-Language Models", arXiv 2606.17417,
Interspeech 2026. Its biases of upweighting are not told: those of `TemporalSettings` stay. Nor is it told whether it
counts layers from 0, as here: look at the neighbours of the reported layer too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mechaudio.arguments import checks_arguments
from mechaudio.experiments.temporal_arms import TemporalSettings
from mechaudio.showing import Shown
from mechaudio.tracing.audio_lm import AudioLM

#: Query rows of the paper's best scaling.
_BEST_ROWS = "keyword+last"


@dataclass(frozen=True)
class PaperSettings(Shown):
    """The paper's settings for one model.

    Attributes:
        name: What the paper calls the model.
        checkpoint: The model's hub id.
        settings: Its factor, its query rows, and a sweep of all layers.
        layer: The layer where scaling helped most.
        source: Where the numbers are from.
    """

    name: str
    checkpoint: str
    settings: TemporalSettings
    layer: int
    source: str = "arXiv 2606.17417, attention scaling and layer-targeted intervention"


PAPER_SETTINGS: Mapping[str, PaperSettings] = MappingProxyType(
    {
        "audioflamingo3": PaperSettings(
            name="Audio Flamingo 3",
            checkpoint="nvidia/audio-flamingo-3-hf",
            settings=TemporalSettings(factors=(2.0,), targeted=_BEST_ROWS),
            layer=20,
        ),
        "desta25": PaperSettings(
            name="DeSTA2.5",
            checkpoint="DeSTA-ntu/DeSTA2.5-Audio-Llama-3.1-8B",
            settings=TemporalSettings(factors=(0.2,), targeted=_BEST_ROWS),
            layer=9,
        ),
    }
)
"""Family of a model -> the paper's settings for it."""


@checks_arguments
def paper_settings(model: AudioLM) -> PaperSettings:
    """Return what the paper did with the class of a model.

    Args:
        model: An opened model.

    Raises:
        ValueError: The paper changed nothing in this class.
    """
    family = model.adapter.family
    if family not in PAPER_SETTINGS:
        raise ValueError(
            f"the paper has no settings for {family!r}: it changed attention in {', '.join(PAPER_SETTINGS)}. Give "
            "settings= of your own"
        )
    return PAPER_SETTINGS[family]
