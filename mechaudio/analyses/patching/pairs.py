"""Pairs of prompts that differ only in what is heard or told.

The clean prompt is one that the model should get right; the corrupted one has as many tokens in the same places, with
another sound or another caption behind them.

Conventions: logits are those of the choices' letters at the last position, or of a target and its foil, `nan` where a
question has fewer choices; the right choice is the clean question's answer, or the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.attention_and_answers import refuse_all_right
from mechaudio.analyses.patching.effect_map import Direction
from mechaudio.analyses.streaming import in_batches
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.data.clip_names import clip_keys
from mechaudio.metrics import checked
from mechaudio.metrics.choices import best_wrong, first_places, refuse_nan, right_choices
from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups, part_of, windows_of_rows
from mechaudio.models.prompt import prompt
from mechaudio.models.silence import silenced
from mechaudio.models.targets import Targets, Words, aimed_at
from mechaudio.question import AudioQuestion
from mechaudio.showing import Shown
from mechaudio.tracing.audio_lm import AudioLM

Side = TypeVar("Side")


@dataclass(frozen=True, eq=False)
class Contrast(Shown):
    """Prompts in pairs; `contrast` makes and checks them.

    Attributes:
        clean: The prompts whose answers are to be explained.
        corrupted: The same number of prompts, with the same roles at the same positions.
    """

    clean: PromptBatch
    corrupted: PromptBatch

    def sides(self, direction: Direction) -> tuple[PromptBatch, PromptBatch]:
        """The prompts that activations are taken from, and those that they are put into."""
        return turned(direction, self.clean, self.corrupted)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the clean questions."""
        return tuple(question.id for question in self.clean.questions)

    @property
    def clip_keys(self) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
        """By what each pair shares a clip with another: the keys of its clean and of its corrupted question."""
        sides = zip(self.clean.questions, self.corrupted.questions, strict=True)
        return tuple((clip_keys(one), () if other is one else clip_keys(other)) for one, other in sides)

    @property
    def right(self) -> Bool[np.ndarray, "pair choice"]:
        """The choices that are right for the clean prompt; two, where a question has the answer twice."""
        return _right(self.clean)

    @property
    def texts(self) -> Int[np.ndarray, "pair choice"]:
        """The place at which each choice's text first stands: a question may have one twice."""
        return first_places([question.choices for question in self.clean.questions])

    @property
    def first(self) -> Int[np.ndarray, " pair"]:
        """The first position whose residual stream can differ: the first audio token, or the first other token."""
        ids = [batch.inputs["input_ids"].cpu() for batch in (self.clean, self.corrupted)]
        audio = self.clean.span_mask("audio").cpu()
        return ((ids[0] != ids[1]) | audio).int().argmax(1).numpy()

    def wrong(
        self, clean: Float[np.ndarray, "pair choice"], corrupted: Float[np.ndarray, "pair choice"]
    ) -> Int[np.ndarray, " pair"]:
        """The one wrong choice that `logit_difference` is taken against, in every run of the pair.

        It is the corrupted question's answer where that is another than the clean one's, and otherwise the likeliest
        wrong choice of the corrupted run.

        Args:
            clean: Logits of the choices in the clean runs.
            corrupted: The same in the corrupted runs.

        Raises:
            ValueError: Some of them are NaN.
        """
        n_choices = [len(question.choices) for question in self.clean.questions]
        refuse_nan(self.ids, clean, n_choices, "the clean run")
        refuse_nan(self.ids, corrupted, n_choices, "the corrupted run")
        wrong = best_wrong(corrupted, self.right)
        theirs = _right(self.corrupted)
        other = theirs.any(-1) & ~(theirs & self.right).any(-1)
        return np.where(other, theirs.argmax(-1), wrong)


def turned(direction: Direction, clean: Side, corrupted: Side) -> tuple[Side, Side]:
    """Clean and corrupted as source and base; or, given source and base, as clean and corrupted."""
    return (clean, corrupted) if direction == "denoising" else (corrupted, clean)


