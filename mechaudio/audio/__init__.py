"""Sound and time: recordings, events, which seconds an audio token hears, synthetic soundscapes."""

from mechaudio.audio import clip as clip
from mechaudio.audio import clock as clock
from mechaudio.audio import events as events
from mechaudio.audio import files as files
from mechaudio.audio import sounds as sounds
from mechaudio.audio import soundscape as soundscape
from mechaudio.audio import stored as stored
from mechaudio.rooms import as_room

as_room(__name__)
