"""The published temporal benchmark: 1,657 questions on earliest onset, latest offset and longest duration.

"A Closer Look at Failure Modes in Temporal Understanding of Large Audio-Language Models", Interspeech 2026;
`gamma-lab-umd/temporal-lalm` on the hub. What its columns are called is said in no paper, so `columns` says it: a
column that is not there ends in an error that lists those that are.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import checks_arguments
from mechaudio.data.corpus import Corpus
from mechaudio.data.layout import Layout
from mechaudio.data.temporal_phrases import KEYWORDS, TASKS
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "gamma-lab-umd/temporal-lalm"
REQUIRED = ("audio", "question", "choices", "answer")
OPTIONAL = ("id", "task", "caption")
SHORT = {"eo": "earliest_onset", "lo": "latest_offset", "ld": "longest_duration"}


@checks_arguments
def load(
    source: "str | os.PathLike | Dataset" = HUB,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    first_index: int | None = None,
    audio: str | os.PathLike | None = None,
    split: str | None = None,
    revision: str | None = None,
    check: str = "header",
    strict: bool = False,
) -> Corpus[AudioQuestion]:
    """The questions of the published temporal benchmark.

    ```python
    ma.data.temporal_lalm.load(columns={"question": "instruction", "choices": ["a", "b", "c", "d"]})
    ```

    Args:
        source: A hub id; a parquet, CSV, JSON or JSON lines file, or a folder of parquet files; or a
            `datasets.Dataset`.
        columns: What `audio`, `question`, `choices`, `answer`, and, if they are there, `id`, `task` and `caption` are
            called; those that are not named are called so. `choices` may name several columns, one per choice.
        first_index: Where answers are numbers, the number of the first choice, 0 or 1.
        audio: The folder of the recordings where they are not inside, by default that of the file.
        split: Which one of the hub's splits, needed where there are several.
        revision: A commit, tag or branch of the hub.
        check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
        strict: Raise at the first problem instead of listing it.

    Returns:
        Questions with `meta["task"]` (`earliest_onset`, `latest_offset` or `longest_duration`, from its column, or from
        the keyword in the question where there is no such column) and `meta["keyword"]`; other columns are in `meta`.

    Raises:
        FileNotFoundError: If there is no such file, or `audio` is given and none of the recordings is there.
        ValueError: For columns that are not there, which says those that are, or, if `strict`, at the first problem.
    """
    fields = (*REQUIRED, *OPTIONAL)
    named: dict[str, Any] = {field: field for field in fields} | dict(columns or {})
    strange = [field for field in named if field not in fields]
    if strange:
        may = ", ".join((*REQUIRED, *OPTIONAL))
        raise ValueError(f"columns names {', '.join(map(repr, strange))}; it may name {may}")
    named["choices"] = named["choices"] if isinstance(named["choices"], str) else list(named["choices"])
    named_by_caller = [field for field in OPTIONAL if field in (columns or {})]
    used = {name for field in fields for name in ([named[field]] if isinstance(named[field], str) else named[field])}
    layout = Layout(
        "temporal-lalm",
        "CC-BY-4.0",
        HUB,
        **{field: named[field] for field in fields if field != "task"},
        needed=tuple(named[field] for field in (*REQUIRED, *named_by_caller) if isinstance(named[field], str)),
        advice="say what they are called, columns={'audio': ..., 'question': ..., 'choices': ..., 'answer': ...}",
        ids="temporal-lalm",
        meta=lambda row, _: _meta(row, named, used),
    )
    return layout.load(
        source, audio=audio, split=split, revision=revision, first_index=first_index, check=check, strict=strict
    )


def _meta(row: Mapping[str, Any], named: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    meta = {column: value for column, value in row.items() if column not in used}
    task, words = row.get(named["task"]), re.findall(r"\w+", str(row.get(named["question"])).casefold())
    if isinstance(task, str):
        word = "_".join(task.casefold().replace("-", " ").replace("_", " ").split())
        meta["task"] = SHORT.get(word, word)
    else:
        named_tasks = [name for name in TASKS if KEYWORDS[name] in words]
        meta |= {"task": named_tasks[0]} if len(named_tasks) == 1 else {}
    keyword = KEYWORDS.get(meta.get("task", ""))
    return meta | ({"keyword": keyword} if keyword in words else {})
