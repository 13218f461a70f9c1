"""MMAU: questions about sound, music and speech that ask for expert knowledge and reasoning.

Sakshi et al., "MMAU: A Massive Multi-Task Audio Understanding and Reasoning Benchmark", ICLR 2025. Two releases differ
in about a quarter of the questions, the first one and `v05.15.25`; an accuracy is comparable within one release only.
Two forms: `mmau-test-mini.json` and `mmau-test.json` of the GitHub repository, with a folder of recordings, and
`gamma-lab-umd/MMAU-test-mini` and `gamma-lab-umd/MMAU-test` on the hub, which hold their sounds. The answers of the
9,000 questions of `test` are withheld. Of the 1,000 of `test-mini`, some have 2, 5 or 8 choices, and some repeat a
choice.
"""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import checks_arguments
from mechaudio.data.asked import asked, check_first_index, id_of, one_text
from mechaudio.data.corpus import Corpus, Problems
from mechaudio.data.recordings import Recordings, with_recordings
from mechaudio.data.tables import Table, read_table
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {
    "recording": ("audio_id", "context", "audio", "audio_path"),
    "question": ("question", "instruction"),
    "choices": ("choices", "options"),
}
"""What each is called in the releases and their mirrors."""
META = ("task", "split", "category", "sub-category", "difficulty", "dataset")


@checks_arguments
def load(
    source: "str | os.PathLike | Dataset" = "gamma-lab-umd/MMAU-test-mini",
    *,
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    version: str | None = None,
    revision: str | None = None,
    first_index: int | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AudioQuestion]:
    """The questions of MMAU.

    Args:
        source: the JSON file of the GitHub repository; a hub id; a parquet file or a folder of them; or a
            `datasets.Dataset`.
        audio: the folder of the recordings, by default that of the file.
        split: which one of the hub's splits, needed where there are several.
        version: the release, kept as the corpus's `version` and in each question's `meta["version"]`; by default
            `revision`, or a digest of what was read, which tells releases apart as well.
        revision: a commit, tag or branch of the hub.
        first_index: where answers are the places of choices, the number of the first one, 0 or 1.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: raise at the first problem instead of listing it.

    Returns:
        Questions with `meta["task"]` (sound, music or speech), `split`, `category`, `sub-category`, `difficulty`,
        `dataset` and `version`; `answer` is None where it is withheld.

    Raises:
        FileNotFoundError: if there is no such file, or `audio` is given and none of the recordings is there.
        ValueError: for columns that are not there, which says those that are, or, if `strict`, at the first problem.
    """
    problems = Problems(strict)
    check_first_index(first_index)
    table = read_table(source, problems, split=split, revision=revision)
    names = {field: _column(table, field) for field in COLUMNS}
    release = version or table.version

    def read(recordings: Recordings) -> list[AudioQuestion]:
        questions = []
        for number, row in enumerate(table.rows):
            known = dict(row) | _other_attributes(row, problems)
            question = asked(
                id_of(known.get("id"), f"{table.name}-{number}"),
                audio=row.get(names["recording"]),
                text=row.get(names["question"]),
                choices=row.get(names["choices"]),
                answer=row.get("answer"),
                meta={field: one_text(known[field]) for field in META if field in known} | {"version": release},
                recordings=recordings,
                problems=problems,
                first_index=first_index,
            )
            if question is not None:
                questions.append(question)
        return questions

    items = with_recordings(audio, table.folder, check, problems, read)
    return Corpus("MMAU", items, tuple(problems.found), release, "see its card: the releases differ")


def _column(table: Table, field: str) -> str:
    for name in COLUMNS[field]:
        if name in table.columns:
            return name
    raise ValueError(
        f"{table.name} has no column for the {field} ({' or '.join(map(repr, COLUMNS[field]))}); its columns are "
        f"{', '.join(map(repr, table.columns))}. Is it MMAU?"
    )


def _other_attributes(row: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """What the hub's form keeps as JSON in one column."""
    value = row.get("other_attributes")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            problems.add("malformed row", str(row.get("id")), f"other_attributes is not JSON, {error}: ignored", error)
    return dict(value) if isinstance(value, Mapping) else {}
