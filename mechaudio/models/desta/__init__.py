"""DeSTA2.5-Audio: a network that transformers does not have, in its conventions, with the released names."""

from mechaudio.models.desta.speech import Silero

__all__ = ["Silero"]
