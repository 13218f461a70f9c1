"""The listening score: one number per question for how much the audio-specialist heads attend to the audio.

"Audio-specialist heads" (arXiv 2603.06854), eq. 3: s(x) is the sum over the chosen heads of weight times audio
attention, the weight being each head's correlation with right answers. Heads are chosen and weighted on one set of
questions, and the score is judged on another: by how well it tells right answers from wrong ones there, beside the
same number of heads drawn at random; and by whether it is higher where the audio changes the answer.

Conventions: areas under the ROC curve, 0.5 for a score that tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from mechaudio.analyses.attention_and_answers import AttentionAndAnswers
from mechaudio.analyses.specialist_heads import Head, HeadScores, Ranking
from mechaudio.arguments import checks_arguments, n_of
from mechaudio.kinds import MaybeNone
from mechaudio.metrics.clips import Clips
from mechaudio.metrics.multiple_choice import match_ids
from mechaudio.metrics.roc import RocAuc, roc_auc
from mechaudio.results import Result
from mechaudio.showing import Shown

Weighting = Literal["r", "sign", "equal"]


@dataclass(frozen=True)
class ListeningCheck(Shown):
    """A test of a score: is it higher where the audio changes the answer?

    Each area is the chance that a question whose answer the audio changes scores above one whose answer it does not
    (`n_right` and `n_wrong` count the two); None where there are fewer than two of either kind.

    Attributes:
        everywhere: Over all questions. Audio that changes the answer also makes it right more often, so a score that
            tells right from wrong alone is above 0.5 here.
        within_right: Among the right answers only, where that cannot be the reason.
        within_wrong: Among the wrong ones only.
    """

    everywhere: RocAuc | MaybeNone
    within_right: RocAuc | MaybeNone
    within_wrong: RocAuc | MaybeNone


@dataclass(frozen=True, eq=False, kw_only=True)
class ListeningScore(Result):
    """The listening score of questions that its heads were not chosen on.

    Attributes:
        score: Score of each question (eq. 3).
        mass: Sum of the same heads' audio attention, unweighted: what the score is without knowledge of answers.
        correct: Whether the answer is right.
        changed: Whether silence in the clip's place would have got another answer; None if that was not measured.
        ids: Ids of the questions.
        heads: The specialists.
        weights: Weight of each of them.
        random_auc: Area under the ROC curve of as many heads drawn at random, scored in the same way, once per draw.
        n_calibration: Questions that the heads were chosen on.
        confidence: Level of the intervals.
        clips: Name of the clip of each question, whose questions the intervals and p values take as a cluster; without
            them, each is about a clip of its own.
    """

    score: Float[np.ndarray, " question"]
    mass: Float[np.ndarray, " question"]
    correct: Bool[np.ndarray, " question"]
    changed: Bool[np.ndarray, " question"] | None
    ids: tuple[str, ...]
    heads: tuple[Head, ...]
    weights: Float[np.ndarray, " head"]
    random_auc: Float[np.ndarray, " draw"]
    n_calibration: int
    confidence: float
    clips: tuple[str, ...] = ()

    @property
    def _summary(self) -> str:
        return f"area under the ROC curve {self.auc.value:.3f} with {n_of(len(self.heads), 'head')}"

    @cached_property
    def auc(self) -> RocAuc:
        """How well the score tells right answers from wrong ones, with its interval."""
        return roc_auc(self.score, self.correct, clips=self.clips or None, confidence=self.confidence)

    @cached_property
    def mass_auc(self) -> RocAuc:
        """How well the same heads' unweighted audio attention does."""
        return roc_auc(self.mass, self.correct, clips=self.clips or None, confidence=self.confidence)

    def auc_within(self, strata: Sequence[str]) -> RocAuc | None:
        """How well the score tells right from wrong among questions of one kind, over all kinds.

        A score that is higher for easy kinds of questions than for hard ones tells right from wrong without telling
        anything about a question; that does not count here.

        Args:
            strata: The kind of each question, such as its task, in the order of `ids`.

        Returns:
            The area over pairs of the same kind; None where no kind has two right and two wrong answers.

        Raises:
            ValueError: Another number of kinds than of questions.
        """
        return self._area(self.score, self.correct, self._kinds(strata), np.ones_like(self.correct))

    @property
    def p_random(self) -> float:
        """Share of the random sets that do as well, counting the specialists' own as one of them."""
        return float((1 + (self.random_auc >= self.auc.value).sum()) / (1 + len(self.random_auc)))

    def listening(
        self, of: Literal["score", "mass"] = "score", *, strata: Sequence[str] | None = None
    ) -> ListeningCheck:
        """Test whether the score, or the unweighted attention, is higher where the audio changes the answer.

        Args:
            of: The score, or the unweighted attention of the same heads.
            strata: The kind of each question, such as its task, in the order of `ids`: questions are compared with
                those of their own kind alone.

        Raises:
            ValueError: The answers to silence were not given, neither `score` nor `mass` is asked for, or another
                number of kinds than of questions.
        """
        if of not in ("score", "mass"):
            raise ValueError(f"of= is 'score' or 'mass', got {of!r}")
        if self.changed is None:
            raise ValueError(
                "what the audio changes is not known here: give listening_score the same questions asked with "
                'silence, silent=attention_and_answers(model, questions, "silence")'
            )
        values, kinds, every = getattr(self, of), self._kinds(strata), np.ones_like(self.correct)
        return ListeningCheck(
            *(self._area(values, self.changed, kinds, among) for among in (every, self.correct, ~self.correct))
        )

    def _kinds(self, strata: Sequence[str] | None) -> np.ndarray:
        """The kind of each question; the same of all, where there are no kinds."""
        kinds = np.array([""] * len(self.ids) if strata is None else [str(kind) for kind in strata])
        if len(kinds) != len(self.ids):
            raise ValueError(f"strata= names the kind of each of the {len(self.ids)} questions, got {len(kinds)}")
        return kinds

    def _area(
        self,
        values: Float[np.ndarray, " question"],
        positive: Bool[np.ndarray, " question"],
        kinds: np.ndarray,
        among: Bool[np.ndarray, " question"],
    ) -> RocAuc | None:
        """Return the area under the ROC curve of values; None where too few questions can be compared."""
        sides = [(among & side & (kinds == kind)).sum() for kind in set(kinds) for side in (positive, ~positive)]
        if not any(min(pair) >= 2 for pair in zip(sides[::2], sides[1::2], strict=True)):
            return None
        clips: Clips | None = np.array(self.clips)[among] if self.clips else None
        return roc_auc(values[among], positive[among], strata=kinds[among], clips=clips, confidence=self.confidence)


