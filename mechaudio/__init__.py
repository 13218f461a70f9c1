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
    from mechaudio import analyses as analyses
    from mechaudio import audio as audio
    from mechaudio import data as data
    from mechaudio import experiments as experiments
    from mechaudio import interventions as interventions
    from mechaudio import metrics as metrics
    from mechaudio import models as models
    from mechaudio import report as report
    from mechaudio import temporal as temporal
    from mechaudio import timeaudio as timeaudio
    from mechaudio import tracing as tracing
    from mechaudio import variants as variants
    from mechaudio import viz as viz
    from mechaudio.audio.clip import AudioClip as AudioClip
    from mechaudio.audio.events import AnnotatedClip as AnnotatedClip
    from mechaudio.audio.events import Event as Event
    from mechaudio.experiments.evaluate import evaluate as evaluate
    from mechaudio.experiments.harvest import Harvest as Harvest
    from mechaudio.experiments.harvest import harvest as harvest
    from mechaudio.interventions.grid import grid as grid
    from mechaudio.interventions.knock_out import KnockOutAttention as KnockOutAttention
    from mechaudio.interventions.mata import mata as mata
    from mechaudio.interventions.patch import Patch as Patch
    from mechaudio.interventions.scale import ScaleAttention as ScaleAttention
    from mechaudio.interventions.steer import Steer as Steer
    from mechaudio.interventions.steer_heads import SteerHeads as SteerHeads
    from mechaudio.interventions.sweep import generate_variants as generate_variants
    from mechaudio.interventions.sweep import sweep as sweep
    from mechaudio.interventions.upweight import UpweightAttention as UpweightAttention
    from mechaudio.models.prompt import prompt as prompt
    from mechaudio.models.registry import register as register
    from mechaudio.models.spans import PromptFormat as PromptFormat
    from mechaudio.notebook.explore import explore as explore
    from mechaudio.question import Answer as Answer
    from mechaudio.question import AudioQuestion as AudioQuestion
    from mechaudio.results import Result as Result
    from mechaudio.tracing.audio_lm import AudioLM as AudioLM
    from mechaudio.tracing.audio_lm import trace as trace
    from mechaudio.tracing.edit import Edit as Edit
    from mechaudio.tracing.generation import generate as generate
    from mechaudio.tracing.hook_points import HookPoint as HookPoint
    from mechaudio.tracing.load import load as load
    from mechaudio.tracing.run import answer as answer
    from mechaudio.tracing.run import run as run
    from mechaudio.tracing.sites import NoSuchHookPoint as NoSuchHookPoint

__version__ = "0.2.0"

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


def _read_only(mapping: dict) -> MappingProxyType:
    return MappingProxyType(mapping)


# Questions and results keep read-only mappings, which Python cannot pickle by itself: so they can be copied, and go to
# the workers of a DataLoader, of multiprocessing and of joblib.
copyreg.pickle(MappingProxyType, lambda mapping: (_read_only, (dict(mapping),)))

as_room(__name__, _ELSEWHERE)
