"""Patching: activations of one run put into another, exactly, estimated, and along paths."""

from mechaudio.rooms import as_room

as_room(__name__)
