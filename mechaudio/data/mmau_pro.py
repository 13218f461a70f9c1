"""MMAU-Pro: 5,305 questions on long, spatial, multi-clip and multicultural recordings.

Kumar et al., "MMAU-Pro: A Challenging and Comprehensive Benchmark for Holistic Evaluation of Audio General
Intelligence", 2025; `gamma-lab-umd/MMAU-Pro` on the hub, one parquet file and a `data.zip` of the recordings, to be
unpacked. The number of choices varies. Questions that have none (open questions and instructions to follow) and those
about several recordings at once are left out and listed.
"""

import os
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import checks_arguments
from mechaudio.data.asked import asked, check_first_index, id_of, one_text, texts_of
from mechaudio.data.corpus import Corpus, Problems
from mechaudio.data.recordings import Recordings, with_recordings
from mechaudio.data.tables import read_table
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from datasets import Dataset

NEEDED = ("id", "audio_path", "question", "answer", "choices", "category")
LISTS = ("perceptual_skills", "reasoning_skills")


@checks_arguments
def load(
    source: "str | os.PathLike | Dataset" = "gamma-lab-umd/MMAU-Pro",
    *,
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    revision: str | None = None,
    first_index: int | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AudioQuestion]:
    """The multiple-choice questions of MMAU-Pro about one recording.

    Args:
        source: a hub id; a parquet, JSON or JSON lines file, or a folder of parquet files; or a `datasets.Dataset`.
        audio: the folder into which `data.zip` was unpacked, by default that of the file.
        split: which one of the hub's splits, needed where there are several.
        revision: a commit, tag or branch of the hub.
        first_index: where answers are the places of choices, the number of the first one, 0 or 1.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: raise at the first problem instead of listing it.

    Returns:
        Questions with `meta["task"]`, which is the category, `sub-category`, `length_type`, and the tuples
        `perceptual_skills` and `reasoning_skills`.

    Raises:
        FileNotFoundError: if there is no such file, or `audio` is given and none of the recordings is there.
        ValueError: for columns that are not there, which says those that are, or, if `strict`, at the first problem.
    """
    problems = Problems(strict)
    check_first_index(first_index)
    table = read_table(source, problems, split=split, revision=revision)
    table.need(NEEDED, "is it MMAU-Pro?")

    def read(recordings: Recordings) -> list[AudioQuestion]:
        questions = []
        for number, row in enumerate(table.rows):
            meta: dict[str, Any] = {"task": one_text(row.get("category"))}
            meta |= {new: one_text(row.get(old)) for new, old in (("sub-category", "sub-cat"), ("length_type",) * 2)}
            meta |= {skills: texts_of(row.get(skills)) for skills in LISTS}
            question = asked(
                id_of(row.get("id"), f"mmau-pro-{number}"),
                audio=row.get("audio_path"),
                text=row.get("question"),
                choices=row.get("choices"),
                answer=row.get("answer"),
                meta=meta,
                recordings=recordings,
                problems=problems,
                first_index=first_index,
            )
            if question is not None:
                questions.append(question)
        return questions

    items = with_recordings(audio, table.folder, check, problems, read)
    return Corpus("MMAU-Pro", items, tuple(problems.found), table.version, "CC-BY-NC-4.0")
