"""Audio-specialist heads: those whose attention to the audio goes with right answers.

"Audio-specialist heads" (arXiv 2603.06854), eq. 1-2: per head, the point-biserial correlation over questions between
the share of the last prompt position's attention that falls on audio tokens, and whether the answer is right. The K
heads of largest correlation are the specialists. A correlation names heads to look at; that they matter takes an
intervention to show.

Conventions: heads are `(layer, head)`, from 0; p values are two-sided; NaN marks layers without attention. Questions of
one clip are a cluster: p values and intervals count clips (`ma.metrics.point_biserial`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers, attention_and_answers
from mechaudio.analyses.streaming import Questions
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.metrics import checked
from mechaudio.metrics.association import (
    TopKStability,
    bootstrap_point_biserial,
    highest,
    point_biserial,
    tied_at,
    top_k_stability,
)
from mechaudio.models.targets import Words
from mechaudio.notices import warn, withheld
from mechaudio.results import Result
from mechaudio.tracing.audio_lm import AudioLM

Head = tuple[int, int]
Ranking = Literal["magnitude", "signed"]

#: A head whose audio attention has a standard deviation below this share of its mean varies by rounding alone: in
#: float32, where sums come in another order; in half precision, where weights are rounded to a quarter of its spacing.
_ROUNDING = np.finfo(np.float32).eps ** 0.75


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadScores(Result):
    """How every head's audio attention goes with right answers.

    Attributes:
        r: Point-biserial correlation; 0 for a head that does not vary, NaN in a layer without attention.
        p: Its p value; 1 for a head that does not vary.
        q: P values adjusted by Benjamini and Hochberg over all heads that vary.
        low: Lower end of the interval of r, over clips; NaN for fewer than 30 of them
            (`ma.metrics.bootstrap_point_biserial`).
        high: Upper end.
        constant: Heads that give the audio the same share in every question.
        measured: What it was computed from.
        confidence: Level of the intervals.
        resamples: Number of resamples of the bootstrap, whose seed `provenance` holds.
    """

    r: Float[np.ndarray, "layer head"]
    p: Float[np.ndarray, "layer head"]
    q: Float[np.ndarray, "layer head"]
    low: Float[np.ndarray, "layer head"]
    high: Float[np.ndarray, "layer head"]
    constant: Bool[np.ndarray, "layer head"]
    measured: AttentionAndAnswers
    confidence: float
    resamples: int

    _table_axes = ("layer", "head")
    _derived = ("mean",)

    @property
    def _summary(self) -> str:
        if not self.varies.any():
            return "no head varies"
        layer, head = np.unravel_index(np.argmax(np.where(self.varies, np.abs(self.r), -1)), self.r.shape)
        n = len(self.measured.ids)
        return f"strongest is head {head} of layer {layer}, r = {self.r[layer, head]:+.2f} on {n_of(n, 'question')}"

    @property
    def mean(self) -> Float[np.ndarray, "layer head"]:
        """Mean audio attention: how much a head attends to the audio, whatever comes of it."""
        return self.measured.audio_attention.mean(axis=0, dtype=np.float64)

    @property
    def varies(self) -> Bool[np.ndarray, "layer head"]:
        """Heads that have a correlation."""
        return np.isfinite(self.r) & ~self.constant

    def top(self, k: int = 20, *, ranking: Ranking = "magnitude") -> tuple[Head, ...]:
        """The K heads of largest correlation, largest first; of equal ones by lot, whose seed `provenance` holds.

        Args:
            k: How many; of 10, 20 and 30 the paper finds 20 best.
            ranking: By `magnitude`, |r|, so that heads whose attention goes with wrong answers count too, or `signed`.

        Raises:
            ValueError: Fewer heads vary than are asked for, or an unknown ranking.
            TypeError: A number of heads that is not whole.

        Warns:
            UserWarning: Which heads are among the K was drawn by lot, as several are level at the last place.
        """
        places, strength = self._ranked(self.r[self.varies], k, ranking)
        if tied := tied_at(strength, k):
            warn(
                f"{tied} heads have the same correlation at place {k}: which of them are among the {k} was drawn by lot"
            )
        return tuple(tuple(map(int, places[index])) for index in highest(strength[None], k, self._seed)[0])

    def tied(self, k: int = 20, *, ranking: Ranking = "magnitude") -> int:
        """Count the heads that are level at place K, where not all of them are among the K; 0 if nothing was drawn.

        Raises:
            ValueError: As `top`.
            TypeError: As `top`.
        """
        return tied_at(self._ranked(self.r[self.varies], k, ranking)[1], k)

    @property
    def _seed(self) -> int:
        return self.provenance.seed or 0

    def random(self, k: int = 20, *, seed: int = 0) -> tuple[Head, ...]:
        """K heads drawn at random from all layers with attention, the specialists not excepted: the control.

        Raises:
            ValueError: There are fewer heads.
            TypeError: A number of heads that is not whole.
        """
        places = np.argwhere(np.isfinite(self.r))
        _refuse_unless(
            1 <= checked.whole("k", k) <= len(places), f"k is a number of heads from 1 to {len(places)}, got {k}"
        )
        drawn = np.random.default_rng(seed).choice(len(places), k, replace=False)
        return tuple(tuple(map(int, places[index])) for index in drawn)

    def stability(self, k: int = 20, *, ranking: Ranking = "magnitude") -> TopKStability:
        """Test whether other samples of as many clips would have given the same K heads.

        The resamples are those of the intervals of r.

        Raises:
            ValueError: As `top`.
            TypeError: As `top`.
        """
        places, strength = self._ranked(self.r[self.varies], k, ranking)
        again = bootstrap_point_biserial(
            self.measured.audio_attention[:, self.varies],
            self.measured.correct,
            clips=self.measured.clips or None,
            confidence=self.confidence, resamples=self.resamples, seed=self._seed,
        )  # fmt: skip
        resampled = np.abs(again.resampled) if ranking == "magnitude" else again.resampled
        top_k = top_k_stability(strength, resampled, k, confidence=self.confidence, seed=self._seed)
        frequency = np.where(np.isfinite(self.r), 0.0, np.nan)
        frequency[self.varies] = top_k.frequency
        return replace(
            top_k,
            chosen=tuple(tuple(map(int, places[column])) for (column,) in top_k.chosen),
            frequency=frequency,
        )

    def _ranked(
        self, r: Float[np.ndarray, " column"], k: int, ranking: Ranking
    ) -> tuple[Int[np.ndarray, "column 2"], Float[np.ndarray, " column"]]:
        """Places of the heads that vary, and what they are ranked by."""
        _refuse_unless(
            ranking in ("magnitude", "signed"), f"ranking= is 'magnitude', by |r|, or 'signed', by r; got {ranking!r}"
        )
        _refuse_unless(
            1 <= checked.whole("k", k) <= len(r),
            f"k is a number of heads from 1 to {len(r)}, got {k}: only {len(r)} of {self.r.size} heads vary in how "
            "much they attend to the audio",
        )
        return np.argwhere(self.varies), np.abs(r) if ranking == "magnitude" else r


@checks_arguments
def specialist_heads(
    model: AudioLM,
    questions: Questions,
    *,
    target: Words = None,
    foil: Words = None,
    whole: bool | None = None,
    condition: str = "audio",
    queries: str = "last",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> HeadScores:
    """Find the heads whose audio attention goes with right answers, in one forward pass per question.

    ```python
    scores = ma.analyses.specialist_heads(model, questions)
    scores.r                    # [layer, head]
    scores.top(20)              # ((21, 4), (19, 30), ...)
    print(scores.stability(20))
    ```

    Args:
        model: The opened model.
        questions: Any number of them, each with its right answer; the model must get some right and some wrong.
        target: Words that count as the right answer, as in `attention_and_answers`: so are open questions asked.
        foil: Words that they are held against; by default everything else that could follow.
        whole: Count all tokens of the words, teacher-forced.
        condition: What the model is given: `audio`, or another condition with audio tokens.
        queries: The rows whose attention is measured, as in `attention_and_answers`; by default the last one, as
            published.
        confidence: Level of the intervals.
        resamples: How many times questions are drawn anew.
        seed: Seed of the bootstrap.
        batch_size: Questions per forward pass.
        progress: Draw a progress bar on stderr; by default where a person is watching, after two seconds.

    Raises:
        ValueError: Fewer than 3 questions, answers that are all right or all wrong, and as `attention_and_answers`.

    Warns:
        UserWarning: Some heads give the audio the same share of attention in every question; it names them.
    """
    measured = attention_and_answers(
        model,
        questions,
        target=target,
        foil=foil,
        whole=whole,
        condition=condition,
        queries=queries,
        batch_size=batch_size,
        progress=progress,
    )
    return score_heads(measured, confidence=confidence, resamples=resamples, seed=seed)


@checks_arguments
def score_heads(
    measured: AttentionAndAnswers, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> HeadScores:
    """Correlate audio attention that is measured already with right answers; as `specialist_heads`."""
    checked.outcomes("correct", measured.correct)
    clips = measured.clips or None
    attending = np.isfinite(measured.audio_attention).all(axis=0)
    _refuse_unless(attending.any(), "no layer of this model has attention, so no head can attend to the audio")
    attention = measured.audio_attention[:, attending].astype(np.float64)
    still = attention.std(axis=0) <= max(_ROUNDING, measured.precision / 4) * attention.mean(axis=0)
    attention[:, still] = 0.0
    constant = _grid(attending, still, False)
    if still.any():
        warn(_told(constant))
    with withheld():  # columns that do not vary are named above
        correlation = point_biserial(attention, measured.correct, clips=clips)
    again = bootstrap_point_biserial(
        attention, measured.correct, clips=clips, confidence=confidence, resamples=resamples, seed=seed
    )
    columns = {"r": correlation.r, "p": correlation.p, "q": correlation.q, "low": again.low, "high": again.high}
    origin = measured.provenance
    settings = {**origin.settings, "n": correlation.n, "confidence": confidence, "resamples": resamples}
    return HeadScores(
        **{name: _grid(attending, column, np.nan) for name, column in columns.items()},
        constant=constant,
        measured=measured,
        confidence=float(confidence),
        resamples=resamples,
        provenance=origin.derived(seed, settings),
    )


def _grid(attending: Bool[np.ndarray, "layer head"], column: np.ndarray, missing: float | bool) -> np.ndarray:
    """A column for every head of the layers with attention, as layers and heads."""
    grid = np.full(attending.shape, missing)
    grid[attending] = column
    return grid


def _told(constant: Bool[np.ndarray, "layer head"]) -> str:
    named = [f"({layer}, {head})" for layer, head in np.argwhere(constant)]
    return (
        f"{len(named)} of {constant.size} heads give the audio the same share of attention in every question, so "
        f"nothing can go with it (their r is given as 0): {', '.join(named[:10])}{', ...' if len(named) > 10 else ''}"
    )


def _refuse_unless(holds: bool | np.bool_, advice: str) -> None:
    if not holds:
        raise ValueError(advice)
