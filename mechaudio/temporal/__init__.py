"""The temporal benchmark: annotated clips in, questions on onset, offset and duration out."""

from mechaudio.rooms import as_room
from mechaudio.temporal.benchmark import Benchmark as Benchmark
from mechaudio.temporal.benchmark import Dropped as Dropped
from mechaudio.temporal.benchmark import load as load
from mechaudio.temporal.build import build as build
from mechaudio.temporal.settings import Settings as Settings
from mechaudio.temporal.sounds import token_overlap as token_overlap

as_room(__name__)
