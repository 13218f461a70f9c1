"""Pairs of prompts that differ only in what is heard or told, and how far from one to the other an answer lies.

The clean prompt is one that the model should get right; the corrupted one has as many tokens in the same places, with
another sound or another caption behind them. A number taken from a patched run says little by itself: it is put on the
scale on which the corrupted run is 0 and the clean run 1.

Conventions: logits are those of the choices' letters at the last position, `nan` where a question has fewer choices;
the right choice is the clean question's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from mechaudio.analyses.streaming import in_batches
from mechaudio.metrics import checked
from mechaudio.metrics.bootstrap import percentile_interval
from mechaudio.metrics.multiple_choice import margin, right_choices
from mechaudio.models.adapter import Adapter
from mechaudio.models.batch import PromptBatch
from mechaudio.models.grouping import padding_groups, part_of, windows_of_rows
from mechaudio.models.prompt import prompt, silenced
from mechaudio.question import AudioQuestion

if TYPE_CHECKING:
    from mechaudio.tracing.audio_lm import AudioLM

#: What is read off the logits of the choices:
#: `logit_difference`, of the right choice and one wrong choice, the same in every run (`Contrast.wrong`);
#: `margin`, of the right choice and the best wrong one of that very run;
#: `probability` of the right choice among the choices;
#: `answer`, 1 where the likeliest choice is the clean run's, else 0.
Metric = Literal["logit_difference", "margin", "probability", "answer"]
METRICS: tuple[str, ...] = get_args(Metric)
#: Smaller differences between clean and corrupted, in parts of the larger of the two, are rounding.
ROUNDING = 1e-4
#: Numbers of resamples and places that an interval holds at once.
AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class Contrast:
    """Prompts in pairs; `contrast` makes and checks them.

    Attributes:
        clean: The prompts whose answers are to be explained.
        corrupted: The same number of prompts, with the same roles at the same positions.
    """

    clean: PromptBatch
    corrupted: PromptBatch

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the clean questions."""
        return tuple(question.id for question in self.clean.questions)

    @property
    def right(self) -> Bool[np.ndarray, "pair choice"]:
        """Which choices are right for the clean prompt; two, where a question has the answer twice."""
        return _right(self.clean)

    @property
    def first(self) -> Int[np.ndarray, " pair"]:
        """The first position whose residual stream can differ: the first audio token, or the first other token."""
        ids = [batch.inputs["input_ids"].cpu() for batch in (self.clean, self.corrupted)]
        heard = self.clean.span_mask("audio").cpu()
        return ((ids[0] != ids[1]) | heard).int().argmax(1).numpy()

    def wrong(self, corrupted: Float[np.ndarray, "pair choice"]) -> Int[np.ndarray, " pair"]:
        """The one wrong choice that `logit_difference` is taken against, in every run of the pair.

        It is the corrupted question's answer where that is another than the clean one's, and otherwise the likeliest
        wrong choice of the corrupted run.

        Args:
            corrupted: Logits of the choices in the corrupted runs.
        """
        wrong = np.where(self.right | np.isnan(corrupted), -np.inf, corrupted).argmax(-1)
        theirs = _right(self.corrupted)
        other = theirs.any(-1) & ~(theirs & self.right).any(-1)
        return np.where(other, theirs.argmax(-1), wrong)


def contrast(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
) -> Contrast:
    """Pair clean prompts with corrupted ones, and refuse pairs whose positions do not mean the same.

    ```python
    pairs = ma.analyses.contrast(model, questions)                       # audio against silence of the same length
    pairs = ma.analyses.contrast(model, questions, other_questions)      # another clip, events elsewhere in time
    ```

    Args:
        model: The opened model.
        clean: Questions with known answers, asked with their clips; or prompts made with `ma.prompt` in any condition.
        corrupted: The same for the other side, pair by pair; or `silence`, in place of the clean questions' clips.

    Raises:
        ValueError: Another number of prompts, other choices, a clean question without a known answer, prompts that
            differ in length or in what stands where (clips of unequal length make unequally many audio tokens), or
            no pair in which anything differs.
        TypeError: Plain inputs instead of questions.
    """
    if isinstance(corrupted, str) and corrupted != "silence":
        raise ValueError(f"corrupted= is questions, prompts or 'silence', got {corrupted!r}")
    one = _asked("clean", clean if isinstance(clean, PromptBatch) else prompt(model, clean))
    if isinstance(corrupted, str):
        other = silenced(model, one)
    else:
        other = _asked("corrupted", corrupted if isinstance(corrupted, PromptBatch) else prompt(model, corrupted))
    _check_alike(model.adapter, one, other)
    return Contrast(one, other)


def _asked(name: str, side: PromptBatch) -> PromptBatch:
    if not side.questions:
        raise TypeError(f"{name}= is plain inputs, without choices to compare: make prompts from questions")
    return side


