"""FTAR: questions that ask a model to say when, from TimeAudio's published files or from annotated clips.

Published are lists of `{"audio", "question", "answer", "duration", "id"}` on the hub, `lysanderism/FTAR`, folder
`train`: dense captions, grounding, timeline summaries of speech and open questions about time. `build` makes such
questions of any annotated clips, with instructions of our own and answers in the published form.

Reference: TimeAudio (arXiv 2511.11039), "FTAR dataset construction", table 6 and its released code.

Conventions: seconds from the start of the clip, one place behind the point.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mechaudio.arguments import checks_arguments, followed_home, n_of
from mechaudio.audio.stored import opened
from mechaudio.data.annotated import SLACK, seconds
from mechaudio.data.asked import id_of
from mechaudio.data.clip_names import clips_of
from mechaudio.data.corpus import Corpus, Problems, brief
from mechaudio.data.ftar_phrases import TASKS
from mechaudio.data.ftar_questions import SPLITS, Task, build
from mechaudio.data.recordings import Recordings, first_folder, with_recordings
from mechaudio.data.tables import read_table
from mechaudio.question import AudioQuestion
from mechaudio.writing import as_file_name, made_folder, markdown, refuse_others

FILES: Mapping[str, str] = {
    "dac": "dense_audio_caption",
    "tag": "temporal_audio_grounding",
    "tss": "timeline_speech_summary",
    "tqa": "open_audio_TQA",
}
"""Task -> beginning of the names of its published files."""
HUB_ID = "lysanderism/FTAR"
_FIELDS = ("audio", "question", "answer")


@checks_arguments
def load(
    source: str | os.PathLike = HUB_ID,
    *,
    tasks: Sequence[Task] = TASKS,
    audio: str | os.PathLike | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AudioQuestion]:
    """The questions of FTAR's files, published or written by `save`.

    Sounds are read when a question's `clip()` is called, never here. A clip that is not there, or is no sound, is left
    out and listed; no other takes its place.

    Args:
        source: A JSON file, or a folder of them, such as the `train` of what was downloaded from the hub.
        tasks: Which tasks to keep: `dac`, `tag`, `tss`, `tqa`.
        audio: The folder of the recordings, by default `audio` in or beside their folder, or that folder.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`. `none` opens no file at all.
        strict: Raise at the first problem instead of listing it.

    Returns:
        Open questions, with `meta["task"]` (of the file's name; `other` where it says none), `meta["duration"]` and
        `meta["clip"]`.

    Raises:
        FileNotFoundError: There is no such file, or no JSON file in the folder, or `audio` is given and none of the
            recordings is there.
        ValueError: For a file of another shape, or, if `strict`, at the first problem.
    """
    path, problems = Path(source), Problems(strict)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no file or folder {os.fspath(source)!r}: name one that holds FTAR's files; "
            f"`hf download {HUB_ID} --repo-type dataset` fetches the published ones"
        )
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        inside = sorted({file.parent.name for file in path.glob("*/*.json")})
        there = f"its folders {', '.join(inside)} hold some, each a split" if inside else "on the hub that is `train`"
        raise FileNotFoundError(
            f"there is no JSON file in {os.fspath(source)!r}: name the folder that holds "
            f"{', '.join(f'{name}*.json' for name in FILES.values())}; {there}"
        )
    wanted = [file for file in files if path.is_file() or _task_of(file) in (*tasks, "other")]
    tables = [(file, read_table(file, problems)) for file in wanted]
    for _, table in tables:
        table.need(list(_FIELDS), "FTAR's files are lists of audio, question, answer, duration and id")
    folder = path if path.is_dir() else path.parent

    def read(recordings: Recordings) -> list[AudioQuestion]:
        made = []
        for file, table in tables:
            for number, row in enumerate(table.rows):
                item = id_of(row.get("id"), f"{file.stem}-{number}")
                question = _question(row, item, _task_of(file), recordings, problems)
                made += [] if question is None else [question]
        return made

    items = with_recordings(
        audio, first_folder([folder / "audio", folder.parent / "audio", folder]), check, problems, read
    )
    return Corpus("FTAR", items, tuple(problems.found), license="see its card")


def _task_of(file: Path) -> str:
    return next((task for task, name in FILES.items() if file.stem.lower().startswith(name.lower())), "other")


def _question(
    row: Mapping[str, Any], item: str, task: str, recordings: Recordings, problems: Problems
) -> AudioQuestion | None:
    blank = [name for name in _FIELDS if not isinstance(row.get(name), str) or not row[name].strip()]
    if blank:
        problems.add("malformed row", item, f"{' and '.join(blank)} should be text, got {brief(dict(row))}; left out")
        return None
    recording = recordings.find(item, row["audio"].strip().removeprefix("./"))
    if recording is None:
        return None
    declared, measured = seconds(row.get("duration")), recording[1]
    if declared is not None and declared <= 0:
        problems.add("no duration", item, f"{declared:g} s are said, which no clip lasts; not kept")
        declared = None
    if declared is not None and measured is not None and abs(declared - measured) > max(SLACK, 0.02 * measured):
        problems.add("another duration", item, f"{declared:g} s are said, the recording has {measured:.2f} s; kept")
    meta = {"task": task, "duration": declared if measured is None else measured, "clip": row["audio"].strip()}
    return AudioQuestion(recording[0], row["question"].strip(), answer=row["answer"].strip(), id=item, meta=meta)


@checks_arguments
def save(questions: Sequence[AudioQuestion], folder: str | os.PathLike) -> Path:
    """Write questions as FTAR's files: a folder per split with a file per task, `audio` with their sounds, `card.md`.

    Args:
        questions: From `build` or `load`.
        folder: Where to write; files are copied there, and sounds in memory become wav files.

    Returns:
        The folder, of which `load(folder / split)` reads a split.

    Raises:
        FileNotFoundError: A recording is not there.
        ValueError: There is no question, one has no answer, or one is about no or several recordings; the split or the
            task of one cannot name a file; or other questions lie in the folder.
    """
    if not len(questions):
        raise ValueError("there is no question to write")
    directory = Path(folder)
    places = [
        (as_file_name(str(question.meta.get("split", "train"))), as_file_name(str(question.meta.get("task", "other"))))
        for question in questions
    ]
    wanted = {directory / split / f"{FILES.get(task, task)}.json" for split, task in places}
    if others := sorted(set(directory.glob("*/*.json")) - wanted):
        raise ValueError(
            f"{str(directory)!r} holds questions that are not among these ({others[0].relative_to(directory)}), and "
            "would be read with them: give another folder, or take them away"
        )
    refuse_others(directory, ("card.md",), "questions of when", known_by=("card.md", "| split | task | questions |"))
    made_folder(directory / "audio", "the sound of questions")
    files: dict[int, str] = {}
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for question, (split, task) in zip(questions, places, strict=True):
        if question.answer is None or question.audio is None or isinstance(question.audio, tuple):
            raise ValueError(f"question {question.id!r} needs one recording and an answer to be written as FTAR's are")
        if id(question.audio) not in files:
            files[id(question.audio)] = _written(question.audio, directory / "audio", len(files))
        rows.setdefault((split, FILES.get(task, task)), []).append(
            {
                "audio": files[id(question.audio)],
                "question": question.text,
                "answer": question.answer,
                "duration": question.meta.get("duration"),
                "id": question.id,
            }
        )
    for (split, name), of_file in rows.items():
        (directory / split).mkdir(exist_ok=True)
        content = json.dumps(of_file, indent=1, ensure_ascii=False)
        (directory / split / f"{name}.json").write_text(content, encoding="utf-8")
    (directory / "card.md").write_text(card(questions), encoding="utf-8")
    return directory


def _written(recording: Any, folder: Path, number: int) -> str:
    """Put a recording into a folder, and give its name there."""
    if isinstance(recording, (str, os.PathLike)):
        name = f"{number:06d}{Path(recording).suffix.lower()}"
        shutil.copyfile(followed_home(recording), folder / name)
    else:
        name = f"{number:06d}.wav"
        opened(recording).save(folder / name)
    return name


@checks_arguments
def card(questions: Sequence[AudioQuestion]) -> str:
    """Say in Markdown what a set of questions holds: counts by split and task, clips, lengths, what was left out.

    Args:
        questions: From `build` or `load`; of a `Corpus`, problems are counted too.
    """
    names = clips_of(questions) if len(questions) else ()
    lines = [
        "# FTAR",
        "",
        "| split | task | questions | clips | mean length, s | mean answer, words |",
        "|---" * 6 + "|",
    ]
    parts: dict[tuple[str, str], list[int]] = {}
    for number, question in enumerate(questions):
        key = str(question.meta.get("split", "-")), str(question.meta.get("task", "other"))
        parts.setdefault(key, []).append(number)
    for (split, task), numbers in sorted(parts.items()):
        lengths = [seconds(questions[n].meta.get("duration")) for n in numbers]
        known = [length for length in lengths if length is not None]
        mean = f"{np.mean(known):.1f}" if known else "-"
        words = np.mean([len((questions[n].answer or "").split()) for n in numbers])
        n_clips = len({names[n] for n in numbers})
        cells = (markdown(split), markdown(task), str(len(numbers)), str(n_clips), mean, f"{words:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    counts = Counter(problem.kind for problem in questions.problems) if isinstance(questions, Corpus) else {}
    lines += ["", f"{n_of(len(questions), 'question')} about {n_of(len(set(names)), 'clip')}."]
    if counts:
        lines += ["", "Left out or mended:", "", *(f"- {n} x {markdown(kind)}" for kind, n in sorted(counts.items()))]
    return "\n".join(lines) + "\n"


__all__ = ["FILES", "SPLITS", "TASKS", "build", "card", "load", "save"]
