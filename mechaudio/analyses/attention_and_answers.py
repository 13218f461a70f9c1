"""How much every head attends to the audio while the model answers, and whether the answer is right.

One forward pass per question gives both: the attention row of the last prompt position, or the mean over other rows,
and the logits at the last position. No score
matrix is made.

Conventions: audio attention is a share from 0 to 1; layers and heads count from 0; a layer without attention is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float

from mechaudio.analyses.halves import in_calibration
from mechaudio.analyses.query_rows import query_rows
from mechaudio.analyses.streaming import Questions, batches_of, required_questions, sequence_of
from mechaudio.arguments import checks_arguments
from mechaudio.data.clip_names import clip_keys, clip_names
from mechaudio.metrics import checked
from mechaudio.metrics.choices import right_choices
from mechaudio.models.batch import PromptBatch
from mechaudio.models.prompt import condition_of
from mechaudio.models.targets import Targets, Words
from mechaudio.question import NO_TRANSCRIPT, Answer, AudioQuestion, Condition, refuse_open
from mechaudio.results import Provenance, Result
from mechaudio.tracing.answers import answers_of
from mechaudio.tracing.audio_lm import AudioLM
from mechaudio.tracing.cache import Cache
from mechaudio.tracing.choice_logits import choice_logits
from mechaudio.tracing.hook_points import HookPoint
from mechaudio.tracing.run import measured_logits, run
from mechaudio.tracing.teacher_forced import is_whole

LISTENING = "listening"
"""In the place of query rows: those that listen."""
MOST = 48
"""Questions that are asked for that."""
_HEARD = ("audio", "audio+caption", "silence", NO_TRANSCRIPT)


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionAndAnswers(Result):
    """Audio attention at the last prompt position or other rows, and the answers, question by question.

    Attributes:
        audio_attention: Share of the rows' attention on audio tokens, in the mean over these rows, in float32
            ("Audio-specialist heads", arXiv 2603.06854, eq. 1); NaN in layers without attention.
        correct: Whether the answer is right.
        choices: Text of the choice that each question was answered with.
        ids: Ids of the questions.
        condition: What the model was given.
        clips: Name of the clip of each question (`clips_of`); without them, each is about a clip of its own.
        queries: The rows that attend; `last` is the paper's.
        precision: Relative spacing of the numbers that attention was computed in, such as 2^-7 for bfloat16.
    """

    audio_attention: Float[np.ndarray, "question layer head"]
    correct: Bool[np.ndarray, " question"]
    choices: tuple[str, ...]
    ids: tuple[str, ...]
    condition: Condition
    precision: float = float(np.finfo(np.float32).eps)
    clips: tuple[str, ...] = ()
    queries: str = "last"

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
        """Put several groups of questions behind one another.

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
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    condition: str = "audio",
    queries: str = "last",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> AttentionAndAnswers:
    """Ask every question once, and keep how much each head attended to the audio.

    Open questions are asked with `target=` or `foil=`: an answer is right where the target is likelier than the foil,
    or than all else together.

    Args:
        model: The opened model.
        questions: Any number of them, each with its right answer; an iterator is read as it is needed. Clips are read
            ahead of the model.
        target: Words that count as the right answer in the place of letters, for all questions or one text per question
            (`PromptBatch.aimed`); with a foil alone, the answer of an open question.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced.
        condition: `audio`, `audio+caption` or `silence`, which gives as many audio tokens as the clip.
        queries: The rows whose attention is kept, spans that `+` joins; by default the last one, as published.
            `listening` are those that `where_it_listens` finds on the first of the questions; to report on others than
            chose the rows, find them yourself and give their names.
        batch_size: Questions per forward pass.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Without questions, for a question without an answer, a condition without audio, a batch size below
            one, or words that begin with the same token.
    """
    condition = condition_of(questions, condition)
    if condition not in _HEARD:
        raise ValueError(
            f"condition is one of {_HEARD}, in which there are audio tokens to attend to; got {condition!r}"
        )
    questions, queries = rows_of(model, questions, queries, target=target, foil=foil, whole=whole, progress=progress)
    parts, keys = [], []
    targets = None if target is foil is whole is None else Targets(target, foil, whole=whole)
    for prompts in batches_of(model, questions, condition, batch_size=batch_size, what=condition, progress=progress):
        batch = prompts if targets is None else targets.of(prompts)
        refuse_unknown(required_questions(batch, condition))
        out = run(model, batch, record=[attending(batch, queries)], logits="last")
        logits = measured_logits(model, batch) if is_whole(batch) else choice_logits(batch, out.logits[:, -1])
        parts.append(measured(model, batch, condition, queries, out.cache, answers_of(batch, logits, required=True)))
        keys += [clip_keys(question) for question in batch.questions]
    every = AttentionAndAnswers.concatenated(parts)
    settings = dict(every.provenance.settings) | ({} if targets is None else targets.settings())
    return replace(every, clips=clip_names(keys), provenance=Provenance.collect(model, settings=settings))