def contrasts(
    model: AudioLM,
    clean: PromptBatch | Iterable[AudioQuestion],
    corrupted: PromptBatch | Iterable[AudioQuestion] | Literal["silence"] = "silence",
    *,
    batch_size: int = 8,
    what: str = "pairs",
    progress: bool = False,
) -> Iterator[Contrast]:
    """Pairs a batch at a time, no two of them such that the padding of one would change the other.

    Args:
        model: The opened model.
        clean: As `contrast` takes them; prompts that are a batch already stay together as far as padding allows.
        corrupted: The same.
        batch_size: How many pairs at a time.
        what: Stands before the progress bar.
        progress: Draw a progress bar on stderr.

    Raises:
        ValueError: As `contrast`; no pair at all, a batch size below one, or unequally many on both sides.
    """
    if isinstance(clean, PromptBatch) or isinstance(corrupted, PromptBatch):
        yield from _apart(model, contrast(model, clean, corrupted))
    elif isinstance(corrupted, str):
        for asked in in_batches(clean, batch_size, what=what, progress=progress):
            yield from _apart(model, contrast(model, asked, corrupted))
    else:
        pairs = list(zip(clean, corrupted, strict=True))
        for some in in_batches(pairs, batch_size, what=what, progress=progress):
            yield from _apart(model, contrast(model, *zip(*some, strict=True)))


def _apart(model: AudioLM, pairs: Contrast) -> Iterator[Contrast]:
    groups = padding_groups(model.adapter, pairs.clean)
    if len(groups) == 1:
        yield pairs
        return
    for rows in groups:
        yield Contrast(*(part_of(model.adapter, side, rows) for side in (pairs.clean, pairs.corrupted)))


def value(
    metric: Metric,
    logits: Float[np.ndarray, "*variant pair choice"],
    right: Bool[np.ndarray, "pair choice"],
    wrong: Int[np.ndarray, " pair"],
    clean: Float[np.ndarray, "pair choice"],
) -> Float[np.ndarray, "*variant pair"]:
    """One number of every run.

    Args:
        metric: Which; see `METRICS`.
        logits: Of the choices.
        right: `Contrast.right`.
        wrong: `Contrast.wrong`.
        clean: Logits of the clean runs.

    Raises:
        ValueError: An unknown metric.
    """
    logits = logits.astype(np.float64)
    if metric == "logit_difference":
        of_wrong = np.take_along_axis(logits, np.broadcast_to(wrong[:, None], (*logits.shape[:-1], 1)), -1)[..., 0]
        return np.where(right, logits, -np.inf).max(-1) - of_wrong
    if metric == "margin":
        return margin(logits, right)
    if metric == "probability":
        likelihood = np.nan_to_num(np.exp(logits - np.nanmax(logits, -1, keepdims=True)))
        return np.where(right, likelihood, 0.0).sum(-1) / likelihood.sum(-1)
    if metric == "answer":
        return (chosen(logits) == chosen(clean)).astype(np.float64)
    raise ValueError(f"metric= is one of {', '.join(METRICS)}, got {metric!r}")


