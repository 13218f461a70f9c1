"""Corpora: one file each, raw files, a hub id or a seed in, annotated clips or questions out.

`load` of a module of `QUESTIONS` gives questions, that of the others annotated clips, from which `ma.temporal.build`
makes questions. `ftar` reads TimeAudio's questions of when, and makes them of annotated clips. What could not be used
is in `corpus.problems`.
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

#: Corpora of questions, which the command line takes as `--data NAME`.
QUESTIONS = ("mmau", "mmau_pro", "mmar", "temporal_lalm", "ftar")

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