@checks_arguments
def contrast(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    *,
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
) -> Contrast:
    """Pair clean prompts with corrupted ones, and refuse pairs whose positions do not mean the same.

    ```python
    pairs = ma.analyses.contrast(model, questions)                       # audio against silence of the same length
    pairs = ma.analyses.contrast(model, questions, corrupted=other_questions)  # another clip, events elsewhere in time
    ```

    Args:
        model: The opened model.
        clean: Questions with known answers, asked with their clips; or prompts made with `ma.prompt` in any condition.
        corrupted: The same for the other side, pair by pair; or `silence`, in place of the clean questions' clips.
        target: Words that are measured behind both prompts, in the place of the choices' letters, as in
            `PromptBatch.aimed`; of open questions, the clean one's answer by default.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced.

    Raises:
        ValueError: Another number of prompts, other choices, a clean question without a known answer or without a wrong
            choice, words that cannot be measured, prompts that differ in length or in what stands where (clips of
            unequal length make unequally many audio tokens), or no pair in which anything differs.
        TypeError: Plain inputs instead of questions.
    """
    targets = Targets(target, foil, whole=whole)
    pair = _contrast(model, clean, corrupted, targets)
    targets.settings()
    return pair


def _contrast(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    corrupted: PromptBatch | Iterable[AudioQuestion] | str,
    targets: Targets,
) -> Contrast:
    if isinstance(corrupted, str) and corrupted != "silence":
        raise ValueError(f"corrupted= is questions, prompts or 'silence', got {corrupted!r}")
    prepared = targets.of(_asked("clean", clean if isinstance(clean, PromptBatch) else prompt(model, clean)))
    if isinstance(corrupted, str):
        other = silenced(model, prepared)
    else:
        other = _asked("corrupted", corrupted if isinstance(corrupted, PromptBatch) else prompt(model, corrupted))
        if other.n_rows == prepared.n_rows:
            other = aimed_at(other, [aim and (aim.target, aim.foil, aim.whole) for aim in prepared.aims])
    _check_alike(model.adapter, prepared, other)
    return Contrast(prepared, other)


def _asked(name: str, side: PromptBatch) -> PromptBatch:
    if not side.questions:
        raise TypeError(f"{name}= is plain inputs, without choices to compare: make prompts from questions")
    return side


#: Pairs at once by default: each is patched at every place, and what was done is kept batch by batch.
MOST_PAIRS = 8


@checks_arguments
def contrasts(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    *,
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
    targets: Targets | None = None,
    batch_size: int | None = None,
    batch_positions: int | None = None,
    what: str = "pairs",
    progress: bool | None = None,
) -> Iterator[Contrast]:
    """Pairs a batch at a time, no two of them such that the padding of one would change the other.

    Args:
        model: The opened model.
        clean: As `contrast` takes them; prompts that are a batch already stay together as far as padding allows.
        corrupted: The same.
        targets: Words that are measured in the place of letters; by default those of open questions' answers.
        batch_size: How many pairs at a time.
        batch_positions: Positions that fit by default, as in `in_batches`.
        what: Stands before the progress bar.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: As `contrast`; no pair at all, a batch size below one, or unequally many on both sides.
    """
    targets = targets or Targets(None, None)
    options = {"batch_size": batch_size, "batch_positions": batch_positions, "what": what, "progress": progress}
    cut = partial(in_batches, model, most=MOST_PAIRS, **options)
    if isinstance(clean, PromptBatch) or isinstance(corrupted, PromptBatch):
        yield from _apart(model, _contrast(model, clean, corrupted, targets))
    elif isinstance(corrupted, str):
        for asked in cut(clean):
            yield from _apart(model, _contrast(model, asked, corrupted, targets))
    else:
        sides = list(clean), list(corrupted)
        checked.same_length(clean=sides[0], corrupted=sides[1])
        pairs = list(zip(*sides, strict=True))
        for some in cut(pairs):
            yield from _apart(model, _contrast(model, *zip(*some, strict=True), targets))


