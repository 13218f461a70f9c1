"""TimeAudio's method as functions of tensors and texts: markers for times, rows of the table of times, merging.

Reference: TimeAudio, arXiv 2511.11039.
"""

from mechaudio.rooms import as_room
from mechaudio.timeaudio.markers import MARKERS, Markers, ReadMarkers
from mechaudio.timeaudio.merging import Merged, merge, merged_count, received_attention
from mechaudio.timeaudio.time_encoding import window_rows
from mechaudio.timeaudio.vocabulary import add_markers

__all__ = [
    "MARKERS",
    "Markers",
    "Merged",
    "ReadMarkers",
    "add_markers",
    "merge",
    "merged_count",
    "received_attention",
    "window_rows",
]

as_room(__name__)
