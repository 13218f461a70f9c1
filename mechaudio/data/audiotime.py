"""AudioTime: synthetic scenes of AudioSet sounds, in four subsets, each about one kind of temporal statement.

Xie, Xu, Wu, Wu, "AudioTime: A Temporally-aligned Audio-text Benchmark Dataset", 2024. A JSON file for each subset:
`{syn_1: {event: {label: ...}, caption}}`, where a label has `[[onset, offset], ...]` in `timestamp` and `ordering`,
`[seconds, ...]` in `duration`, and `[onset, ...]` in `frequency`. Recordings are `audio/syn_1.wav`, or
`timestamp_syn_1.wav` where subsets share a folder.

Conventions: seconds from the start of the clip.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.annotated import Annotation, annotated_corpus, seconds
from mechaudio.data.asked import text_or_none
from mechaudio.data.corpus import Corpus, Problems, brief
from mechaudio.data.recordings import first_folder
from mechaudio.data.tables import read_json

SUBSETS = ("timestamp", "ordering", "duration", "frequency")
TIMED = ("timestamp", "ordering")


@checks_arguments
def load(
    path: str | os.PathLike,
    *,
    subset: str | None = None,
    audio: str | os.PathLike | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AnnotatedClip]:
    """The clips of one subset of AudioTime.

    Args:
        path: Its JSON file, or a folder with `{subset}_caption.json` or `{subset}_captions.json` anywhere in it.
        subset: `timestamp`, `ordering`, `duration` or `frequency`; by default what the file's name begins with,
            `timestamp` for a folder.
        audio: The folder of the recordings, by default `audio` beside the JSON file, or the folder that it is in.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: Raise at the first problem instead of listing it.

    Returns:
        A clip for every scene, with its caption and `meta["subset"]`. Scenes of `timestamp` and `ordering` have
        events; `duration` says no onsets and `frequency` no offsets: theirs are in `meta["durations"]` and
        `meta["onsets"]`, mappings of label to seconds.

    Raises:
        FileNotFoundError: If a file is not there, or `audio` is given and none of the recordings is there.
        ValueError: For a file of another shape, a subset that is not known, or, if `strict`, at the first problem.
    """
    file = _file(Path(path), subset)
    subset = subset or file.name.partition("_")[0]
    if subset not in SUBSETS:
        raise ValueError(f"{os.fspath(file)!r} is of no known subset: give subset=, one of {', '.join(SUBSETS)}")
    problems = Problems(strict)
    scenes = read_json(file, problems)
    if not isinstance(scenes, dict):
        raise ValueError(f"{os.fspath(file)!r} should hold an object of scenes, got a {type(scenes).__name__}")

    def annotations() -> Iterator[Annotation]:
        for name, scene in scenes.items():
            item = f"{subset}_{name}"
            if not isinstance(scene, dict) or not isinstance(scene.get("event"), dict):
                problems.add("malformed row", item, "a scene is an object with `event`, an object of labels; left out")
                continue
            yield _annotation(item, (f"{item}.wav", f"{name}.wav"), subset, scene, problems)

    return annotated_corpus(
        f"AudioTime ({subset})",
        annotations,
        problems,
        sounds=(audio, first_folder([file.parent / "audio", file.parent]), check),
        license="see its repository",
    )


def _file(path: Path, subset: str | None) -> Path:
    if path.is_file():
        return path
    wanted = f"{subset or 'timestamp'}_caption*.json"
    files = sorted(path.rglob(wanted)) if path.is_dir() else []
    if len(files) != 1:
        there = "none is" if not files else f"there are {', '.join(str(one.relative_to(path)) for one in files)}"
        raise FileNotFoundError(f"looked for one {wanted} in {os.fspath(path)!r}, and {there}: give the file itself")
    return files[0]


def _annotation(
    item: str, files: tuple[str, ...], subset: str, scene: Mapping[str, Any], problems: Problems
) -> Annotation:
    meta: dict[str, Any] = {"subset": subset}
    rows = []
    if subset in TIMED:
        for label, segments in scene["event"].items():
            for segment in segments if isinstance(segments, list) else [segments]:
                pair = segment if isinstance(segment, list) and len(segment) == 2 else (segment, None)
                rows.append((label, *pair))
    else:
        kept = {label: _times(label, times, item, problems) for label, times in scene["event"].items()}
        meta["durations" if subset == "duration" else "onsets"] = kept
    caption = scene.get("caption")
    caption = caption[0] if isinstance(caption, list) and caption else caption  # the second says whether it was checked
    return Annotation(item, rows, files, text_or_none(caption), meta)


def _times(label: str, times: Any, item: str, problems: Problems) -> tuple[float, ...]:
    """The times of a label that can be."""
    kept = []
    for time in times if isinstance(times, list) else [times]:
        number = seconds(time)
        if number is None or number < 0:
            problems.add("impossible times", item, f"{label!r} needs a number of seconds, got {brief(time)}; left out")
        else:
            kept.append(number)
    return tuple(kept)