@checks_arguments
def listening_score(
    scores: HeadScores,
    measured: AttentionAndAnswers,
    *,
    k: int = 20,
    ranking: Ranking = "magnitude",
    weighting: Weighting = "r",
    normalised: bool = False,
    standardised: bool = False,
    silent: AttentionAndAnswers | None = None,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> ListeningScore:
    """Score questions by their audio attention in heads that were chosen on other questions (eq. 3).

    ```python
    measured = ma.analyses.attention_and_answers(model, questions)
    calibration, held_out = measured.split(seed=0)
    score = ma.analyses.listening_score(ma.analyses.score_heads(calibration), held_out)
    print(score.auc, score.random_auc.mean())
    ```

    Random sets are drawn from all heads of layers with attention, the specialists not excepted, and each of their heads
    has the weight that its own correlation gives it.

    Args:
        scores: Scores of the heads, from the calibration questions.
        measured: Questions about other clips than those that the heads were chosen on, and attention of the same rows
            (`queries=` of `attention_and_answers`).
        k: How many heads.
        ranking: As in `HeadScores.top`.
        weighting: Each head's `r`; its `sign`; or `equal`, 1 for every head that varies.
        normalised: Divide by the sum of the weights' magnitudes.
        standardised: Measure attention in standard deviations from its mean over the calibration questions, per head.
        silent: The same questions asked with silence, in any order, to know where the audio changes the answer.
        draws: Random sets of heads.
        confidence: Level of the intervals.
        seed: Seed of the random sets.

    Raises:
        ValueError: Questions or clips that the heads were chosen on, questions without ids, fewer than two right or two
            wrong answers, fewer heads than `k`, another number of heads, or `silent` answers to other questions.
    """
    _refuse_shared(scores.measured, measured)
    if measured.audio_attention.shape[1:] != scores.r.shape:
        raise ValueError(
            f"the heads were chosen in a model of {list(scores.r.shape)} layers and heads, the questions were put to "
            f"one of {list(measured.audio_attention.shape[1:])}"
        )
    if scores.measured.queries != measured.queries:
        raise ValueError(
            f"the heads were chosen by the attention of the rows {scores.measured.queries!r}, and that of "
            f"{measured.queries!r} was measured: measure both with the same queries="
        )
    if min(measured.correct.sum(), (~measured.correct).sum()) < 2:
        raise ValueError(
            f"to tell right from wrong takes at least 2 right and 2 wrong answers, got {measured.correct.sum()} and "
            f"{(~measured.correct).sum()} on the {n_of(len(measured.ids), 'question')} to be scored"
        )
    if weighting not in ("r", "sign", "equal"):
        raise ValueError(f"weighting= is 'r', 'sign' or 'equal', got {weighting!r}")
    if draws < 1:
        raise ValueError(f"draws is a number of random sets of heads, at least 1, got {draws}")
    heads = scores.top(k, ranking=ranking)
    attention = _standardised(scores, measured) if standardised else measured.audio_attention.astype(np.float64)
    every = {"r": scores.r, "sign": np.sign(scores.r), "equal": scores.varies.astype(np.float64)}[weighting]

    def score_of(chosen: tuple[Head, ...]) -> Float[np.ndarray, " question"]:
        layers, places = np.transpose(chosen)
        weights = every[layers, places]
        total = np.abs(weights).sum() if normalised else 1.0
        return attention[:, layers, places] @ weights / (total or 1.0)  # heads without weight score 0

    sets = np.random.default_rng(seed).integers(2**63, size=draws)
    layers, places = np.transpose(heads)
    settings = {
        "k": k, "ranking": ranking, "weighting": weighting, "normalised": normalised, "standardised": standardised,
        "draws": draws, "n": len(measured.ids), "n_calibration": len(scores.measured.ids),
    }  # fmt: skip
    origin = measured.provenance
    return ListeningScore(
        score=score_of(heads),
        mass=measured.audio_attention[:, layers, places].sum(axis=1, dtype=np.float64),
        correct=measured.correct,
        changed=None if silent is None else _changed(measured, silent),
        ids=measured.ids,
        heads=heads,
        weights=every[layers, places],
        random_auc=_areas(np.stack([score_of(scores.random(k, seed=int(one))) for one in sets]), measured.correct),
        n_calibration=len(scores.measured.ids),
        confidence=float(confidence),
        clips=measured.clips,
        provenance=origin.derived(seed, settings),
    )


def _refuse_shared(calibration: AttentionAndAnswers, held_out: AttentionAndAnswers) -> None:
    """Refuse questions and clips that the heads were chosen on, and questions of which that cannot be known."""
    if not all((*calibration.ids, *held_out.ids)):
        raise ValueError(
            "some questions have no id, so it cannot be known whether the heads were chosen on them: set "
            "AudioQuestion(id=...)"
        )
    shared = sorted(set(calibration.ids) & set(held_out.ids))
    clips = sorted(set(calibration.clips) & set(held_out.clips))
    if shared:
        raise ValueError(
            f"the heads were chosen on {len(shared)} of these questions ({', '.join(shared[:3])}), which would flatter "
            "the score: choose and score on disjoint questions, calibration, held_out = measured.split()"
        )
    if clips:
        raise ValueError(
            f"the heads were chosen on other questions about {len(clips)} of these clips ({', '.join(clips[:3])}), "
            "which would flatter the score: split by clip, calibration, held_out = measured.split()"
        )


def _standardised(scores: HeadScores, measured: AttentionAndAnswers) -> Float[np.ndarray, "question layer head"]:
    known = scores.measured.audio_attention.astype(np.float64)
    spread = np.where(scores.varies, known.std(axis=0), np.inf)  # a head that does not vary stays at 0
    return (measured.audio_attention - known.mean(axis=0)) / spread


def _changed(heard: AttentionAndAnswers, silent: AttentionAndAnswers) -> Bool[np.ndarray, " question"]:
    if silent.condition != "silence":
        raise ValueError(f"silent= holds answers to silence, got those to {silent.condition!r}")
    places = match_ids(heard.ids, silent.ids)
    return np.array([choice != silent.choices[place] for choice, place in zip(heard.choices, places, strict=True)])


def _areas(scores: Float[np.ndarray, "draw question"], correct: Bool[np.ndarray, " question"]) -> np.ndarray:
    """Area under the ROC curve of each row of scores, ties counting half (Mann and Whitney's U)."""
    n_right, n_wrong = correct.sum(), (~correct).sum()
    ranks = rankdata(scores, axis=1)[:, correct].sum(axis=1)
    return (ranks - n_right * (n_right + 1) / 2) / (n_right * n_wrong)
