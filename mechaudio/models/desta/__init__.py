"""DeSTA2.5-Audio: a network that transformers does not have, in its conventions, with the released names."""

from mechaudio.rooms import as_room

__all__ = ["Silero"]

as_room(__name__, {"Silero": "mechaudio.models.desta.speech"})
