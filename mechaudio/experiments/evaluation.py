"""What comes of asking many questions: each answer, right or wrong, and the scores.

Conventions: accuracies are shares from 0 to 1; intervals are Wilson's at 95 %; an answer is the *text* of a choice, so
that of two choices of the same text either is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mechaudio.arguments import shown
from mechaudio.metrics.checked import same_length
from mechaudio.metrics.choices import margin, right_choices
from mechaudio.metrics.estimates import Proportion
from mechaudio.metrics.multiple_choice import (
    AnswerChange,
    RandomFixRate,
    accuracy,
    accuracy_by_group,
    answer_change,
    random_fix_rate,
)
from mechaudio.metrics.significance import proportion
from mechaudio.metrics.string_match import string_match
from mechaudio.results import Result, keep

if TYPE_CHECKING:
    import xarray

UNPARSED = -1
"""Stands for the choice where there is none: a text that names none or several, or logits that are not finite."""


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
        chosen: Which choice the model chose, `[question]`; -1 where that cannot be read.
        logits: Of each choice's letter, `[question, choice]`, NaN where a question has fewer choices; None where the
            answer was generated.
        texts: What the model wrote, where the answer was generated.
        interventions: What was changed while it answered.
        failures: Questions that could not be asked.
        scoring: `letter_logit` or `generate`.
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

    def __post_init__(self):
        super().__post_init__()
        texts = self.texts or self.ids
        same_length(
            ids=self.ids, tasks=self.tasks, options=self.options, answers=self.answers, chosen=self.chosen, texts=texts
        )
        n_options = np.array([len(options) for options in self.options], dtype=int)
        if ((self.chosen < UNPARSED) | (self.chosen >= n_options)).any():
            raise ValueError(f"chosen is the place of a choice, or {UNPARSED}; got {shown(self.chosen.tolist())}")

    @cached_property
    def choices(self) -> tuple[str | None, ...]:
        """What the model chose, None where that cannot be read."""
        pairs = zip(self.options, self.chosen.tolist(), strict=True)
        return tuple(None if place == UNPARSED else options[place] for options, place in pairs)

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
        """Logit of the right choice minus that of the best wrong one; NaN where the answer is not known.

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
        return accuracy(self.correct[self.scored])

    def by_task(self) -> dict[str, Proportion]:
        """The share of right answers of each task that is named, in the order in which the tasks first come."""
        tasks = np.array(self.tasks)
        named = self.scored & (tasks != "")
        return accuracy_by_group(self.correct[named], tasks[named]) if named.any() else {}

    @property
    def unparsed(self) -> Proportion:
        """The share of answers that name no choice, or several; they are wrong."""
        return proportion(int((self.chosen == UNPARSED).sum()), len(self.chosen))

    @property
    def string_match(self) -> Proportion | None:
        """The share of right answers by the words of generated texts, MMAU's rule (`mechaudio.metrics.string_match`).

        Right answers without a word, such as `+`, cannot be compared so and are left out. None where no text was
        generated, or no question is left.
        """
        asked = zip(self.texts, self.options, self.answers, strict=False)  # no texts: nothing to compare
        matched = [
            string_match(text, answer, options)
            for text, options, answer in asked
            if answer is not None and any(character.isalnum() or character == "_" for character in answer)
        ]
        return accuracy(matched) if matched else None

    def __repr__(self) -> str:
        score = f"accuracy {self.overall.value:.3f}, " if self.scored.any() else ""
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
        """Logit of the right choice minus that of the best wrong one; NaN where the answer is not known.

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
        return answer_change(self.clean.correct[known], self.correct[variant][known])

    @property
    def random_fix_rate(self) -> RandomFixRate:
        """The fix rate of one who answers at random, to hold the fix rates against.

        Raises:
            ValueError: If no answer is wrong without interventions.
        """
        known = self.clean.scored
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
    return margin(logits, right_choices(asked.options, asked.answers))
