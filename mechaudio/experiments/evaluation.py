"""What comes of asking many questions: each answer, right or wrong, and the scores.

Conventions: accuracies are shares from 0 to 1; intervals are Wilson's at 95 %, for
clips as clusters where several questions are about one (`mechaudio.metrics.clips`); an answer is the *text* of a
choice, so that of two choices of the same text either is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.arguments import shown
from mechaudio.metrics.checked import same_length
from mechaudio.metrics.choices import NO_ANSWER, margin, right_choices
from mechaudio.metrics.estimates import Proportion
from mechaudio.metrics.multiple_choice import (
    AnswerChange,
    RandomFixRate,
    accuracy,
    answer_change,
    random_fix_rate,
)
from mechaudio.metrics.significance import share
from mechaudio.metrics.string_match import string_match
from mechaudio.results import Result, keep

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Failure:
    """A question that could not be asked.

    Attributes:
        index: Its place among the questions, from 0.
        id: Of the question.
        error: What went wrong, such as a recording that is missing or damaged.
    """

    index: int
    id: str
    error: str


keep(Failure)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(Result):
    """One answer per question.

    Questions that could not be asked are in `failures` alone. Those whose answer is not known are answered, and not
    scored.

    Attributes:
        condition: What the model was given: `audio`, `caption`, `audio+caption`, `silence`.
        ids: Of the questions.
        tasks: Of the questions; an empty text where a question names none.
        options: The choices of each question.
        answers: The right choice of each, None where it is not known.
        chosen: Which choice the model chose, `[question]`; -1 where there is none: a text that names none or several,
            or logits that are NaN or overflow.
        logits: Of each choice's letter, `[question, choice]`, NaN where a question has fewer choices; None where the
            answer was generated.
        texts: What the model wrote, where the answer was generated.
        interventions: What was changed while it answered.
        failures: Questions that could not be asked.
        scoring: `letter_logit` or `generate`.
        clips: Name of the clip of each question (`ma.analyses.clips_of`), whose questions intervals and tests take as a
            cluster; without them, each is about a clip of its own.
    """

    condition: str
    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
    answers: tuple[str | None, ...]
    chosen: Int[np.ndarray, " question"]
    logits: Float[np.ndarray, "question choice"] | None = None
    texts: tuple[str, ...] = ()
    interventions: tuple[Any, ...] = ()
    failures: tuple[Failure, ...] = ()
    scoring: str = "letter_logit"
    clips: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        texts = self.texts or self.ids
        same_length(
            ids=self.ids, tasks=self.tasks, options=self.options, answers=self.answers, chosen=self.chosen, texts=texts
        )
        n_options = np.array([len(options) for options in self.options], dtype=int)
        if ((self.chosen < NO_ANSWER) | (self.chosen >= n_options)).any():
            raise ValueError(f"chosen is the place of a choice, or {NO_ANSWER}; got {shown(self.chosen.tolist())}")

    @cached_property
    def choices(self) -> tuple[str | None, ...]:
        """What the model chose, None where that cannot be read."""
        pairs = zip(self.options, self.chosen.tolist(), strict=True)
        return tuple(None if place == NO_ANSWER else options[place] for options, place in pairs)

    @cached_property
    def correct(self) -> Bool[np.ndarray, " question"]:
        """Whether each choice is the right one; False where the answer is not known."""
        pairs = zip(self.choices, self.answers, strict=True)
        return np.array([choice is not None and choice == answer for choice, answer in pairs], dtype=bool)

    @cached_property
    def scored(self) -> Bool[np.ndarray, " question"]:
        """Whether the answer to each question is known."""
        return np.array([answer is not None for answer in self.answers], dtype=bool)

    @property
    def margin(self) -> Float[np.ndarray, " question"]:
        """Logit of the right choice minus that of the best wrong one; NaN where there is no answer, or no known one.

        Raises:
            ValueError: If answers were generated, so that there are no logits.
        """
        return _margin(self.logits, self)

    @property
    def overall(self) -> Proportion:
        """The share of right answers over all questions whose answer is known.

        Raises:
            ValueError: If there is none.
        """
        if not self.scored.any():
            raise ValueError(
                f"none of the {len(self.ids)} questions has a known answer, so there is no score; .choices says what "
                "the model chose"
            )
        return self._accuracy(self.scored)

    def by_task(self) -> dict[str, Proportion]:
        """The share of right answers of each task that is named, in the order in which the tasks first come."""
        tasks = np.array(self.tasks)
        named = self.scored & (tasks != "")
        if not named.any():
            return {}
        return {task: self._accuracy(named & (tasks == task)) for task in dict.fromkeys(tasks[named].tolist())}

    @cached_property
    def unanswered(self) -> Bool[np.ndarray, " question"]:
        """Questions without an answer, because logits of their choices are NaN or overflow; they count as not right."""
        return (self.chosen == NO_ANSWER) & (self.logits is not None)

    def _accuracy(self, which: Bool[np.ndarray, " question"]) -> Proportion:
        share_of = accuracy(self.correct[which], clips=self.clips_among(which))
        return replace(share_of, unanswered=int(self.unanswered[which].sum()))

    @property
    def unparsed(self) -> Proportion:
        """The share of answers that name no choice, or several; they are wrong."""
        return share(self.chosen == NO_ANSWER, clips=self.clips or None)

    @property
    def string_match(self) -> Proportion | None:
        """The share of right answers by the words of generated texts, MMAU's rule (`mechaudio.metrics.string_match`).

        Right answers without a word, such as `+`, cannot be compared so and are left out. None where no text was
        generated, or no question is left.
        """
        clips = self.clips or tuple(map(str, range(len(self.ids))))
        asked = zip(self.texts, self.options, self.answers, clips, strict=False)  # no texts: nothing to compare
        matched = [
            (string_match(text, answer, options), clip)
            for text, options, answer, clip in asked
            if answer is not None and any(character.isalnum() or character == "_" for character in answer)
        ]
        if not matched:
            return None
        right, named = zip(*matched, strict=True)
        return accuracy(right, clips=named if self.clips else None)

    def clips_among(self, questions: Bool[np.ndarray, " question"]) -> tuple[str, ...] | None:
        """The clips of some of the questions, for `clips=` of the scores; None where they are not known."""
        return tuple(compress(self.clips, questions.tolist())) if self.clips else None

    def __repr__(self) -> str:
        score = f"accuracy {self.overall.value:.3f}, " if self.scored.any() else ""
        score += f"{self.unanswered.sum()} without an answer (NaN), " if self.unanswered.any() else ""
        return (
            f"<Evaluation of {len(self.ids)} questions, condition {self.condition!r}: {score}"
            f"{len(self.failures)} not asked, interventions {list(self.interventions)}>"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(Result):
    """The same questions answered without and with each of several interventions.

    `comparison[3]` is the `Evaluation` of variant 3, `comparison.change(3)` what it did to the answers.

    Attributes:
        clean: The answers without interventions.
        variants: The interventions of each variant.
        chosen: Which choice the model chose, `[variant, question]`; -1 where that cannot be read.
        logits: Of each choice's letter, `[variant, question, choice]`; None where answers were generated.
        texts: Per variant what the model wrote, where answers were generated.
        axes: The parameters of a grid and their values; empty for a list of variants.
    """

    clean: Evaluation
    variants: tuple[tuple[Any, ...], ...]
    chosen: Int[np.ndarray, "variant question"]
    logits: Float[np.ndarray, "variant question choice"] | None = None
    texts: tuple[tuple[str, ...], ...] = ()
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many variants there are."""
        return len(self.variants)

    def __getitem__(self, variant: int) -> Evaluation:
        """The answers with one of the variants."""
        return replace(
            self.clean,
            interventions=self.variants[variant],
            chosen=self.chosen[variant],
            logits=None if self.logits is None else self.logits[variant],
            texts=self.texts[variant] if self.texts else (),
        )

    @cached_property
    def correct(self) -> Bool[np.ndarray, "variant question"]:
        """Whether each choice is the right one; False where the answer is not known."""
        return np.stack([self[variant].correct for variant in range(len(self))])

    @property
    def margin(self) -> Float[np.ndarray, "variant question"]:
        """Logit of the right choice minus that of the best wrong one; NaN where there is no answer, or no known one.

        Raises:
            ValueError: If answers were generated, so that there are no logits.
        """
        return _margin(self.logits, self.clean)

    def change(self, variant: int) -> AnswerChange:
        """Accuracy before and after, net change, fix rate, break rate, and McNemar's test of one variant.

        Raises:
            ValueError: If no question has a known answer.
        """
        known = self.clean.scored
        clips = self.clean.clips_among(known)
        change = answer_change(self.clean.correct[known], self.correct[variant][known], clips=clips)
        before, after = (int(one.unanswered[known].sum()) for one in (self.clean, self[variant]))
        return replace(
            change,
            before=replace(change.before, unanswered=before),
            after=replace(change.after, unanswered=after),
        )

    @property
    def random_fix_rate(self) -> RandomFixRate:
        """The fix rate of one who answers at random, to hold the fix rates against.

        Raises:
            ValueError: If no answer is wrong without interventions.
        """
        return self.random_fix_rate_among(self.clean.scored)

    def random_fix_rate_among(self, known: Bool[np.ndarray, " question"]) -> RandomFixRate:
        """The same for some of the questions with known answers.

        Raises:
            ValueError: If none of their answers is wrong without interventions.
        """
        n_choices = np.array([len(options) for options in self.clean.options])
        n_right = right_choices(self.clean.options, self.clean.answers).sum(1)
        return random_fix_rate(self.clean.correct[known], n_choices[known], n_right=n_right[known])

    def to_xarray(self) -> "xarray.Dataset":
        """Everything as a labelled dataset, with an axis for every parameter of a grid.

        Its variables are `correct` and `clean_correct`; where logits were read also `logits`, `margin` and
        `clean_margin`. `comparison.to_xarray().correct.mean("question")` is the accuracy of every variant, if all
        answers are known, and `ma.viz.sweep_map` draws it.
        """
        import xarray

        names = tuple(self.axes) or ("variant",)
        shape = tuple(map(len, self.axes.values())) or (len(self),)
        coords: dict[str, Sequence[Any]] = {
            name: [value if isinstance(value, (int, float, str)) else str(value) for value in values]
            for name, values in self.axes.items()
        }
        if not self.axes:
            coords["variant"] = [" + ".join(map(repr, variant)) or "clean" for variant in self.variants]
        coords["question"] = list(self.clean.ids)
        if self.clean.clips:
            coords["clip"] = ("question", list(self.clean.clips))  # type: ignore[assignment]
        held: dict[str, Any] = {"correct": ((*names, "question"), self.correct.reshape(*shape, -1))}
        held["clean_correct"] = ("question", self.clean.correct)
        if self.logits is not None:
            held["logits"] = ((*names, "question", "choice"), self.logits.reshape(*shape, *self.logits.shape[1:]))
            held["margin"] = ((*names, "question"), self.margin.reshape(*shape, -1))
            held["clean_margin"] = ("question", self.clean.margin)
        return xarray.Dataset(held, coords)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self)} variants with {self.clean!r}>"


def _margin(logits: Float[np.ndarray, "*variant question choice"] | None, asked: Evaluation) -> np.ndarray:
    if logits is None:
        raise ValueError("a margin is one of logits, and these answers were generated: use scoring='letter_logit'")
    return margin(logits, right_choices(asked.options, asked.answers), list(map(len, asked.options)))
