"""TimeAudio's method as functions of tensors and texts: markers for times, rows of the table of times, merging.

Reference: TimeAudio, arXiv 2511.11039.
"""

from typing import TYPE_CHECKING

from mechaudio.rooms import as_room
from mechaudio.timeaudio.markers import MARKERS as MARKERS
from mechaudio.timeaudio.markers import Markers as Markers
from mechaudio.timeaudio.markers import ReadMarkers as ReadMarkers
from mechaudio.timeaudio.merging import Merged as Merged
from mechaudio.timeaudio.merging import merge as merge
from mechaudio.timeaudio.merging import merged_count as merged_count
from mechaudio.timeaudio.merging import received_attention as received_attention
from mechaudio.timeaudio.stages import STAGES as STAGES
from mechaudio.timeaudio.stages import Stage as Stage
from mechaudio.timeaudio.time_encoding import window_rows as window_rows
from mechaudio.timeaudio.vocabulary import add_markers as add_markers

if TYPE_CHECKING:  # training opens models, so its home lies above this room
    from mechaudio.experiments.time_table import add_times as add_times
    from mechaudio.experiments.timeaudio_training import TrainingRun as TrainingRun
    from mechaudio.experiments.timeaudio_training import load_trained as load_trained
    from mechaudio.experiments.timeaudio_training import train as train
    from mechaudio.experiments.training_groups import fold_lora as fold_lora

as_room(__name__)
