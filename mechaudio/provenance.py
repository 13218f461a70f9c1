"""Origin of numbers: the checkpoint, the seed, the settings and the versions that made them."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from importlib import import_module, metadata
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

PACKAGES = ("mechaudio", "torch", "transformers", "nnsight", "numpy")


@runtime_checkable
class HasCheckpoint(Protocol):
    """A value that says which checkpoint it is of, as an `AudioLM` does."""

    @property
    def checkpoint(self) -> str:
        """The name or folder it was loaded from."""
        ...

    @property
    def revision(self) -> str | None:
        """Commit on the hub, where there is one."""
        ...


@dataclass(frozen=True)
class Provenance:
    """The origin of numbers.

    Attributes:
        checkpoint: What the network was loaded from, None where there was no model.
        revision: Its commit on the hub, None where there is none.
        seed: Seed of whatever was drawn, None if nothing was.
        settings: The arguments that matter; read-only.
        versions: Versions of Python and the packages that made the numbers, by name; read-only.
        created: When, UTC, ISO 8601.
    """

    checkpoint: str | None = None
    revision: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self):
        object.__setattr__(self, "settings", MappingProxyType(_plain(self.settings)))
        object.__setattr__(self, "versions", MappingProxyType(dict(self.versions)))

    @classmethod
    def collect(
        cls, model: "HasCheckpoint | None" = None, seed: int | None = None, settings: Mapping[str, Any] | None = None
    ) -> "Provenance":
        """The provenance of what is computed now; imports no package to learn its version.

        Args:
            model: An `AudioLM`, or anything with a `checkpoint` and a `revision`.
            seed: Seed of whatever is drawn.
            settings: The arguments that matter; lists and ranges become tuples.
        """
        versions = {package: version(package) for package in PACKAGES}
        return cls(
            checkpoint=getattr(model, "checkpoint", None),
            revision=getattr(model, "revision", None),
            seed=seed,
            settings=settings or {},
            versions={"python": platform.python_version()} | {name: known for name, known in versions.items() if known},
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def derived(self, seed: int | None = None, settings: Mapping[str, Any] | None = None) -> "Provenance":
        """The provenance of what is computed now from numbers of this one: its checkpoint, all else as `collect`.

        Args:
            seed: Seed of whatever is drawn.
            settings: The arguments that matter; lists and ranges become tuples.
        """
        return replace(
            Provenance.collect(seed=seed, settings=settings), checkpoint=self.checkpoint, revision=self.revision
        )


def _plain(value: Any) -> Any:
    """Lists and ranges as tuples, numpy's numbers as Python's; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, range)):
        return tuple(_plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value


@cache
def version(package: str) -> str | None:
    """The version of a package, which is not imported for it; None where it is not installed."""
    if package == "mechaudio":
        return import_module("mechaudio").__version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
