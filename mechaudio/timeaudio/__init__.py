"""TimeAudio's method as functions of tensors and texts: markers for times, rows of the table of times, merging.

Reference: TimeAudio, arXiv 2511.11039.
"""

from typing import TYPE_CHECKING

from mechaudio.rooms import as_room
from mechaudio.timeaudio.markers import MARKERS, Markers, ReadMarkers
from mechaudio.timeaudio.merging import Merged, merge, merged_count, received_attention
from mechaudio.timeaudio.stages import STAGES, Stage
from mechaudio.timeaudio.time_encoding import window_rows
from mechaudio.timeaudio.vocabulary import add_markers

if TYPE_CHECKING:
    from mechaudio.experiments.time_table import add_times
    from mechaudio.experiments.timeaudio_training import TrainingRun, load_trained, train
    from mechaudio.experiments.training_groups import fold_lora

__all__ = [
    "MARKERS",
    "STAGES",
    "Markers",
    "Merged",
    "ReadMarkers",
    "Stage",
    "TrainingRun",
    "add_markers",
    "add_times",
    "fold_lora",
    "load_trained",
    "merge",
    "merged_count",
    "received_attention",
    "train",
    "window_rows",
]

#: Training opens models, so its home lies above this room.
_TRAINING = "mechaudio.experiments.timeaudio_training"
as_room(
    __name__,
    homes={
        **dict.fromkeys(("TrainingRun", "load_trained", "train"), _TRAINING),
        "add_times": "mechaudio.experiments.time_table",
        "fold_lora": "mechaudio.experiments.training_groups",
    },
)
