"""Corpora: one file each, raw files, a hub id or a seed in, annotated clips or questions out.

`load` of a module of `QUESTIONS` gives questions, that of the others annotated clips, from which `ma.temporal.build`
makes questions. `ftar` reads TimeAudio's questions of when, and makes them of annotated clips. What could not be used
is in `corpus.problems`.
"""

from mechaudio.data import annotations as annotations
from mechaudio.data import audio_grounding as audio_grounding
from mechaudio.data import audioset_strong as audioset_strong
from mechaudio.data import audiotime as audiotime
from mechaudio.data import ftar as ftar
from mechaudio.data import mmar as mmar
from mechaudio.data import mmau as mmau
from mechaudio.data import mmau_pro as mmau_pro
from mechaudio.data import soundscapes as soundscapes
from mechaudio.data import tacos as tacos
from mechaudio.data import temporal_lalm as temporal_lalm
from mechaudio.data import toy_questions as toy_questions
from mechaudio.rooms import as_room

#: Corpora of questions, which the command line takes as `--data NAME`.
QUESTIONS = ("mmau", "mmau_pro", "mmar", "temporal_lalm", "ftar")

as_room(__name__)
