"""Mechanistic interpretability of large audio language models.

```python
import mechaudio as ma

model = ma.load("tiny")
batch = ma.prompt(model, ma.data.soundscapes.questions(4, seed=0))
out = ma.run(model, batch, record=[ma.HookPoint("pattern", queries="last")])
```

Everything is imported when it is first used: `import mechaudio` itself loads nothing heavy.
"""

import copyreg
from types import MappingProxyType
from typing import TYPE_CHECKING

from mechaudio.rooms import as_room

if TYPE_CHECKING:
    from mechaudio import (
        analyses,
        audio,
        data,
        experiments,
        interventions,
        metrics,
        models,
        report,
        temporal,
        timeaudio,
        tracing,
        variants,
        viz,
    )
    from mechaudio.audio.clip import AudioClip
    from mechaudio.audio.events import AnnotatedClip, Event
    from mechaudio.experiments.evaluate import evaluate
    from mechaudio.experiments.harvest import Harvest, harvest
    from mechaudio.interventions.generate_variants import generate_variants
    from mechaudio.interventions.grid import grid
    from mechaudio.interventions.knock_out import KnockOutAttention
    from mechaudio.interventions.mata import mata
    from mechaudio.interventions.patch import Patch
    from mechaudio.interventions.scale import ScaleAttention
    from mechaudio.interventions.steer import Steer
    from mechaudio.interventions.steer_heads import SteerHeads
    from mechaudio.interventions.sweep import sweep
    from mechaudio.interventions.upweight import UpweightAttention
    from mechaudio.models.prompt import prompt
    from mechaudio.models.registry import register
    from mechaudio.models.spans import PromptFormat
    from mechaudio.notebook.explore import explore
    from mechaudio.question import Answer, AudioQuestion
    from mechaudio.results import Result
    from mechaudio.tracing.audio_lm import AudioLM, trace
    from mechaudio.tracing.edit import Edit
    from mechaudio.tracing.generation import generate
    from mechaudio.tracing.hook_points import HookPoint
    from mechaudio.tracing.load import load
    from mechaudio.tracing.run import answer, run
    from mechaudio.tracing.sites import NoSuchHookPoint

__version__ = "0.2.0"

_HOME = {
    "AnnotatedClip": "mechaudio.audio.events",
    "Answer": "mechaudio.question",
    "AudioClip": "mechaudio.audio.clip",
    "AudioLM": "mechaudio.tracing.audio_lm",
    "AudioQuestion": "mechaudio.question",
    "Edit": "mechaudio.tracing.edit",
    "Event": "mechaudio.audio.events",
    "Harvest": "mechaudio.experiments.harvest",
    "HookPoint": "mechaudio.tracing.hook_points",
    "KnockOutAttention": "mechaudio.interventions.knock_out",
    "NoSuchHookPoint": "mechaudio.tracing.sites",
    "Patch": "mechaudio.interventions.patch",
    "PromptFormat": "mechaudio.models.spans",
    "Result": "mechaudio.results",
    "ScaleAttention": "mechaudio.interventions.scale",
    "Steer": "mechaudio.interventions.steer",
    "SteerHeads": "mechaudio.interventions.steer_heads",
    "UpweightAttention": "mechaudio.interventions.upweight",
    "answer": "mechaudio.tracing.run",
    "evaluate": "mechaudio.experiments.evaluate",
    "explore": "mechaudio.notebook.explore",
    "generate": "mechaudio.tracing.generation",
    "generate_variants": "mechaudio.interventions.generate_variants",
    "grid": "mechaudio.interventions.grid",
    "harvest": "mechaudio.experiments.harvest",
    "load": "mechaudio.tracing.load",
    "mata": "mechaudio.interventions.mata",
    "prompt": "mechaudio.models.prompt",
    "register": "mechaudio.models.registry",
    "run": "mechaudio.tracing.run",
    "sweep": "mechaudio.interventions.sweep",
    "trace": "mechaudio.tracing.audio_lm",
}

#: Where people who know other libraries begin.
_ELSEWHERE = {
    **dict.fromkeys(
        ("HookedTransformer", "TransformerBridge", "LanguageModel", "StandardizedTransformer", "load_model"), "ma.load"
    ),
    **dict.fromkeys(("NNsight", "Envoy", "HookedRootModule"), "ma.AudioLM(network, processor)"),
    **dict.fromkeys(("IntervenableModel", "IntervenableConfig"), "ma.load, and interventions=[...] of ma.run"),
    **dict.fromkeys(("VanillaIntervention", "RepresentationConfig"), "ma.Patch('z', layer=3, value=...)"),
    **dict.fromkeys(("AdditionIntervention", "steer"), "ma.Steer(direction, layers=[3])"),
    **dict.fromkeys(("ZeroIntervention", "ablate"), "ma.Edit(ma.HookPoint('z', layers=[3]), torch.zeros_like)"),
    **dict.fromkeys(("CollectIntervention", "collect"), "record=[...] of ma.run, and ma.harvest for many questions"),
    **dict.fromkeys(("probe", "probes"), "ma.analyses.encoder_probes, and ma.harvest for probes of your own"),
    "save": "value.save() inside a trace block, or nnsight.save(value)",
    "ActivationCache": "ma.run(model, batch, record=[...]).cache",
    "patching": "ma.analyses.activation_patching, .attribution_patching and .path_patching",
}

__all__ = [
    "AnnotatedClip",
    "Answer",
    "AudioClip",
    "AudioLM",
    "AudioQuestion",
    "Edit",
    "Event",
    "Harvest",
    "HookPoint",
    "KnockOutAttention",
    "NoSuchHookPoint",
    "Patch",
    "PromptFormat",
    "Result",
    "ScaleAttention",
    "Steer",
    "SteerHeads",
    "UpweightAttention",
    "__version__",
    "analyses",
    "answer",
    "audio",
    "data",
    "evaluate",
    "experiments",
    "explore",
    "generate",
    "generate_variants",
    "grid",
    "harvest",
    "interventions",
    "load",
    "mata",
    "metrics",
    "models",
    "prompt",
    "register",
    "report",
    "run",
    "sweep",
    "temporal",
    "timeaudio",
    "trace",
    "tracing",
    "variants",
    "viz",
]


def _read_only(mapping: dict) -> MappingProxyType:
    return MappingProxyType(mapping)


# Questions and results keep read-only mappings, which Python cannot pickle by itself: so they can be copied, and go to
# the workers of a DataLoader, of multiprocessing and of joblib.
copyreg.pickle(MappingProxyType, lambda mapping: (_read_only, (dict(mapping),)))

as_room(__name__, _HOME, _ELSEWHERE)
