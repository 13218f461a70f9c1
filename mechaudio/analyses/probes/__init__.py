"""What can be read off the states of the audio tower and of audio tokens by linear probes."""

from mechaudio.rooms import as_room

as_room(__name__)
