"""One small network and one processor per supported family: the real transformers classes, random weights, no download.

Each family is a file of facts (`tests.families.family` says which); what tests call is here.
"""

from tests.families.build import (
    ASKED,
    FAMILIES,
    KINDS,
    Opened,
    audio_token_id,
    clip_features,
    facts,
    model_inputs,
    n_audio_tokens,
    network,
    noise,
    opened,
    processor,
    processors_count,
    thinned,
    unchecked_types,
)
from tests.families.family import WINDOW_SECONDS

__all__ = [
    "ASKED",
    "FAMILIES",
    "KINDS",
    "WINDOW_SECONDS",
    "Opened",
    "audio_token_id",
    "clip_features",
    "facts",
    "model_inputs",
    "n_audio_tokens",
    "network",
    "noise",
    "opened",
    "processor",
    "processors_count",
    "thinned",
    "unchecked_types",
]
