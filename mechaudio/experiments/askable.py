"""Questions that a model can be asked, among many, and what keeps the others from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from mechaudio.analyses.ahead import Ahead
from mechaudio.audio.clip import AudioClip
from mechaudio.audio.stored import StoredClip
from mechaudio.data.clip_names import clip_keys
from mechaudio.experiments.evaluation import Failure
from mechaudio.metrics.choices import chance
from mechaudio.models.clips import longest_clip
from mechaudio.models.prompt import prompt
from mechaudio.notices import withheld
from mechaudio.progress import bar
from mechaudio.question import BY_WORDS, AudioQuestion, refuse_open
from mechaudio.tracing.audio_lm import AudioLM


class Askable(Sequence[AudioQuestion]):
    """Questions with known answers that can be written out for a model, each fetched when it is asked for.

    To begin with, the prompt of each is made once. A question whose answer is not known, whose recording is missing,
    damaged or too short, or that has more choices than the model has letters for, is left out and listed; of a
    recording that is longer than the model hears, the beginning is asked about.

    Attributes:
        failures: Those that were left out.
        metas: What is known beside, of each that was not left out.
        chance: For each of them, the share of its choices that are right.

    Raises:
        ValueError: An open question.
    """

    def __init__(
        self,
        model: AudioLM,
        questions: Sequence[AudioQuestion],
        *,
        workers: int = 0,
        progress: bool | None = None,
    ):
        self._rate, self._questions = model.adapter.sampling_rate, questions
        self._longest = None if model.processor is None else longest_clip(model.processor, model.adapter)
        self._places: list[int] = []
        self._too_long: set[int] = set()
        self.metas: list[dict[str, Any]] = []
        self.chance: list[float] = []
        failures = []
        ahead = Ahead(model, partial(_looked_at, model), workers, refers_to=lambda question: [question])
        with closing(ahead(questions)) as looked_at:
            shown = bar(looked_at, what="reading", unit="questions", total=len(questions), progress=progress)
            for place, (question, (cut, error)) in enumerate(shown):
                if error:
                    failures.append(Failure(place, question.id, error))
                    continue
                self._places.append(place)
                if cut:
                    self._too_long.add(place)
                self.metas.append(dict(question.meta))
                self.chance.append(float(chance([question.choices], [question.answer])[0]))
        self.failures = tuple(failures)

    @property
    def n_cut(self) -> int:
        """The number of recordings that are cut."""
        return len(self._too_long)

    def __len__(self) -> int:
        """Count the questions that can be asked."""
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        """One of them, or a list of some."""
        if isinstance(index, slice):
            return [self[own] for own in range(len(self))[index]]
        number = self._places[index]
        question = self._questions[number]
        if number not in self._too_long:
            return question
        meta = dict(question.meta) | {"clip": clip_keys(question)[0]}  # cut anew, it would be a clip of its own
        return replace(question, audio=self._beginning(question), meta=meta)

    def _beginning(self, question: AudioQuestion) -> StoredClip:
        """Cut a recording to what the model hears of it, when it is read."""

        def read() -> bytes:
            return AudioClip(question.clip().mono(self._rate)[: self._longest], self._rate).to_wav()

        return StoredClip(read, f"the beginning of the recording of question {question.id!r}")


def _looked_at(model: AudioLM, question: AudioQuestion) -> tuple[bool, str]:
    """Return whether a question's recording is cut, and what keeps it from being asked, blank if nothing does."""
    refuse_open(
        [question],
        "an accuracy of choices",
        f'ma.evaluate(..., scoring="generate") scores what a model writes; {BY_WORDS}',
    )
    try:
        if question.answer is None:
            raise ValueError("its answer is not known, so it cannot be right or wrong")
        with withheld():  # what there is to warn of is said when the question is asked
            return prompt(model, [question], allow_cut=True).cut[0] > 0, ""
    except (ValueError, OSError) as error:
        return False, f"{type(error).__name__}: {error}"
