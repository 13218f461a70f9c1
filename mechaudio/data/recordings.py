"""Recordings of a corpus: their files, and whether they can be read.

Conventions: a recording is found by the path that its corpus gives it, below the corpus's folder, or else by its file
name, or by that name without the suffix, anywhere below the folder. Capitals, the two ways of writing an accent and the
slashes of Windows make no difference where no file has the very name. Durations in seconds.
"""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip, duration_of, opened, recording_of
from mechaudio.data.corpus import Problems
from mechaudio.notices import withheld

SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".mp4", ".3gp", ".webm", ".weba"),
    *(".mka", ".mkv", ".mov", ".aif", ".aiff", ".caf", ".amr"),
)
CHECKS = ("header", "whole", "none")

Item = TypeVar("Item")


class Recordings:
    """The sound files of a corpus.

    Args:
        folder: What holds them, at any depth; None where the corpus is not in a folder, and paths stand for themselves.
        check: What is looked at while loading: `header` finds files that are missing or no sound, and how long they
            are; `whole` decodes every one, which also finds those that break off; `none` opens nothing, and files need
            not be there.
        problems: Where what is wrong is listed.
        follow_links: Whether links in the folder may lead out of it, as those of a folder that the user named may.

    Raises:
        ValueError: For another check.
        NotADirectoryError: If the folder is not there, unless nothing is to be opened.
    """

    def __init__(self, folder: str | os.PathLike | None, check: str, problems: Problems, *, follow_links: bool = False):
        if check not in CHECKS:
            raise ValueError(f"check is one of {', '.join(CHECKS)}, got {check!r}")
        self.folder = Path() if folder is None else Path(folder)
        self._searched, self._follow_links = folder is not None, follow_links
        if check != "none" and not self.folder.is_dir():
            raise NotADirectoryError(
                f"there is no folder {os.fspath(folder)!r} with recordings: give audio=FOLDER, or check='none' to "
                "load what is said of recordings that are elsewhere"
            )
        self.check, self.problems = check, problems
        self.wanted: list[str] = []
        self._missing = 0

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """Path, file name, and file name without suffix, as `_folded` -> the files that have it."""
        files: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.rglob("*")) if self._searched else ():
            if path.suffix.lower() in SUFFIXES:
                for name in {path.relative_to(self.folder).as_posix(), path.name, path.stem}:
                    files[_folded(name)].append(path)
        return files

    def find(self, item: str, *names: str) -> tuple[Path, float | None] | None:
        """The first recording there is under one of the names, and its length where the check tells it.

        Args:
            item: Whose recording it is, for problems.
            names: Paths below the folder or file names, with or without a suffix.

        Returns:
            None where there is none that can be read, which is listed.
        """
        outside = [name for name in names if self._leads_out(name)]
        if outside:
            self.problems.add(
                "recording outside",
                item,
                f"{outside[0][:200]!r} leads out of {str(self.folder)!r}, where the recordings are; left out. Name the "
                "folder that holds it: audio=FOLDER",
            )
            return None
        files = self._places(names)
        if self.check == "none":
            return files[0] if len(files) == 1 else self.folder / names[0], None
        self.wanted.append(names[0])
        if len(files) == 1:
            return self.measured(item, files[0])
        if files:
            places = ", ".join(str(path.relative_to(self.folder)) for path in files[:3])
            self.problems.add("ambiguous recording", item, f"{len(files)} files are named {files[0].name}: {places}")
            return None
        self._missing += 1
        self.problems.add("missing recording", item, f"there is no {' or '.join(names)} below {str(self.folder)!r}")
        return None

    def _leads_out(self, name: str) -> bool:
        """Return whether a path that a corpus names lies elsewhere than its recordings do."""
        if not self._searched:
            return False
        place, folder = Path(os.path.abspath(self.folder / name)), Path(os.path.abspath(self.folder))
        if not place.is_relative_to(folder):
            return True
        try:
            return not self._follow_links and not place.resolve().is_relative_to(folder.resolve())
        except (OSError, ValueError):  # a name that no file can have, or links that lead in a circle
            return False

    def _places(self, names: Sequence[str]) -> list[Path]:
        """The files that a recording may be: one by its path, or else all by the first name that any file has."""
        for name in names:
            if os.path.isfile(self.folder / name):  # unlike Path.is_file, false for a name that no file can have
                return [self.folder / name]
        for name in names:
            path = name.replace("\\", "/")
            files = self._by_name.get(_folded(path)) or self._by_name.get(_folded(PurePosixPath(path).name))
            if files:
                last = PurePosixPath(path).name
                return [place for place in files if last in (place.name, place.stem)] or files
        return []

    def measured(self, item: str, audio: Any) -> tuple[AudioClip | Path | StoredClip, float | None] | None:
        """A recording and its length where the check tells it; None if it cannot be read, which is listed.

        What is warned of while it is read is listed, and the recording kept.
        """
        try:
            with withheld() as doubts:
                recording = recording_of(audio, item)
                duration = duration_of(recording) if self.check == "header" else None
                if self.check == "whole":
                    duration = len((clip := opened(recording)).mono()) / clip.sample_rate
        except (TypeError, ValueError, OSError) as error:
            self.problems.add("unreadable recording", item, f"{error}; left out", error)
            return None
        for doubt in doubts:
            self.problems.add("doubtful recording", item, f"{doubt}; kept")
        return recording, duration

    @property
    def all_missing(self) -> bool:
        """True if recordings were looked for and not one is there."""
        return 0 < len(self.wanted) == self._missing


def with_recordings(
    audio: str | os.PathLike | None,
    usual: Path | None,
    check: str,
    problems: Problems,
    read: Callable[[Recordings], list[Item]],
) -> tuple[Item, ...]:
    """The items of a corpus, read with its recordings at hand.

    Items whose recording is missing or cannot be read are left out. Where not one recording is there, as when a corpus
    was downloaded without its sounds, all items are kept: what they say can still be read, and `clip()` fails.

    Args:
        audio: The folder that the user gave.
        usual: The folder otherwise; None where there is none.
        check: `header`, `whole` or `none`.
        problems: Where problems are listed.
        read: Makes the items.

    Raises:
        FileNotFoundError: If the user gave a folder and not one recording is in it.
    """
    recordings = Recordings(usual if audio is None else audio, check, problems, follow_links=audio is not None)
    n_before = len(problems)
    items = read(recordings)
    if not recordings.all_missing:
        _list_twins(items, problems)
        return tuple(items)
    advice = (
        f"none of the {len(recordings.wanted)} recordings is below {os.fspath(recordings.folder)!r} (the first is "
        f"{recordings.wanted[0]!r})"
    )
    if audio is not None:
        raise FileNotFoundError(f"{advice}: give the folder that holds them, at any depth")
    del problems.found[n_before:]
    problems.add("no recordings", "the corpus", f"{advice}: all is kept, but no sound can be read; give audio=FOLDER")
    items = read(Recordings(usual, "none", problems))
    _list_twins(items, problems)
    return tuple(items)


def _list_twins(items: Sequence[Any], problems: Problems) -> None:
    for name, count in Counter(item.id for item in items).items():
        if count > 1:
            problems.add("duplicate id", name, f"{count} rows have this id; all of them are kept")


def _folded(name: str) -> str:
    """A name without what differs between systems: capitals, and whether an accent is a character of its own."""
    return unicodedata.normalize("NFC", name).casefold()


def first_folder(candidates: Sequence[Path]) -> Path:
    """The first of the folders that exists, else the last."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[-1])
