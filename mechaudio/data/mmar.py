"""MMAR: 1,000 questions that need several steps of reasoning about speech, sound, music and their mixtures.

Ma et al., "MMAR: A Challenging Benchmark for Deep Reasoning in Speech, Audio, Music, and Their Mix", 2025.
`MMAR-meta.jsonl` (GitHub) or `MMAR-meta.json` (`BoJack/MMAR` on the hub), and `mmar-audio.tar.gz`, unpacked beside it.
Questions have 2 to 6 choices.
"""

import os
from typing import TYPE_CHECKING

from mechaudio.arguments import checks_arguments
from mechaudio.data.asked import asked, check_first_index, id_of, one_text
from mechaudio.data.corpus import Corpus, Problems
from mechaudio.data.recordings import Recordings, with_recordings
from mechaudio.data.tables import read_table
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from datasets import Dataset

NEEDED = ("id", "audio_path", "question", "choices", "answer", "modality", "category")
META = ("category", "sub-category", "language", "source", "url", "timestamp")


@checks_arguments
def load(
    source: "str | os.PathLike | Dataset" = "BoJack/MMAR",
    *,
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    revision: str | None = None,
    first_index: int | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AudioQuestion]:
    """The questions of MMAR.

    Args:
        source: `MMAR-meta.jsonl` or `MMAR-meta.json`; a hub id; or a `datasets.Dataset`.
        audio: the folder into which the recordings were unpacked, by default that of the file.
        split: which one of the hub's splits, needed where there are several.
        revision: a commit, tag or branch of the hub.
        first_index: where answers are the places of choices, the number of the first one, 0 or 1.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: raise at the first problem instead of listing it.

    Returns:
        Questions with `meta["task"]`, which is the modality (sound, mix-sound-speech ...), `category` (the layer),
        `sub-category`, `language`, and where the recording is from.

    Raises:
        FileNotFoundError: if there is no such file, or `audio` is given and none of the recordings is there.
        ValueError: for columns that are not there, which says those that are, or, if `strict`, at the first problem.
    """
    problems = Problems(strict)
    check_first_index(first_index)
    table = read_table(source, problems, split=split, revision=revision)
    table.need(NEEDED, "is it MMAR?")

    def read(recordings: Recordings) -> list[AudioQuestion]:
        questions = []
        for number, row in enumerate(table.rows):
            question = asked(
                id_of(row.get("id"), f"mmar-{number}"),
                audio=row.get("audio_path"),
                text=row.get("question"),
                choices=row.get("choices"),
                answer=row.get("answer"),
                meta={"task": one_text(row.get("modality"))}
                | {field: one_text(row[field]) for field in META if field in row},
                recordings=recordings,
                problems=problems,
                first_index=first_index,
            )
            if question is not None:
                questions.append(question)
        return questions

    items = with_recordings(audio, table.folder, check, problems, read)
    return Corpus("MMAR", items, tuple(problems.found), table.version, "CC-BY-NC-4.0")
