"""Steps that every study shares: settings that can be run, rows that listen, halves that choose and report.

A study is a frozen value of settings, with the fields `share` and `seed` and, where it changes or reads rows of the
prompt, `queries`; a `Result` that keeps them, which rows listen (`listens`) and which questions choose (`chooses`); and
a function of an opened model and questions that begins with `begin`, and takes its halves from `split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool

from mechaudio.analyses.halves import in_calibration
from mechaudio.analyses.where_it_listens import WhereItListens
from mechaudio.arguments import check_fields, once_each
from mechaudio.experiments.evaluation import Evaluation
from mechaudio.experiments.listening_first import listen_first, listening_rows, warn_of_deaf
from mechaudio.question import AudioQuestion
from mechaudio.results import Result, folder_of_run
from mechaudio.tracing.audio_lm import AudioLM

SettingsT = TypeVar("SettingsT")
#: Settings that name rows of the prompt.
ROWS = ("queries", "targeted")


def check_settings(settings: Any, *, varied: Sequence[str]) -> None:
    """Refuse settings that cannot be run, what is compared (`varied`) among them; a `__post_init__` begins with it.

    Raises:
        TypeError: A field of another kind.
        ValueError: Nothing to compare, a value that comes twice, or a share that leaves a half without clips.
    """
    check_fields(settings)
    for name in varied:
        values = getattr(settings, name)
        if not values:
            raise ValueError(f"{name} is empty: give at least one")
        once_each(name, values)
    if not 0 < settings.share < 1:
        raise ValueError(
            f"share is the part of the questions that choose, by their clips, between 0 and 1, got {settings.share}"
        )


def begin(
    model: AudioLM,
    questions: Sequence[AudioQuestion],
    settings: SettingsT,
    *,
    study: type[Result],
    out: str | Path | None,
    **running: Any,
) -> tuple[SettingsT, WhereItListens | None]:
    """Find the rows that listen, and put them where the settings ask for them.

    Returns:
        The settings with the rows that listen in the place of `listening`; and which rows listen, on the half that
        chooses, None where no question of it could be asked.

    Raises:
        ValueError: The settings ask for rows that listen, and none is known to; or `out` holds something else.

    Warns:
        UserWarning: Rows that the study is about carry nothing of the sound to the answers, and others do.
    """
    known: Any = settings
    if out is not None:
        folder_of_run(out, f"a {study.__name__}", results=(study.__name__,), begins=True)
    listens = listen_first(model, questions, share=known.share, seed=known.seed, out=out, **running)

    def named(rows: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(rows, str):
            return listening_rows(listens, rows)
        return tuple(dict.fromkeys(listening_rows(listens, each) for each in rows))

    rows = {field.name: named(getattr(known, field.name)) for field in fields(known) if field.name in ROWS}
    warn_of_deaf(listens, [each if isinstance(each, str) else "+".join(each) for each in rows.values()])
    return replace(known, **rows), listens


def split(clean: Evaluation, settings: Any) -> Bool[np.ndarray, " question"]:
    """Draw the questions that choose, a `share` of the clips by the `seed` of the settings; the others report.

    Raises:
        ValueError: No question with a known answer chooses, or none reports.
    """
    chooses = in_calibration(clean.clips or clean.ids, settings.share, settings.seed)
    counts = [int((side & clean.scored).sum()) for side in (chooses, ~chooses)]
    if not all(counts):
        raise ValueError(
            "the study needs two questions with a known answer at least, one that chooses and one that reports: of "
            f"{sum(counts)} {counts[0]} choose and {counts[1]} report, as questions about one clip are on one side. "
            "Give questions about more clips, or another seed"
        )
    return chooses
