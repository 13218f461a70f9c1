"""Reading and editing one forward pass. The only room that touches nnsight.

Its functions are `ma.load`, `ma.trace`, `ma.run`, `ma.answer` and `ma.generate`.
"""

from mechaudio.rooms import as_room
from mechaudio.tracing.audio_lm import AudioLM, trace
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.edit import Edit, Intervention
from mechaudio.tracing.generation import generate
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.load import load
from mechaudio.tracing.order import HookOrderError
from mechaudio.tracing.run import answer, run
from mechaudio.tracing.run_result import Generation, Run
from mechaudio.tracing.sites import HookPointError, NoSuchHookPoint
from mechaudio.tracing.window_map import WindowMap, window_map

__all__ = [
    "AudioLM",
    "Cache",
    "Edit",
    "Generation",
    "HookOrderError",
    "HookPoint",
    "HookPointError",
    "Intervention",
    "NoSuchHookPoint",
    "Run",
    "WindowMap",
    "answer",
    "generate",
    "load",
    "run",
    "trace",
    "window_map",
]

as_room(__name__, elsewhere={name: f"ma.variants.{name}" for name in ("CleanRun", "KeptRuns")})
