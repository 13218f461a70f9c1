"""AudioGrounding: captions of AudioCaps whose phrases are located in time.

Xu, Dinkel, Wu, Yu, "Text-to-Audio Grounding", ICASSP 2021. Version 2 (Zenodo record 7269161): `train/label.json`,
`val/label.json`, `test/label.json`, lists of `{audiocap_id, audio_id, tokens, phrases: [{phrase, start_index,
end_index, segments: [[onset, offset], ...]}]}`. The sounds are those of AudioSet.

Conventions: seconds from the start of the clip; a segment `[0, 0]` says that the phrase is not heard.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechaudio.arguments import checks_arguments
from mechaudio.audio.events import AnnotatedClip
from mechaudio.data.annotated import Annotation, annotated_corpus, seconds
from mechaudio.data.asked import id_of
from mechaudio.data.corpus import Corpus, Problems, brief
from mechaudio.data.recordings import first_folder
from mechaudio.data.tables import read_table

SPLITS = ("train", "val", "test")
SHAPE = {"audio_id": str, "tokens": (str, list), "phrases": list}


@checks_arguments
def load(
    path: str | os.PathLike,
    *,
    split: str = "test",
    audio: str | os.PathLike | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AnnotatedClip]:
    """The captions of AudioGrounding with their phrases as events.

    Args:
        path: A `label.json`, or the folder that holds those of all splits.
        split: `train`, `val` or `test`, where `path` is a folder.
        audio: The folder of the recordings, by default `audio` beside the annotations, or their folder.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: Raise at the first problem instead of listing it.

    Returns:
        A clip for every caption, so that a recording with five captions comes five times; `meta["audio_id"]` names it,
        and `meta["not_heard"]` the phrases without a segment.

    Raises:
        FileNotFoundError: If a file is not there, or `audio` is given and none of the recordings is there.
        ValueError: For a file of another shape, an unknown split, or, if `strict`, at the first problem.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, got {split!r}")
    file, problems = Path(path), Problems(strict)
    file = file / split / "label.json" if file.is_dir() else file
    table = read_table(file, problems)
    table.need(["audiocap_id", "audio_id", "tokens", "phrases"], "version 2 is read, Zenodo record 7269161")
    folders = [file.parent / "audio", file.parent.parent / "audio", file.parent]

    def annotations() -> Iterator[Annotation]:
        for number, row in enumerate(table.rows):
            item = id_of(row.get("audiocap_id"), f"audio-grounding-{number}")
            shaped = all(isinstance(row.get(name), kind) for name, kind in SHAPE.items())
            if not shaped or not all(isinstance(phrase, dict) for phrase in row["phrases"]):
                problems.add("malformed row", item, f"needs {', '.join(SHAPE)}, got {brief(dict(row))}; left out")
                continue
            heard, not_heard = _phrases(row)
            meta = {"audio_id": row["audio_id"], "not_heard": not_heard}
            yield Annotation(item, heard, (row["audio_id"],), _words(row["tokens"]) or None, meta)

    return annotated_corpus(
        "AudioGrounding",
        annotations,
        problems,
        sounds=(audio, first_folder(folders), check),
        version=table.version,
        license="see its Zenodo record",
    )


def _phrases(row: Mapping[str, Any]) -> tuple[list[tuple[Any, Any, Any]], tuple[str, ...]]:
    heard, not_heard = [], []
    for phrase in row["phrases"]:
        text = _words(phrase.get("phrase"))
        given = phrase.get("segments")
        segments = [_two(segment) for segment in (given if isinstance(given, list) else [given])]
        segments = [(onset, offset) for onset, offset in segments if (seconds(onset), seconds(offset)) != (0, 0)]
        heard += [(text, onset, offset) for onset, offset in segments]
        if not segments:
            not_heard.append(text)
    return heard, tuple(not_heard)


def _two(segment: Any) -> tuple[Any, Any]:
    return (segment[0], segment[1]) if isinstance(segment, list) and len(segment) == 2 else (segment, None)


def _words(value: Any) -> str:
    """A text that is written as one, or as a list of its words."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
