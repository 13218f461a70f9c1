"""AudioSet-Strong: 10 s clips of YouTube, every sound with its onset and offset.

Hershey et al., "The Benefit of Temporally-Strong Labels in Audio Event Classification", ICASSP 2021. Files as
released: `audioset_train_strong.tsv`, `audioset_eval_strong.tsv` and `audioset_eval_strong_framed_posneg.tsv`
(segment_id, start_time_seconds, end_time_seconds, label, and present in the last), and `mid_to_display_name.tsv`. A
segment is the YouTube id, `_`, and the start of the clip in milliseconds. The sounds are not distributed; files named
after the segment or the YouTube id, with or without a `Y` before it, are found.

Conventions: seconds from the start of the 10 s clip.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.annotated import Annotation, annotated_corpus
from mechaudio.data.corpus import Corpus, Problems, brief
from mechaudio.data.recordings import first_folder
from mechaudio.data.tables import read_table

COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
SPLITS = {
    "train": "audioset_train_strong.tsv",
    "eval": "audioset_eval_strong.tsv",
    "eval_framed": "audioset_eval_strong_framed_posneg.tsv",
}
NAMES = "mid_to_display_name.tsv"


@checks_arguments
def load(
    path: str | os.PathLike,
    *,
    split: str = "eval",
    names: str | os.PathLike | None = None,
    audio: str | os.PathLike | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AnnotatedClip]:
    """The clips of AudioSet-Strong with their events.

    Args:
        path: One of the TSV files, or the folder that holds them.
        split: `train`, `eval` or `eval_framed` (frames of 0.96 s; those that are marked `NOT_PRESENT` are left out),
            where `path` is a folder.
        names: The table of label ids and names, by default `mid_to_display_name.tsv` in the same folder.
        audio: The folder of the recordings, by default `audio` in the same folder, or the folder itself.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: Raise at the first problem instead of listing it.

    Returns:
        A clip for every segment; labels are display names, and an id that the table lacks is listed and left out.

    Raises:
        FileNotFoundError: If a file is not there, or `audio` is given and none of the recordings is there.
        ValueError: For a file without its columns, an unknown split, or, if `strict`, at the first problem.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, got {split!r}")
    file, problems = Path(path), Problems(strict)
    file = file / SPLITS[split] if file.is_dir() else file
    table = read_table(file, problems)
    table.need(COLUMNS)
    label_names = _names(Path(names) if names else file.parent / NAMES, problems)
    segments: dict[str, list[tuple[Any, Any, Any]]] = defaultdict(list)
    for number, row in enumerate(table.rows, start=1):
        segment, label = row.get("segment_id"), row.get("label")
        if not isinstance(segment, str) or not segment.strip():
            problems.add("malformed row", f"row {number}", f"the segment is {brief(segment)}; left out")
            continue
        rows = segments[segment]
        if row.get("present", "PRESENT") != "PRESENT":
            continue
        if not isinstance(label, str) or label not in label_names:
            problems.add("unknown label", segment, f"{brief(label)} has no name in {NAMES}; left out")
            continue
        rows.append((label_names[label], row.get("start_time_seconds"), row.get("end_time_seconds")))

    def annotations() -> Iterator[Annotation]:
        for segment, rows in segments.items():
            video, _, start = segment.rpartition("_")
            files = (segment, f"Y{segment}", f"Y{video}", video)
            yield Annotation(segment, rows, files, meta={"youtube_id": video, "start_ms": start})

    return annotated_corpus(
        "AudioSet-Strong",
        annotations,
        problems,
        sounds=(audio, first_folder([file.parent / "audio", file.parent]), check),
        version=table.version,
        license="CC-BY-4.0",
    )


def _names(path: Path, problems: Problems) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {os.fspath(path)!r}, which says what the labels are called: download it beside the "
            "annotations, or give names=FILE"
        )
    table = read_table(path, problems, header=("mid", "name"))
    table.need(("mid", "name"))
    return {row["mid"]: row["name"] for row in table.rows if "mid" in row and "name" in row}
