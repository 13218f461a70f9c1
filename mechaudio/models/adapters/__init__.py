"""One frozen `Adapter` per transformers class."""

from mechaudio.rooms import as_room

as_room(__name__)
