"""Corpora: one file each, raw files, a hub id or a seed in, annotated clips or questions out.

`load` of `tacos`, `audioset_strong`, `audio_grounding`, `audiotime` and `annotations` gives annotated clips, from which
`ma.temporal.build` makes questions; `load` of `temporal_lalm`, `mmau`, `mmau_pro` and `mmar` gives questions.
`ftar` reads TimeAudio's questions of when, and makes them of annotated clips. What could not be used is in
`corpus.problems`.
"""

from mechaudio.data import (
    annotations,
    audio_grounding,
    audioset_strong,
    audiotime,
    ftar,
    mmar,
    mmau,
    mmau_pro,
    soundscapes,
    tacos,
    temporal_lalm,
    toy_questions,
)
from mechaudio.rooms import as_room

__all__ = [
    "annotations",
    "audio_grounding",
    "audioset_strong",
    "audiotime",
    "ftar",
    "mmar",
    "mmau",
    "mmau_pro",
    "soundscapes",
    "tacos",
    "temporal_lalm",
    "toy_questions",
]

as_room(__name__)
