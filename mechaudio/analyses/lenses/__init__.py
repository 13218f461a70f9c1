"""The residual stream read through the unembedding: at every depth, and divided among who wrote it."""

from mechaudio.rooms import as_room

as_room(__name__)
