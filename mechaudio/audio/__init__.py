"""Sound and time: recordings, events, which seconds an audio token hears, synthetic soundscapes."""

from mechaudio.audio import clip, clock, events, files, sounds, soundscape, stored
from mechaudio.rooms import as_room

__all__ = ["clip", "clock", "events", "files", "sounds", "soundscape", "stored"]

as_room(__name__)
