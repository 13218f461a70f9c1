"""Kimi-Audio: a network that transformers does not have, in its conventions, with the released names."""

from mechaudio.rooms import as_room

as_room(__name__)
