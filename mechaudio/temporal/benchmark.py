"""A built benchmark: its questions, what gave none and why, and how it is kept.

Conventions: a folder holds `questions.parquet`, one row per question with the bytes of its recording or its path;
`manifest.json`, how it was built; and `README.md`, the card. The same clips, seed and settings give the same bytes.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from mechaudio.arguments import checks_arguments, n_of, shown
from mechaudio.data.corpus import Problems
from mechaudio.data.tables import read_json, read_table
from mechaudio.data.temporal_phrases import TASKS
from mechaudio.kinds import fits
from mechaudio.question import AudioQuestion
from mechaudio.results import DRAFTS, digest_of_file, refuse_kept, remove_drafts
from mechaudio.showing import Shown
from mechaudio.temporal.card import REASONS, card
from mechaudio.temporal.rows import arrow_table, features, questions_of
from mechaudio.temporal.settings import Settings
from mechaudio.writing import made_folder, refuse_others

if TYPE_CHECKING:
    from datasets import Dataset

SCHEMA = 1
QUESTIONS, MANIFEST, CARD = "questions.parquet", "manifest.json", "README.md"
SPLIT = "test"
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Dropped(Shown):
    """A clip that gives no question of a task.

    Attributes:
        clip: Its id.
        task: The task.
        reason: `no events`, `too few sounds`, `no clear answer`, `possible paraphrase` or `too few distractors`.
    """

    clip: str
    task: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class Benchmark(Shown, Sequence[AudioQuestion]):
    """Temporal questions, as a sequence, and how they were built.

    Attributes:
        questions: In the order of the clips, and of `tasks` within a clip.
        dropped: Every pair of clip and task without a question.
        corpus: What the clips are from, where that is known.
        n_clips: How many clips there were.
        tasks: The tasks asked for.
        seed: Seed of the draws.
        settings: Settings of the construction.
        similarity: The function that compared texts, blank where none was.
        source: The folder that it was loaded from, None if it was built here. Recordings elsewhere, which somebody else
            may have named, are asked about, and never put into a file or uploaded.
    """

    questions: tuple[AudioQuestion, ...]
    dropped: tuple[Dropped, ...]
    corpus: str
    n_clips: int
    tasks: tuple[str, ...]
    seed: int
    settings: Settings
    similarity: str = ""
    source: Path | None = None

    @overload
    def __getitem__(self, index: int) -> AudioQuestion: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[AudioQuestion, ...]: ...

    def __getitem__(self, index: Any) -> Any:
        return self.questions[index]

    def __len__(self) -> int:
        return len(self.questions)

    def __iter__(self) -> Iterator[AudioQuestion]:
        return iter(self.questions)

    def __repr__(self) -> str:
        per_task = Counter(question.meta["task"] for question in self)
        counts = ", ".join(f"{per_task[task]} {task}" for task in self.tasks)
        return f"Benchmark({n_of(len(self), 'question')} of {n_of(self.n_clips, 'clip')}: {counts}; seed {self.seed})"

    def dropped_counts(self) -> dict[str, dict[str, int]]:
        """Task -> reason -> how many clips gave no question."""
        counts: dict[str, Counter[str]] = {task: Counter() for task in self.tasks}
        for one in self.dropped:
            counts[one.task][one.reason] += 1
        return {task: dict(sorted(reasons.items())) for task, reasons in counts.items()}

    def card(self) -> str:
        """Describe the benchmark: what it holds, how it was built, what was dropped and why, as markdown."""
        return card(self)

    def manifest(self) -> dict[str, Any]:
        """Describe how it was built, as JSON."""
        return {
            "schema": SCHEMA,
            "corpus": self.corpus,
            "n_clips": self.n_clips,
            "n_questions": len(self),
            "tasks": list(self.tasks),
            "seed": self.seed,
            "settings": asdict(self.settings),
            "similarity": self.similarity,
            "dropped_counts": self.dropped_counts(),
            "dropped": [[one.clip, one.task, one.reason] for one in self.dropped],
        }

    @checks_arguments
    def save(self, folder: str | os.PathLike, *, embed: bool = True) -> Path:
        """Write the benchmark into a folder, in place of an earlier one there.

        Args:
            folder: Made if it is not there.
            embed: Put the recordings into the file, as they are (a clip that was made in memory as a wav file of
                32-bit floats), so that the folder is complete; else only their paths, which then have to lead
                somewhere when a question is asked.

        Returns:
            The folder.

        Raises:
            FileNotFoundError: For a recording that is to be put in and is not there.
            ValueError: For a recording without a path where only paths are kept, or one to be put in that is no sound
                or, of a benchmark that was loaded, lies outside its folder; and for a folder in which a run or a result
                is kept, or a README.md of somebody else's.
        """
        import pyarrow.parquet as parquet

        folder = made_folder(folder, "a benchmark")
        refuse_kept(folder, "a benchmark")
        refuse_others(folder, (MANIFEST, QUESTIONS, CARD), "a benchmark", known_by=(MANIFEST, '"questions_sha256"'))
        schema = features().arrow_schema
        with tempfile.TemporaryDirectory(dir=folder, prefix=DRAFTS) as drafts:
            draft = Path(drafts, QUESTIONS)
            with parquet.ParquetWriter(draft, schema) as writer:
                for start in range(0, len(self), _ROWS_AT_ONCE):
                    rows = self[start : start + _ROWS_AT_ONCE]
                    writer.write_table(arrow_table(rows, embed=embed, within=self.source))
            manifest = self.manifest() | {"questions_sha256": digest_of_file(draft)}
            Path(drafts, MANIFEST).write_text(_json(manifest), encoding="utf-8")
            Path(drafts, CARD).write_text(self.card(), encoding="utf-8", errors="backslashreplace")
            for name in (QUESTIONS, MANIFEST, CARD):
                os.replace(Path(drafts, name), folder / name)
        remove_drafts(folder)
        return folder

    def dataset(self, *, embed: bool = True) -> "Dataset":
        """The questions as a `datasets.Dataset`, with an `audio` column that is not decoded.

        Args:
            embed: As for `save`.

        Raises:
            FileNotFoundError: As `save` does.
            ValueError: As `save` does.
        """
        from datasets import Dataset, concatenate_datasets

        starts = range(0, max(len(self), 1), _ROWS_AT_ONCE)
        return concatenate_datasets(
            [
                Dataset(arrow_table(self[start : start + _ROWS_AT_ONCE], embed=embed, within=self.source))
                for start in starts
            ]
        )

    def push(self, repo_id: str, *, private: bool = True) -> str:
        """Upload the benchmark to the hub, with its manifest and its card. Mind the recordings' licenses.

        Args:
            repo_id: `owner/name`.
            private: Whether only its owner sees it.

        Returns:
            `repo_id`, for `load`.
        """
        from huggingface_hub import DatasetCard, HfApi

        self.dataset().push_to_hub(repo_id, split=SPLIT, private=private)
        HfApi().upload_file(
            path_or_fileobj=_json(self.manifest()).encode(), path_in_repo=MANIFEST, repo_id=repo_id, repo_type="dataset"
        )
        page = DatasetCard.load(repo_id)  # made by the upload: its head says where the data are
        page.text = self.card()
        page.push_to_hub(repo_id)
        return repo_id


@checks_arguments
def load(source: str | os.PathLike, *, revision: str | None = None) -> Benchmark:
    """A benchmark that was saved or pushed.

    Args:
        source: Its folder, or its hub id.
        revision: A commit, tag or branch of the hub.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If its files do not belong together, or were written by a newer version.
    """
    folder, problems = Path(source), Problems(strict=True)
    if (folder / MANIFEST).is_file():
        manifest, listing = read_json(folder / MANIFEST), folder / MANIFEST
        _check(manifest, listing)
        kept = folder / QUESTIONS  # a pipe would be waited on for ever
        if not kept.is_file() or digest_of_file(kept) != manifest.get("questions_sha256"):
            raise ValueError(f"{QUESTIONS} in {os.fspath(source)!r} is damaged, or of another build than {MANIFEST}")
        table = read_table(kept, problems)
    elif folder.exists():
        raise FileNotFoundError(f"there is no benchmark in {os.fspath(source)!r}: it has no {MANIFEST}")
    else:
        table = read_table(source, problems, split=SPLIT, revision=revision)
        from huggingface_hub import hf_hub_download

        listing = Path(hf_hub_download(str(source), MANIFEST, repo_type="dataset", revision=revision))
        manifest = read_json(listing)
        _check(manifest, listing)
    questions = questions_of(table)
    if len(questions) != manifest["n_questions"]:
        raise ValueError(
            f"{os.fspath(source)!r} has {n_of(len(questions), 'question')}, and its {MANIFEST} says "
            f"{manifest['n_questions']}: they are not of one build"
        )
    return Benchmark(
        questions=questions,
        dropped=tuple(Dropped(*one) for one in manifest["dropped"]),
        corpus=manifest["corpus"],
        n_clips=manifest["n_clips"],
        tasks=tuple(manifest["tasks"]),
        seed=manifest["seed"],
        settings=Settings(**manifest["settings"]),
        similarity=manifest["similarity"],
        source=listing.parent,
    )


#: What a manifest holds.
_KINDS: Mapping[str, Any] = {
    "schema": int,
    "corpus": str,
    "n_clips": int,
    "n_questions": int,
    "tasks": list[str],
    "seed": int,
    "settings": dict[str, Any],
    "similarity": str,
    "dropped": list[list[str]],
}


def _check(manifest: Any, place: Path) -> None:
    """Refuse a manifest that `Benchmark.save` did not write.

    Raises:
        ValueError: It is damaged, or of a newer version.
    """
    if not isinstance(manifest, dict):
        raise ValueError(f"{os.fspath(place)!r} is damaged: a manifest is an object, and this is {shown(manifest)}")
    if fits(manifest.get("schema"), int) and manifest["schema"] > SCHEMA:
        raise ValueError(
            f"{os.fspath(place)!r} has format {manifest['schema']}, and {SCHEMA} is known: upgrade mechaudio"
        )
    if manifest.get("schema", 1) != SCHEMA:
        raise ValueError(f"{os.fspath(place)!r} is damaged: its format is {shown(manifest['schema'])}")
    for name, kind in _KINDS.items():
        if not fits(manifest.get(name), kind) or (name == "dropped" and any(len(one) != 3 for one in manifest[name])):
            raise ValueError(
                f"{os.fspath(place)!r} is damaged: its {name!r} is {shown(manifest.get(name))}, and should be of the "
                f"kind {getattr(kind, '__name__', kind)}: build the benchmark again"
            )
    if not set(manifest["tasks"]) <= set(TASKS):
        raise ValueError(
            f"{os.fspath(place)!r} names the tasks {shown(manifest['tasks'])}; there are {', '.join(TASKS)}"
        )
    strange = [one for one in manifest["dropped"] if one[1] not in manifest["tasks"] or one[2] not in REASONS]
    if strange:
        raise ValueError(
            f"{os.fspath(place)!r} is damaged: it says {shown(strange[0])} was dropped, and should say a clip, one of "
            f"its tasks and one of the reasons {', '.join(REASONS)}: build the benchmark again"
        )
    try:
        Settings(**manifest["settings"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(place)!r} holds settings of another version: {error}") from error


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