def rows_of(
    model: AudioLM,
    questions: Questions,
    queries: str,
    *,
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    progress: bool | None,
) -> tuple[Questions, str]:
    """The questions, and the query rows that are meant: `listening` are found on the first of the questions.

    Words, for all questions or one text per question, are those that the rows are found on, as in `where_it_listens`.

    Raises:
        ValueError: No row is known to listen.
    """
    if queries != LISTENING:
        return questions, queries
    from mechaudio.analyses.where_it_listens import where_it_listens  # which asks for answers, too

    if isinstance(questions, PromptBatch):  # as they are, with the words that they are measured on
        every, some = questions, questions[list(range(min(MOST, len(questions))))]
    else:
        every = sequence_of(questions)
        some = [every[place] for place in range(min(MOST, len(every)))]

    def of_some(words: str | Sequence[str | None] | None) -> str | Sequence[str | None] | None:
        return words if words is None or isinstance(words, str) or len(words) != len(every) else words[: len(some)]

    words: dict[str, Any] = {"target": of_some(target), "foil": of_some(foil), "whole": whole}
    return every, where_it_listens(model, some, window="all", each_layer=False, progress=progress, **words).queries


def refuse_unknown(questions: Iterable[AudioQuestion]) -> None:
    """Refuse questions of which it is not known what is right, open ones among them.

    Raises:
        ValueError: For the first of them.
    """
    questions = tuple(questions)
    refuse_open(
        questions,
        "being right or wrong",
        'give target= or foil= where they are taken; ma.evaluate(..., scoring="generate") scores what the model writes',
    )
    unknown = next((question for question in questions if question.answer is None), None)
    if unknown is not None:
        raise ValueError(
            f"question {unknown.id!r} has no known answer, so its answer cannot be right or wrong: give answer="
        )


def attending(batch: PromptBatch, queries: str) -> HookPoint:
    """The attention of the query rows in some prompts."""
    return HookPoint("pattern", queries=query_rows(batch, queries)[0])


def measured(
    model: AudioLM, batch: PromptBatch, condition: str, queries: str, cache: Cache, answers: Sequence[Answer]
) -> AttentionAndAnswers:
    """Audio attention and answers of a run of some prompts: what it recorded at `attending`, and its answers.

    Clips have no names yet: those of all batches are named together.
    """
    rows = rearrange(
        cache.stack("pattern", missing=math.nan), "layer question head row key -> question layer head row key"
    )
    audio = rearrange(batch.span_mask("audio"), "question key -> question 1 1 1 key").to(rows.device)
    rows = rows.float()  # of rounded weights, whose sum is 1 only up to their rounding
    shares = ((rows * audio).sum(-1) / rows.sum(-1)).cpu().numpy()
    weights = query_rows(batch, queries)[1].astype(np.float32)
    settings = {"condition": condition, "queries": queries, "n": len(answers)}
    return AttentionAndAnswers(
        audio_attention=(shares * weights[:, None, None]).sum(-1),
        correct=np.array([bool(answer.correct) for answer in answers]),
        choices=tuple(answer.choice for answer in answers),
        ids=tuple(answer.question_id for answer in answers),
        condition=cast("Condition", condition),
        queries=queries,
        precision=torch.finfo(model.network.dtype).eps,
        provenance=Provenance.collect(model, settings=settings),
    )


def refuse_all_right(questions: Sequence[AudioQuestion]) -> None:
    """Refuse questions whose choices are all right, as no choice is left to hold the right one against.

    Raises:
        ValueError: For the first of them.
    """
    choices = [question.choices for question in questions]
    right = right_choices(choices, [question.answer for question in questions])
    checked.some_wrong([question.id for question in questions], list(map(len, choices)), right)
