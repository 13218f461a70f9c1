"""A model as the functions of this room take it; an `AudioLM` is one."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from mechaudio.models.adapter import Adapter


@runtime_checkable
class OpenedModel(Protocol):
    """A network together with what prompts for it are made with.

    Attributes:
        network: A network of a class of transformers, or of one that was registered.
        processor: Its processor, None if only dicts of model inputs are given.
        adapter: The facts about the class.
    """

    @property
    def network(self) -> Any:
        """The network."""

    @property
    def processor(self) -> Any:
        """Its processor."""

    @property
    def adapter(self) -> Adapter:
        """The facts about its class."""
