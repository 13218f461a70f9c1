"""The first step of every study: which rows of the prompt listen, found on questions of the half that chooses.

A study changes attention in some rows. If the sound gets to the answer over others, nothing comes of it, and nothing
follows: neither that the change is useless nor that the model does not listen.

Conventions: rows are named as interventions name them, spans that `+` joins; `listening` are those that are found here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import compress, islice
from pathlib import Path

from mechaudio.analyses.attention_and_answers import LISTENING, MOST
from mechaudio.analyses.halves import clips_of, in_calibration
from mechaudio.analyses.where_it_listens import WhereItListens, where_it_listens
from mechaudio.experiments.askable import Askable
from mechaudio.experiments.run_log import digest
from mechaudio.notices import warn
from mechaudio.processes import one_at_a_time
from mechaudio.question import AudioQuestion
from mechaudio.results import JSON_NAME, Provenance, finish_save
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.fingerprint import fingerprint
from mechaudio.writing import made_folder


def listen_first(
    model: AudioLM,
    questions: Sequence[AudioQuestion],
    *,
    share: float | None,
    seed: int,
    out: str | Path | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    progress: bool | None,
) -> WhereItListens | None:
    """Find the rows that listen, over all layers, on at most `MOST` questions of the half that chooses.

    Without a `share` nothing is chosen, and all questions may be asked. The folder of the study keeps what was found: a
    study that is taken up does not ask again. What another model, other questions or other versions gave is found anew.

    Returns:
        None where none of these questions can be asked and be right or wrong.
    """
    choosing: Iterable[AudioQuestion] = questions
    if share is not None:
        choosing = compress(questions, in_calibration(clips_of(questions), share, seed).tolist())
    askable = Askable(model, list(islice(filter(_may_be_wrong, choosing), MOST)), workers=workers, progress=False)
    if not len(askable):
        return None

    def find() -> WhereItListens:
        return where_it_listens(
            model, list(askable), window="all", each_layer=False, batch_size=batch_size, progress=progress
        )

    if out is None:
        return find()
    of = json.dumps([fingerprint(model), [digest(question) for question in askable]], sort_keys=True)
    found_for = hashlib.sha256(of.encode()).hexdigest()
    with one_at_a_time(made_folder(out, "a study")):  # of several processes, the first finds it for all
        listens = _kept(Path(out) / "listens", found_for)
        if listens is None:
            listens = find()
            settings = dict(listens.provenance.settings) | {"found_for": found_for}
            listens = replace(listens, provenance=replace(listens.provenance, settings=settings))
            listens.save(Path(out) / "listens")
        return listens


def _kept(folder: Path, found_for: str) -> WhereItListens | None:
    """The rows that listen, out of the folder of a study; None where there are none, or those of something else."""
    if not (folder / JSON_NAME).exists():
        return None
    listens = WhereItListens.load(folder)
    finish_save(folder)
    known = listens.provenance.settings.get("found_for"), listens.provenance.versions
    return listens if known == (found_for, Provenance.collect().versions) else None


def _may_be_wrong(question: AudioQuestion) -> bool:
    """Return whether a question has a known answer and a choice that is another."""
    return question.answer is not None and len({*question.choices}) > 1


def listening_rows(listens: WhereItListens | None, queries: str) -> str:
    """The query rows that are meant: those that listen, where that is what is written.

    Raises:
        ValueError: No row is known to listen.
    """
    if queries != LISTENING:
        return queries
    if listens is None or not listens.rows:
        why = "no question of the half that chooses can be asked" if listens is None else listens.sentence
        raise ValueError(f"queries={LISTENING!r} takes the rows that listen, and none is known to. {why} Name the rows")
    return listens.queries


def warn_of_deaf(listens: WhereItListens | None, queries: Iterable[str]) -> None:
    """Warn of rows that a study changes or reads although what they hear carries nothing.

    Warns:
        UserWarning: For each of them.
    """
    for rows in dict.fromkeys(queries):
        if listens is not None and listens.deaf(rows):
            warn(
                f"queries={rows!r}: what these rows hear carries nothing to the answers, so that a change of their "
                f"attention says nothing about listening. {listens.sentence} queries={LISTENING!r} takes the rows that "
                "listen"
            )
