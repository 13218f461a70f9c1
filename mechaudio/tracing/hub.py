"""The hub: whether it answers, what its cache holds, and which names are near a mistyped one."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub import CacheNotFound, get_hf_file_metadata, hf_hub_url, is_offline_mode, scan_cache_dir
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, HFValidationError

from mechaudio.models.registry import adapters

SHIPPED = ("tiny", "toy", "small")
"""Names of models that are no checkpoints of the hub."""
_SECONDS = 5.0


def why_unreachable(name: str, options: Mapping[str, Any]) -> str | None:
    """Ask the hub once, and return why it does not answer; None where it does, or need not.

    transformers asks six times for each file that its cache lacks, half a minute in all.

    Args:
        name: A hub id, or a folder, for which nothing is asked.
        options: What transformers is given: `revision`, `subfolder`, `token`, `local_files_only`.
    """
    if Path(name).exists() or options.get("local_files_only") or is_offline_mode():
        return None
    try:
        url = hf_hub_url(
            name, "config.json", subfolder=options.get("subfolder") or None, revision=options.get("revision")
        )
        get_hf_file_metadata(url, token=options.get("token"), timeout=_SECONDS)
    except (HfHubHTTPError, FileMetadataError, HFValidationError):  # it answered, or no hub id can be such a name
        return None
    except Exception as error:  # noqa: BLE001 of whichever package carries the requests of huggingface_hub
        return f"{type(error).__name__}: {error}"
    return None


def near_names(name: str, cache_dir: Any = None) -> tuple[str, ...]:
    """The models that a mistyped name may have meant, nearest first: shipped, of the classes here, or in the cache."""
    checkpoints = [checkpoint for adapter in adapters() for checkpoint in adapter.checkpoints]
    known = [*SHIPPED, *checkpoints, *(repository.repo_id for repository in _cached(cache_dir))]
    spelt = {each.lower(): each for each in known}
    return () if name in known else tuple(spelt[near] for near in get_close_matches(name.lower(), spelt, n=3))


def cached_revisions(name: str, cache_dir: Any = None) -> str:
    """The revisions of a hub id that the cache holds, in words."""
    revisions = [
        " ".join([revision.commit_hash[:8], *sorted(revision.refs)])
        for repository in _cached(cache_dir)
        if repository.repo_id == name
        for revision in sorted(repository.revisions, key=lambda revision: revision.last_modified)
    ]
    return f"the hub's cache holds {', '.join(revisions)}" if revisions else "the hub's cache holds none of it"


def _cached(cache_dir: Any) -> tuple[Any, ...]:
    try:
        return tuple(scan_cache_dir(cache_dir).repos)
    except CacheNotFound:
        return ()