@dataclass(frozen=True, eq=False)
class Scale:
    """Where 0 and 1 lie for one metric.

    Attributes:
        clean: The metric in the clean runs.
        corrupted: In the corrupted runs.
    """

    clean: Float[np.ndarray, " pair"]
    corrupted: Float[np.ndarray, " pair"]

    @property
    def defined(self) -> Bool[np.ndarray, " pair"]:
        """Pairs whose clean and corrupted runs differ; where they agree there is nothing to explain."""
        return np.abs(self.clean - self.corrupted) > ROUNDING * np.maximum(abs(self.clean), abs(self.corrupted))

    def per_pair(self, found: Float[np.ndarray, "*variant pair"]) -> Float[np.ndarray, "*variant pair"]:
        """Between 0 (as corrupted) and 1 (as clean), or beyond; NaN where clean and corrupted agree."""
        gap = np.where(self.defined, self.clean - self.corrupted, np.nan)
        return (found - self.corrupted) / gap

    def counted(self, found: Float[np.ndarray, "*variant pair"]) -> Int[np.ndarray, "*variant"]:
        """How many pairs a mean is over: those that differ, and that have the place (no NaN)."""
        return (self.defined & ~np.isnan(found)).sum(-1)

    def mean(self, found: Float[np.ndarray, "*variant pair"]) -> Float[np.ndarray, "*variant"]:
        """The mean change over pairs in parts of the mean difference of clean and corrupted.

        The two means are taken before they are divided: a pair in which little is to be explained counts little,
        where a mean of quotients would be ruled by it. Both are over the pairs that `found` has a number for; NaN where
        that is none.

        Raises:
            ValueError: Clean and corrupted agree in all pairs.
        """
        if not self.defined.any():
            raise ValueError(
                f"clean and corrupted runs agree in all {len(self.clean)} pairs, so there is no scale to put anything "
                "on: corrupt more, choose another metric, or ask questions whose answers the sound decides"
            )
        flat = found.reshape(-1, found.shape[-1])
        change, gap = self._sums(flat, self.defined[None].astype(np.float64))
        mean = np.divide(change, gap, out=np.full_like(change, np.nan), where=gap != 0)
        return mean.reshape(found.shape[:-1])

    def interval(
        self,
        found: Float[np.ndarray, "*variant pair"],
        *,
        confidence: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> tuple[Float[np.ndarray, "*variant"], Float[np.ndarray, "*variant"]]:
        """Percentile bootstrap interval of `mean` over the pairs in which clean and corrupted differ.

        NaN where fewer than two of these pairs have a number, and where the mean difference of clean and corrupted may
        be zero or of the other sign, by its own interval over the same resamples: a quotient of means is then anything.

        Raises:
            ValueError: Fewer than two such pairs, or a confidence outside 0 to 1.
        """
        n = int(self.defined.sum())
        if n < 2:
            raise ValueError(f"an interval over pairs needs at least 2 in which clean and corrupted differ, got {n}")
        checked.resampling(resamples)
        weights = np.zeros((resamples, len(self.defined)))
        weights[:, self.defined] = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
        flat = found.reshape(-1, found.shape[-1])
        low, high = np.full((2, len(flat)), np.nan)
        at_once = max(1, AT_ONCE // resamples)
        for start in range(0, len(flat), at_once):
            block = slice(start, start + at_once)
            low[block], high[block] = self._ends(flat[block], weights, confidence)
        return low.reshape(found.shape[:-1]), high.reshape(found.shape[:-1])

    def _ends(
        self, found: Float[np.ndarray, "place pair"], weights: Float[np.ndarray, "resample pair"], confidence: float
    ) -> tuple[Float[np.ndarray, " place"], Float[np.ndarray, " place"]]:
        """The interval of some places; a resample may have no pair with a place, and counts for nothing there."""
        change, gap = self._sums(found, weights)
        there = weights @ (~np.isnan(found)).T.astype(np.float64) > 0
        drawn = np.divide(change, gap, out=np.full_like(change, np.nan), where=there & (gap != 0))
        least, most = _interval(np.where(there, gap, np.nan), confidence)
        low, high = _interval(drawn, confidence)
        known = (self.counted(found) >= 2) & ((least > 0) | (most < 0))
        return np.where(known, low, np.nan), np.where(known, high, np.nan)

    def _sums(
        self, found: Float[np.ndarray, "place pair"], weights: Float[np.ndarray, "resample pair"]
    ) -> tuple[Float[np.ndarray, "resample place"], Float[np.ndarray, "resample place"]]:
        """Weighted sums over the pairs that have a place: of what it changes, and of clean minus corrupted."""
        change = (found - self.corrupted).T
        lacking, gap = np.isnan(change), (self.clean - self.corrupted)[:, None]
        return weights @ np.where(lacking, 0.0, change), weights @ np.where(lacking, 0.0, gap)


def _interval(
    drawn: Float[np.ndarray, "resample place"], confidence: float
) -> tuple[Float[np.ndarray, " place"], Float[np.ndarray, " place"]]:
    """Percentile intervals that leave NaN out; NaN where there is nothing else."""
    low, high = percentile_interval(drawn, confidence)
    for place in np.flatnonzero(np.isnan(low)):
        own = drawn[~np.isnan(drawn[:, place]), place]
        if len(own):
            low[place], high[place] = percentile_interval(own, confidence)
    return low, high


def chosen(logits: Float[np.ndarray, "*variant choice"]) -> Int[np.ndarray, "*variant"]:
    """The likeliest choice of every run; NaN is a choice that a question does not have."""
    return np.where(np.isnan(logits), -np.inf, logits).argmax(-1)


def with_choices(values: Shaped[np.ndarray, "*axis choice"], n: int) -> Shaped[np.ndarray, "*axis n"]:
    """Numbers of choices, or marks, filled up to so many choices with NaN, or with `False`."""
    nothing = False if values.dtype == bool else np.nan
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, n - values.shape[-1])], constant_values=nothing)


def _right(batch: PromptBatch) -> Bool[np.ndarray, "pair choice"]:
    return right_choices(
        [question.choices for question in batch.questions], [question.answer for question in batch.questions]
    )


def _check_alike(adapter: Adapter, clean: PromptBatch, corrupted: PromptBatch) -> None:
    if clean.n_rows != corrupted.n_rows:
        raise ValueError(f"there are {clean.n_rows} clean prompts and {corrupted.n_rows} corrupted ones: give pairs")
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
            heard = [batch.durations[pair] for batch in (clean, corrupted)]
            seconds = " and ".join("no clip" if one is None else f"{one:.2f} s" for one in heard)
            raise ValueError(
                f"the prompts of pair {pair} have {lengths[0]} and {lengths[1]} audio tokens ({seconds}), so position "
                "by position they hear different moments: cut or pad the clips to one length"
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
    if len(_same(adapter, clean, corrupted)) == clean.n_rows:
        raise ValueError(
            f"nothing differs between clean and corrupted in any of {clean.n_rows} pairs: give other clips or captions"
        )


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
