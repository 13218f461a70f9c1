"""Linear probes of the states of the audio tower and of audio tokens."""

from mechaudio.rooms import as_room

as_room(__name__)
