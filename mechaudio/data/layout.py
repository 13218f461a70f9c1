"""How the rows of a benchmark are laid out, and the one loop that makes questions of them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechaudio.arguments import checks_arguments
from mechaudio.data.asked import asked, check_first_index, id_of
from mechaudio.data.corpus import Corpus, Problems
from mechaudio.data.recordings import Recordings, with_recordings
from mechaudio.data.tables import Table, read_table
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from datasets import Dataset

#: A column; several ones that releases and mirrors call the same thing; or, in a list, the columns of a choice each.
Column = str | tuple[str, ...] | list[str]


@dataclass(frozen=True)
class Layout:
    """Names of the columns of a multiple-choice benchmark, and what is kept of its rows.

    Attributes:
        name: Name of the corpus.
        license: License of its annotations.
        hub: Its id on the hub.
        audio: The recording's column.
        question: The question's.
        choices: That of the choices.
        answer: That of the right choice.
        id: That of the question's id.
        caption: That of the recording in words.
        needed: Columns that have to be there, beside those of which there are several names or one per choice.
        advice: What a missing column may come of.
        ids: What the ids of rows without one begin with; None for the name of the table.
        unfolded: A row with what one of its columns holds of others; from there the id and `meta` are taken.
        meta: What is kept with a question, of its row and the release.
    """

    name: str
    license: str
    hub: str
    audio: Column = "audio_path"
    question: Column = "question"
    choices: Column = "choices"
    answer: str = "answer"
    id: str = "id"
    caption: str = "caption"
    needed: tuple[str, ...] = ()
    advice: str = ""
    ids: str | None = None
    unfolded: Callable[[Mapping[str, Any], Problems], Mapping[str, Any]] = lambda row, _: row
    meta: Callable[[Mapping[str, Any], str], Mapping[str, Any]] = lambda _, __: {}

    @checks_arguments
    def load(
        self,
        source: "str | os.PathLike | Dataset | None" = None,
        *,
        audio: str | os.PathLike | None = None,
        split: str | None = None,
        version: str | None = None,
        revision: str | None = None,
        first_index: int | None = None,
        check: str = "header",
        strict: bool = False,
    ) -> Corpus[AudioQuestion]:
        """Load the questions of the corpus; what cannot be asked is left out and listed in its `problems`.

        Args:
            source: A hub id; a parquet, CSV, JSON or JSON lines file, or a folder of parquet files; or a
                `datasets.Dataset`. By default the corpus's own hub id.
            audio: The folder of the recordings, by default that of the file.
            split: Which one of the hub's splits, needed where there are several.
            version: The release, kept as the corpus's `version`; by default `revision`, or a digest of what was read,
                which tells releases apart as well.
            revision: A commit, tag or branch of the hub.
            first_index: Where answers are the places of choices, the number of the first one, 0 or 1.
            check: `header`, `whole` or `none`: see `mechaudio.data.recordings.Recordings`.
            strict: Raise at the first problem instead of listing it.

        Raises:
            FileNotFoundError: There is no such file, or `audio` is given and none of the recordings is there.
            ValueError: Columns are not there, and it says which are; or, if `strict`, the first problem.
        """
        problems = Problems(strict)
        check_first_index(first_index)
        table = read_table(self.hub if source is None else source, problems, split=split, revision=revision)
        table.need([*self.needed, *(self.choices if isinstance(self.choices, list) else ())], self.advice)
        recording, text, choices = (
            self._there(table, what, column)
            for what, column in (("recording", self.audio), ("question", self.question), ("choices", self.choices))
        )
        release, ids = version or table.version, self.ids or table.name

        def read(recordings: Recordings) -> list[AudioQuestion]:
            questions = []
            for number, row in enumerate(table.rows):
                known = self.unfolded(row, problems)
                question = asked(
                    id_of(known.get(self.id), f"{ids}-{number}"),
                    audio=row.get(recording),
                    text=row.get(text),
                    choices=[row.get(each) for each in choices] if isinstance(choices, list) else row.get(choices),
                    answer=row.get(self.answer),
                    caption=row.get(self.caption),
                    meta=self.meta(known, release),
                    recordings=recordings,
                    problems=problems,
                    first_index=first_index,
                )
                if question is not None:
                    questions.append(question)
            return questions

        questions = with_recordings(audio, table.folder, check, problems, read)
        return Corpus(self.name, questions, tuple(problems.found), release, self.license)

    def _there(self, table: Table, what: str, column: Column) -> Any:
        """The column, of several names the first that the table has."""
        if not isinstance(column, tuple):
            return column
        for name in column:
            if name in table.columns:
                return name
        raise ValueError(
            f"{table.name} has no column for the {what} ({' or '.join(map(repr, column))}); its columns are "
            f"{', '.join(map(repr, table.columns))}. {self.advice}"
        )
