"""The temporal benchmark: annotated clips in, questions on onset, offset and duration out."""

from mechaudio.rooms import as_room
from mechaudio.temporal.benchmark import Benchmark, Dropped, load
from mechaudio.temporal.build import build
from mechaudio.temporal.settings import Settings
from mechaudio.temporal.sounds import token_overlap

__all__ = ["Benchmark", "Dropped", "Settings", "build", "load", "token_overlap"]

as_room(__name__)
