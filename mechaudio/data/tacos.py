"""TACOS: 12,358 Freesound clips of up to 30 s, 47,748 events, each described in free text with its onset and offset.

Primus, Schmid, Widmer, "TACOS: Temporally-aligned Audio CaptiOnS for Language-Audio Pretraining", 2025; Zenodo record
15379789. Files as on Zenodo: `annotations_strong.csv` (filename, text, onset, offset), `annotations_weak.csv`
(filename, text), `metadata.csv`, `development_split.csv`, `test_split.csv`, and `audio.zip`, unpacked.

Conventions: seconds from the start of the clip, which is a cut of the Freesound recording.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.annotated import Annotation, annotated_corpus
from mechaudio.data.corpus import Corpus, Problems
from mechaudio.data.recordings import first_folder
from mechaudio.data.tables import Table, read_table

STRONG = ("filename", "text", "onset", "offset")
SPLITS = ("development", "test")
KEPT = ("superclass", "subclass", "license", "freesound_id", "title", "sound_link")
"""Columns of `metadata.csv` that go into `meta`, beside `keywords`, a tuple."""


@checks_arguments
def load(
    path: str | os.PathLike,
    *,
    split: str | None = None,
    audio: str | os.PathLike | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AnnotatedClip]:
    """The clips of TACOS with their events.

    Args:
        path: The folder of the CSV files.
        split: `development` or `test`; None for both.
        audio: The folder of the recordings, by default `audio` in the same folder, or the folder itself.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: Raise at the first problem instead of listing it.

    Returns:
        A clip for every file name with events: its weak caption, if there is one, as `caption`, and in `meta`
        `superclass`, `subclass`, `license`, `keywords` and more, if `metadata.csv` is there.

    Raises:
        FileNotFoundError: If a file is not there, or `audio` is given and none of the recordings is there.
        ValueError: For a file without its columns, or, if `strict`, at the first problem.
    """
    folder, problems = Path(path), Problems(strict)
    strong = read_table(_file(folder, "annotations_strong.csv"), problems)
    strong.need(STRONG)
    wanted = None if split is None else _split(folder, split, problems)
    events: dict[str, list[tuple[Any, Any, Any]]] = defaultdict(list)
    for row in strong.rows:
        if wanted is None or row["filename"] in wanted:
            events[row["filename"]].append((row["text"], row["onset"], row["offset"]))
    captions, metadata = _captions(folder, problems), _metadata(folder, problems)

    of_split = {} if split is None else {"split": split}
    return annotated_corpus(
        "TACOS",
        lambda: (
            Annotation(name, rows, (name,), captions.get(name), {**metadata.get(name, {}), **of_split})
            for name, rows in events.items()
        ),
        problems,
        sounds=(audio, first_folder([folder / "audio", folder]), check),
        version=strong.version,
        license="CC-BY-4.0",
    )


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"there is no {name} in {os.fspath(folder)!r}: download it from Zenodo record 15379789, and unpack "
            "audio.zip beside it"
        )
    return folder / name


def _split(folder: Path, split: str, problems: Problems) -> frozenset[str]:
    if split not in SPLITS:
        raise ValueError(f"split is {' or '.join(map(repr, SPLITS))}, or None for both, got {split!r}")
    table = read_table(_file(folder, f"{split}_split.csv"), problems)
    table.need(["filename"])
    return frozenset(row["filename"] for row in table.rows)


def _optional(folder: Path, name: str, problems: Problems) -> Table | None:
    return read_table(folder / name, problems) if (folder / name).is_file() else None


def _captions(folder: Path, problems: Problems) -> dict[str, str]:
    table = _optional(folder, "annotations_weak.csv", problems)
    if table is None:
        return {}
    column = "caption" if "caption" in table.columns else "text"  # released with text, renamed by some
    table.need(["filename", column])
    return {row["filename"]: row[column].strip() for row in table.rows if row[column].strip()}


def _metadata(folder: Path, problems: Problems) -> dict[str, Mapping[str, Any]]:
    table = _optional(folder, "metadata.csv", problems)
    if table is None:
        return {}
    table.need(["filename"])
    return {row["filename"]: _kept(row) for row in table.rows}


def _kept(row: Mapping[str, str]) -> dict[str, Any]:
    keywords: Iterable[str] = row.get("keywords", "").split(", ")
    return {name: row[name] for name in KEPT if row.get(name)} | {"keywords": tuple(filter(None, keywords))}
