"""Reading and editing one forward pass. The only room that touches nnsight.

Its functions are `ma.load`, `ma.trace`, `ma.run`, `ma.answer` and `ma.generate`.
"""

from mechaudio.rooms import as_room
from mechaudio.tracing.audio_lm import AudioLM as AudioLM
from mechaudio.tracing.audio_lm import trace as trace
from mechaudio.tracing.cache import Cache as Cache
from mechaudio.tracing.edit import Edit as Edit
from mechaudio.tracing.edit import Intervention as Intervention
from mechaudio.tracing.generation import generate as generate
from mechaudio.tracing.hook_points import HookPoint as HookPoint
from mechaudio.tracing.load import load as load
from mechaudio.tracing.order import HookOrderError as HookOrderError
from mechaudio.tracing.run import answer as answer
from mechaudio.tracing.run import run as run
from mechaudio.tracing.run_result import Generation as Generation
from mechaudio.tracing.run_result import Run as Run
from mechaudio.tracing.sites import HookPointError as HookPointError
from mechaudio.tracing.sites import NoSuchHookPoint as NoSuchHookPoint
from mechaudio.tracing.window_map import WindowMap as WindowMap
from mechaudio.tracing.window_map import window_map as window_map

as_room(__name__, elsewhere={name: f"ma.variants.{name}" for name in ("CleanRun", "KeptRuns")})
