"""Results of an analysis, written batch by batch as they are found: nothing is lost when it is stopped.

Each batch is a result of its own, which is written whole or not at all. It says which run it is of: settings, network,
and what was asked. A run that is taken up reads the batches that are there and measures the others; several processes
share them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mechaudio.analyses.ahead import Ahead, Waiting
from mechaudio.analyses.streaming import Questions, in_batches, positions_that_fit, questions_in, required_questions
from mechaudio.arguments import shown
from mechaudio.data.clip_names import clip_keys
from mechaudio.data.question_digest import digest
from mechaudio.processes import Shared, Work, one_at_a_time
from mechaudio.question import only_questions
from mechaudio.results import JSON_NAME, Provenance, Result, finish_save
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.fingerprint import fingerprint
from mechaudio.writing import made_folder, write_once

PLAN = "plan.json"
Batch = TypeVar("Batch")
Measured = TypeVar("Measured", bound=Result)
_OTHERS = {
    "network": "the network, its weights or its settings, is another",
    "asked": "the questions, or what is heard, are others",
}


class KeptBatches:
    """The batches of one run, in their order; without a folder nothing is kept.

    Settings, network and questions have to be the same when the run is taken up.

    Attributes:
        most_positions: Positions that a batch may have where its size is not given: as many as fitted when the run was
            begun, so that it is cut into the same batches by all processes and whenever it is taken up; None where
            nothing is kept.

    Raises:
        ValueError: With a folder, forward hooks of others on the network.
        NotADirectoryError: There is something else in the folder's place.
    """

    def __init__(self, folder: str | os.PathLike | None, model: AudioLM, settings: Mapping[str, Any]):
        self.provenance = Provenance.collect(model, settings=settings)
        self._folder = None if folder is None else made_folder(folder, "a run")
        self._network = "" if folder is None else _digest(json.dumps(fingerprint(model), sort_keys=True))
        self.most_positions: int | None = None
        if self._folder is not None:
            plan = self._folder / PLAN
            write_once(plan, json.dumps({"most_positions": positions_that_fit(model)}).encode())
            self.most_positions = _read_plan(plan)

    def measured(
        self,
        batches: Iterable[Batch],
        measure: Callable[..., Measured],
        *,
        asked: Callable[[Batch], str],
        ahead: Ahead[tuple[int, Batch], Any] | None = None,
    ) -> list[Measured]:
        """Read the batches that are kept, and measure and keep the others.

        `asked` digests what a batch asks. `ahead` makes of a batch and its number, while those before it are measured,
        what `measure` is given beside it.

        Raises:
            ValueError: The folder holds a batch of another run, or a damaged one.
        """
        parts: dict[int, Measured] = {}

        def take_up(unit: tuple[int, Batch]) -> bool:
            number, batch = unit
            place = self._place(number)
            if place is not None and (place / JSON_NAME).exists():
                parts[number] = self._read(place, asked(batch))
            return number in parts

        def do(unit: tuple[int, Batch], *prepared: Any) -> None:
            number, batch = unit
            part, place = measure(batch, *prepared), self._place(number)
            if place is not None:
                settings = {**self.provenance.settings, "network": self._network, "asked": asked(batch)}
                part = replace(part, provenance=replace(self.provenance, settings=settings))
                part.save(place)
            parts[number] = part

        with Shared(self._folder) as shared:
            work: Work[tuple[int, Batch]] = Work(
                shared, number=lambda unit: unit[0], is_done=take_up, do=do, ahead=ahead or zip
            )
            waiting = Waiting("") if ahead is None else ahead.waiting
            with waiting.kept(self._folder):
                work.do_all(enumerate(batches))
        return [parts[number] for number in sorted(parts)]

    def _place(self, number: int) -> Path | None:
        return None if self._folder is None else self._folder / f"{number:06d}"

    def _read(self, place: Path, asked: str) -> Any:
        """A batch that is kept; settings are the same, so that the same function measured it.

        Raises:
            ValueError: It is of another run, or damaged.
        """
        with one_at_a_time(place):
            kept = Result.load(place)
            finish_save(place)
        there, here = kept.provenance, self.provenance
        before = dict(there.settings)
        beside = {name: before.pop(name, None) for name in _OTHERS}
        differing = [
            f"{name} was {shown(old.get(name))} and is {shown(new.get(name))}"
            for old, new in ((before, here.settings), (there.versions, here.versions))
            for name in {**old, **new}
            if old.get(name) != new.get(name)
        ]
        now = {"network": self._network, "asked": asked}
        differing += [told for name, told in _OTHERS.items() if beside[name] != now[name]]
        if differing:
            raise ValueError(
                f"{os.fspath(place)!r} is of another run: {'; '.join(differing)}. Take it up as it was, or give "
                "another out="
            )
        return kept


def measured_questions(
    model: AudioLM,
    questions: Questions,
    kept: KeptBatches,
    measure: Callable[..., Measured],
    prepare: Callable[[Any], Any],
    *,
    batch_size: int | None,
    workers: int,
    what: str,
    progress: bool | None,
) -> tuple[list[Measured], list[tuple[str, ...]]]:
    """Measure questions batch by batch, but for the batches that are kept.

    `prepare` makes the prompts of a batch, ahead of the model unless that runs the network; `measure` is given its
    questions and these.

    Returns:
        The results of the batches in order, and the clips of every question.
    """
    keys: list[tuple[str, ...]] = []

    def drawn() -> Iterator[Any]:
        for together in in_batches(
            model, questions, batch_size=batch_size, batch_positions=kept.most_positions, what=what, progress=progress
        ):
            keys.extend(map(clip_keys, only_questions(required_questions(together))))
            yield together

    parts = kept.measured(
        drawn(),
        measure,
        asked=lambda together: _digest(" ".join(map(digest, required_questions(together)))),
        ahead=Ahead(
            model,
            lambda unit: prepare(unit[1]),
            workers,
            threaded=True,
            refers_to=lambda unit: questions_in(unit[1]),
            waiting=Waiting(what),
        ),
    )
    return parts, keys


def _read_plan(place: Path) -> int:
    try:
        most = json.loads(place.read_bytes())["most_positions"]
    except (ValueError, KeyError, TypeError):
        most = None
    if type(most) is not int or most < 1:
        raise ValueError(f"{os.fspath(place)!r} is damaged: put it back as it was, or give another out=")
    return most


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