def _apart(model: AudioLM, pairs: Contrast) -> Iterator[Contrast]:
    groups = padding_groups(model.adapter, pairs.clean)
    if len(groups) == 1:
        yield pairs
        return
    for rows in groups:
        yield Contrast(*(part_of(model.adapter, side, rows) for side in (pairs.clean, pairs.corrupted)))


def _right(batch: PromptBatch) -> Bool[np.ndarray, "pair choice"]:
    return right_choices(
        [question.choices for question in batch.questions], [question.answer for question in batch.questions]
    )


def _check_alike(adapter: Adapter, clean: PromptBatch, corrupted: PromptBatch) -> None:
    if clean.n_rows != corrupted.n_rows:
        raise ValueError(f"got {n_of(clean.n_rows, 'clean prompt')} and {corrupted.n_rows} corrupted: give pairs")
    for pair, (one, other) in enumerate(zip(clean.questions, corrupted.questions, strict=True)):
        if one.answer is None:
            raise ValueError(
                f"the clean question {one.id!r} has no known answer, so there is no right choice to follow"
            )
        if one.choices != other.choices:
            raise ValueError(
                f"the choices of pair {pair} differ, {one.choices} and {other.choices}: a letter has to mean the same "
                "in both prompts"
            )
        lengths = [len(batch.spans["audio"][pair]) for batch in (clean, corrupted)]
        if lengths[0] != lengths[1]:
            durations = [batch.durations[pair] for batch in (clean, corrupted)]
            seconds = " and ".join("no clip" if one is None else f"{one:.2f} s" for one in durations)
            raise ValueError(
                f"the prompts of pair {pair} have {lengths[0]} and {lengths[1]} audio tokens ({seconds}), so position "
                "by position they hear different moments: cut or pad the clips to one length"
            )
        if _heard(clean, pair) != _heard(corrupted, pair):
            raise ValueError(
                f"the audio tokens of pair {pair} are merged, and one by one they hear other stretches in the clean "
                "prompt than in the corrupted one: cut the clips to a length whose tokens are not merged"
            )
    names = sorted({*clean.spans, *corrupted.spans})
    for name in names:
        here, there = (
            batch.spans[name] if name in batch.spans else ((),) * batch.n_rows for batch in (clean, corrupted)
        )
        for pair, (one, other) in enumerate(zip(here, there, strict=True)):
            if one != other:
                raise ValueError(
                    f"the prompts of pair {pair} differ in length or template: {name!r} stands at {_places(one)} in "
                    f"the clean prompt and at {_places(other)} in the corrupted one. A value can only be put where "
                    "the same thing stands: use the same text, or one of as many tokens"
                )
    refuse_all_right(clean.questions)
    if len(_same(adapter, clean, corrupted)) == clean.n_rows:
        raise ValueError(
            f"nothing differs between clean and corrupted in any of {clean.n_rows} pairs: give other clips or captions"
        )


def _heard(batch: PromptBatch, row: int) -> list[tuple[tuple[float, float], ...]]:
    """Describe the sound that each audio token of a prompt hears, where that differs from clip to clip."""
    return [clock.intervals(i) for clock in batch.clocks[row] if not clock.contiguous for i in range(clock.n_tokens)]


def _places(positions: Sequence[int]) -> str:
    return f"positions {positions[0]} to {positions[-1]}" if positions else "no position"


def _same(adapter: Adapter, clean: PromptBatch, corrupted: PromptBatch) -> list[int]:
    """Pairs of one text and one sound."""
    texts = (clean.inputs["input_ids"] == corrupted.inputs["input_ids"]).all(1).tolist()
    sounds = [batch.inputs.get(adapter.features) for batch in (clean, corrupted)]
    if any(sound is None for sound in sounds):
        return [pair for pair, same in enumerate(texts) if same and sounds[0] is sounds[1]]
    if sounds[0].shape != sounds[1].shape:
        return []
    return [
        pair
        for pair, windows in enumerate(windows_of_rows(adapter, clean))
        if texts[pair] and all(torch.equal(sounds[0][window], sounds[1][window]) for window in windows)
    ]
