"""How much every head attends to the audio while the model answers, and whether the answer is right.

One forward pass per question gives both: the attention row of the last prompt position, and the logits there. No score
matrix is made.

Conventions: audio attention is a share from 0 to 1; layers and heads count from 0; a layer without attention is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mechaudio.analyses.halves import in_calibration
from mechaudio.analyses.streaming import Questions, batches_of, required_questions
from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.metrics import checked
from mechaudio.metrics.choices import right_choices
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import condition_of
from mechaudio.question import NO_TRANSCRIPT, Answer, AudioQuestion, refuse_open
from mechaudio.results import Provenance, Result
from mechaudio.tracing.answers import answers_in
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import run

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

#: The attention row of the last prompt position.
ATTENTION = HookPoint("pattern", queries="last")
_HEARD = ("audio", "audio+caption", "silence", NO_TRANSCRIPT)


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionAndAnswers(Result):
    """Audio attention at the last prompt position, and the answers, question by question.

    Attributes:
        audio_attention: Share of the last position's attention on audio tokens, in float32 ("Audio-specialist heads",
            arXiv 2603.06854, eq. 1); NaN in layers without attention.
        correct: Whether the answer is right.
        choices: Text of the choice that each question was answered with.
        ids: Ids of the questions.
        condition: What the model was given.
        clips: Name of the clip of each question (`clips_of`); without them, each is about a clip of its own.
        precision: Relative spacing of the numbers that attention was computed in, such as 2^-7 for bfloat16.
    """

    audio_attention: Float[np.ndarray, "question layer head"]
    correct: Bool[np.ndarray, " question"]
    choices: tuple[str, ...]
    ids: tuple[str, ...]
    condition: str
    precision: float = float(np.finfo(np.float32).eps)
    clips: tuple[str, ...] = ()

    _table_axes = ("question", "layer", "head")

    @property
    def _summary(self) -> str:
        return f"{self.accuracy:.1%} right, condition {self.condition!r}"

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.correct.mean())

    @staticmethod
    def concatenated(parts: Sequence[AttentionAndAnswers]) -> AttentionAndAnswers:
        """Those of several groups of questions, one behind another.

        Raises:
            ValueError: Nothing, or parts of different conditions.
        """
        conditions = {part.condition for part in parts}
        if len(conditions) != 1:
            raise ValueError(f"parts of one condition can be put together, got {sorted(conditions)}")
        first, n = parts[0], sum(len(part.ids) for part in parts)
        return replace(
            first,
            audio_attention=np.concatenate([part.audio_attention for part in parts]),
            correct=np.concatenate([part.correct for part in parts]),
            choices=tuple(choice for part in parts for choice in part.choices),
            ids=tuple(name for part in parts for name in part.ids),
            clips=tuple(name for part in parts for name in part.clips) if all(part.clips for part in parts) else (),
            provenance=replace(first.provenance, settings=dict(first.provenance.settings) | {"n": n}),
        )

    def part(self, chosen: Sequence[int] | np.ndarray) -> AttentionAndAnswers:
        """Some of the questions: their places, or a mask over all of them."""
        wanted = np.asarray(chosen)
        places = np.arange(len(self.ids))[wanted if wanted.size else wanted.astype(np.int64)]
        return replace(
            self,
            audio_attention=self.audio_attention[places],
            correct=self.correct[places],
            choices=tuple(self.choices[place] for place in places),
            ids=tuple(self.ids[place] for place in places),
            clips=tuple(self.clips[place] for place in places) if self.clips else (),
        )

    def split(self, share: float = 0.5, seed: int = 0) -> tuple[AttentionAndAnswers, AttentionAndAnswers]:
        """The questions whose clips `in_calibration` draws, and the others; without clips, it draws their ids."""
        drawn = in_calibration(self.clips or self.ids, share, seed)
        return self.part(drawn), self.part(~drawn)


@checks_arguments
def attention_and_answers(
    model: AudioLM,
    questions: Questions,
    *,
    condition: str = "audio",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> AttentionAndAnswers:
    """Ask every question once, and keep how much each head attended to the audio.

    Args:
        model: The opened model.
        questions: Any number of them, each with its right answer; an iterator is read as it is needed. Clips are read
            by another thread, a batch ahead.
        condition: `audio`, `audio+caption` or `silence`, which gives as many audio tokens as the clip.
        batch_size: Questions per forward pass.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Without questions, for a question without an answer, a condition without audio or a batch size below
            one.
    """
    condition = condition_of(questions, condition)
    if condition not in _HEARD:
        raise ValueError(
            f"condition is one of {_HEARD}, in which there are audio tokens to attend to; got {condition!r}"
        )
    measured = Measured(condition)
    for batch in batches_of(model, questions, condition, batch_size=batch_size, what=condition, progress=progress):
        refuse_unknown(required_questions(batch, condition))
        out = run(model, batch, record=[ATTENTION], logits="last")
        measured.add(batch, out.cache, out.logits[:, -1])
    return measured.joined(model)


def refuse_unknown(questions: Iterable[AudioQuestion]) -> None:
    """Refuse questions of which it is not known what is right, open ones among them.

    Raises:
        ValueError: For the first of them.
    """
    questions = tuple(questions)
    refuse_open(questions, "being right or wrong", 'ma.evaluate(..., scoring="generate") scores what the model writes')
    unknown = next((question for question in questions if question.answer is None), None)
    if unknown is not None:
        raise ValueError(
            f"question {unknown.id!r} has no known answer, so its answer cannot be right or wrong: give answer="
        )


class Measured:
    """Audio attention and answers, batch by batch."""

    def __init__(self, condition: str):
        """Args: condition: what the model is given."""
        self.condition = condition
        self._attention: list[Float[np.ndarray, "question layer head"]] = []
        self._answers: list[Answer] = []
        self._clips: list[tuple[str, ...]] = []

    def add(self, batch: PromptBatch, cache: Cache, logits: Float[Tensor, "question vocab"]) -> None:
        """What a run of some questions recorded at `ATTENTION`, and its logits at the last position."""
        rows = rearrange(
            cache.stack("pattern", missing=math.nan), "layer question head 1 key -> question layer head key"
        )
        audio = rearrange(batch.span_mask("audio"), "question key -> question 1 1 key").to(rows.device)
        rows = rows.float()  # of rounded weights, whose sum is 1 only up to their rounding
        self._attention.append(((rows * audio).sum(-1) / rows.sum(-1)).cpu().numpy())
        self._answers += answers_in(batch, logits, required=True)
        self._clips += [clip_keys(question) for question in batch.questions]

    def joined(self, model: AudioLM) -> AttentionAndAnswers:
        """All of them."""
        return AttentionAndAnswers(
            audio_attention=np.concatenate(self._attention),
            correct=np.array([bool(answer.correct) for answer in self._answers]),
            choices=tuple(answer.choice for answer in self._answers),
            ids=tuple(answer.question_id for answer in self._answers),
            condition=self.condition,
            clips=clip_names(self._clips),
            precision=torch.finfo(model.network.dtype).eps,
            provenance=Provenance.collect(model, settings={"condition": self.condition, "n": len(self._answers)}),
        )


def refuse_all_right(questions: Sequence[AudioQuestion]) -> None:
    """Refuse questions whose choices are all right, as no choice is left to hold the right one against.

    Raises:
        ValueError: For the first of them.
    """
    choices = [question.choices for question in questions]
    right = right_choices(choices, [question.answer for question in questions])
    checked.some_wrong([question.id for question in questions], list(map(len, choices)), right)
