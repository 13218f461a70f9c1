"""DeSTA2.5-Audio: a network that transformers does not have, in its conventions, with the released names."""

from typing import TYPE_CHECKING

from mechaudio.rooms import as_room

if TYPE_CHECKING:
    from mechaudio.models.desta.speech import Silero as Silero

as_room(__name__)
